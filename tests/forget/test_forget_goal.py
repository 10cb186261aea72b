"""Forgetting that forgets, or says that it did not: own tables, few classes and many."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.experiment import run
from hansa.forget import (
    Ascent,
    Federation,
    Forgetting,
    GradientAscent,
    QuickDrop,
    Recovery,
    Request,
    Retrain,
)
from hansa.forget.federation import Asking
from hansa.forget.party import Party
from hansa.forget.playing import tried
from hansa.forget.run import forget, relearn
from hansa.forget.trained import open_trained
from hansa.forget.verdict import Verdict, judge_outcome

NET = """
from torch import nn
class Plain(nn.Sequential):
    def __init__(self, classes, norm=False):
        middle = [nn.BatchNorm1d(24), nn.Dropout(0.2)] if norm else []
        super().__init__(nn.Linear(6, 24), *middle, nn.ReLU(), nn.Linear(24, classes))
"""
WEAK = Ascent(max_rounds=1)
NOTHING = QuickDrop(ascent=WEAK, recovery=Recovery(rounds=1, steps=1, lr=1e-4, rechecks=0))


def train(folder: Path, classes: int, *, norm: bool = False, **changes: Any) -> Path:
    """A run on a table whose sites hold few classes each, site 0 alone the first one."""
    random, rows = np.random.default_rng(classes), 60 * max(classes, 6)
    label = random.integers(0, classes, rows)
    spread = 3 if classes == 2 else 2  # sites that hold a class
    site = np.where(label == 0, 0, 1 + (label + random.integers(0, spread, rows)) % 3)
    centres = random.normal(0, 2.0, (classes, 6))
    x = (centres[label] + random.normal(0, 1.0, (rows, 6))) * np.array([1, 5, 10, 20, 30, 50])
    lines = ["a,b,c,d,e,f,site,kind"]
    lines += [",".join([*(f"{v:.4f}" for v in row), f"s{s}", f"k{k:02d}"])
              for row, s, k in zip(x, site, label, strict=True)]  # fmt: skip
    folder.mkdir()
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    (folder / "net.py").write_text(NET)
    data = {"name": "file", "path": str(folder / "table.csv"), "label": "kind", "group": "site"}
    settings: dict[str, Any] = {
        "nodes": 4,
        "rounds": 12,
        "data": {**data, "normalize": "standardize", "partition": {"name": "natural"}},
        "model": {
            "name": "module",
            "path": f"{folder / 'net.py'}:Plain",
            "arguments": {"classes": classes, "norm": norm},
        },
        "algorithm": "quickdrop",
        "train": {"local_steps": 5, "batch_size": 32, "drop_last": False,
                  "optimizer": {"name": "sgd", "lr": 0.1}},
        "evaluate": {"every": 12},
        "checkpoint": {"every": 12},
    }  # fmt: skip
    run(settings | changes, folder / "run", report=False)
    return folder / "run"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    place, known = tmp_path_factory.mktemp("tables"), {}

    def make(classes: int) -> Path:
        if classes not in known:
            known[classes] = train(place / str(classes), classes)
        return known[classes]

    return make


@pytest.fixture
def table(tables: Callable[[int], Path], tmp_path: Path) -> Path:
    """A run of four classes of one's own."""
    shutil.copytree(tables(4), tmp_path / "run")
    return tmp_path / "run"


def outcome_of(method: Forgetting, **how: Any) -> Callable[[Federation], Asking[Verdict]]:
    """A method, and what is missing of its goal."""

    def program(federation: Federation) -> Asking[Verdict]:
        row, _ = yield from method.forget(federation)
        return (yield from judge_outcome(federation, row, **how))

    return program


@pytest.mark.parametrize("classes", [2, 4, 21])
@pytest.mark.parametrize("method", [QuickDrop(), GradientAscent()], ids=["quickdrop", "sga"])
def test_every_class_is_forgotten(tables, classes: int, method) -> None:
    trained = open_trained(tables(classes))
    items = range(classes) if classes < 5 else range(0, classes, 7)
    for label in items:
        verdict = tried(trained.case(Request.of(classes=[label])), outcome_of(method))
        assert verdict.status == "done", verdict.missing
        (found,) = verdict.goal["class"].values()
        assert found["right"] <= 1 / classes


def test_what_went_before_must_not_have_come_back(tables, tmp_path: Path) -> None:
    trained = open_trained(tables(4))
    case = trained.case(Request.of(classes=[1]))
    first = Request.of(classes=[0])  # which this model still knows
    assert tried(case, outcome_of(QuickDrop())).status == "done"
    verdict = tried(case, outcome_of(QuickDrop(), names=("zero", "one"), served=first))
    assert verdict.status == "incomplete"
    assert "of class zero, which was forgotten before, are right again" in verdict.missing[0]
    assert verdict.goal["past"]["zero"]["right"] > verdict.goal["past"]["zero"]["at_most"] == 0.25
    oracle = Retrain().train_again(replace(case, past=first), tmp_path).row
    judged = partial(judge_outcome, after=oracle, oracle=oracle, served=first)
    assert tried(case, judged).status == "done"


def test_originals_that_are_gone_need_not_be_looked_at(tables, monkeypatch) -> None:
    def gone(*_: Any) -> None:
        raise AssertionError("an original was asked for")

    trained = open_trained(tables(4))
    for label in range(4):
        case = trained.case(Request.of(classes=[label]))
        with monkeypatch.context() as patch:
            patch.setattr(Party, "_real", gone)
            method = QuickDrop(ascent=Ascent(judge="synthetic"))
            row, _ = tried(case, method.forget)
        assert tried(case, partial(judge_outcome, after=row)).status == "done"


@pytest.mark.slow
def test_statistics_and_dropout_do_not_stand_in_the_way(tmp_path: Path) -> None:
    path = train(tmp_path / "norm", 4, norm=True, algorithm="fedavg")
    trained = open_trained(path)
    for label in range(4):
        case = trained.case(Request.of(classes=[label]))
        rows = [tried(case, GradientAscent().forget)[0] for _ in range(2)]
        assert (rows[0] == rows[1]).all()
        assert tried(case, partial(judge_outcome, after=rows[0])).status == "done"


def test_what_is_not_forgotten_is_incomplete_and_destroys_nothing(table: Path, images_of) -> None:
    one = Request.of(classes=[1])
    before = {p: p.read_bytes() for p in (table / "checkpoints").rglob("*") if p.is_file()}
    images = images_of(table)
    receipt = forget(table, one, NOTHING)
    assert receipt["status"] == "incomplete"
    assert receipt["figures"]["after"]["forget"] > 1 / 4
    assert "of class k01 are still right, more than 25.0 %" in receipt["missing"][0]
    assert before == {p: p.read_bytes() for p in before}
    trained = open_trained(table)
    assert images
    assert all((images_of(table)[c] == row).all() for c, row in images.items())
    assert trained.requests.open == one
    assert not trained.requests.served
    # Other requests do not use it, and the first one goes on from there.
    assert not trained.case(Request.of(classes=[2])).past - one
    forget(table, Request.of(classes=[2]))
    again = forget(table, one)
    assert again["status"] == "done"
    assert again["number"] == 3
    trained = open_trained(table)
    assert trained.requests.served == Request.of(classes=[1, 2])
    assert not list((table / "checkpoints").glob("round-*"))
    assert not (table / "requests/001/state").exists()


def test_another_method_may_always_be_asked(table: Path) -> None:
    one = Request.of(classes=[1])
    assert forget(table, one, NOTHING)["status"] == "incomplete"
    assert forget(table, one)["status"] == "done"
    assert forget(table, one)["repeated"]
    exact = forget(table, one, Retrain())
    assert exact["number"] == 3
    assert exact["figures"]["after"]["forget"] == 0
    assert forget(table, one)["number"] == 3  # served, whoever did it
    trained = open_trained(table)
    assert trained.requests.past == one


def test_what_is_incomplete_can_be_taken_back(table: Path) -> None:
    one = Request.of(classes=[1])
    forget(table, one, NOTHING)
    relearn(table, one)
    assert not open_trained(table).requests.past


def test_a_class_that_the_oracle_knows_as_well_is_done(table: Path) -> None:
    trained = open_trained(table)
    case, row = trained.case(Request.of(classes=[1])), trained.row

    def status(after: torch.Tensor, **how: Any) -> str:
        return tried(case, partial(judge_outcome, after=after, **how)).status

    assert status(row) == "incomplete"
    assert status(row, oracle=row) == "done"
    assert status(row, exact=True) == "done"
    assert status(row * float("nan")) == "incomplete"


def test_clients_are_held_to_the_oracle_where_there_is_one(table: Path, tmp_path: Path) -> None:
    trained = open_trained(table)
    case, row = trained.case(Request.of(clients=[0])), trained.row
    oracle = Retrain().train_again(case, tmp_path / "oracle").row
    kept = tried(case, partial(judge_outcome, after=row, oracle=oracle))
    assert kept.status == "incomplete"  # it alone holds the first class
    assert tried(case, partial(judge_outcome, after=row)).status == "incomplete"
    assert tried(case, partial(judge_outcome, after=oracle, oracle=oracle)).status == "done"


def test_the_command_says_so(table: Path, capsys) -> None:
    words = ["forget", str(table), "--class", "k01"]
    weak = ["--set", "ascent.max_rounds=1", "--set", "recovery.rechecks=0"]
    weak += ["--set", "recovery.rounds=1", "--set", "recovery.lr=0.0001"]
    assert main([*words, *weak, "--json"]) == 1
    out = capsys.readouterr().out
    (line,) = out.strip().splitlines()
    answer = json.loads(line)
    assert answer["status"] == "incomplete"
    assert answer["figures"]["after"]["forget"] > 0.25
    assert 0 <= answer["figures"]["after"]["retain"] <= 1
    assert main([*words, *weak]) == 1
    out = capsys.readouterr().out
    assert "incomplete: " in out
    assert "kept, as the goal is not reached" in out
    page = (table / "requests/002/report.html").read_text()
    assert '<span class="status incomplete">' in page
    assert "class k01</td>" in page
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "done"
    assert main([*words, "--method", "retrain"]) == 0
    assert "retrain: class k01" in capsys.readouterr().out
    assert main([*words, "--method", "quickdrop", "--set", "recovery.rounds=3"]) == 2
    assert "were destroyed" in capsys.readouterr().err
    assert main(["forget", str(table), "--history", "--json"]) == 0
    history = json.loads(capsys.readouterr().out)
    statuses = [receipt["status"] for receipt in history["requests"]]
    assert statuses == ["incomplete", "incomplete", "done", "done"]
    assert history["forgotten"] == {"classes": [1]}
    assert history["incomplete"] == {}


def test_what_is_missing_of_a_client_is_the_class_that_is_too_well_known(table: Path) -> None:
    trained = open_trained(table)
    row, _ = tried(trained.case(Request.of(classes=[1])), GradientAscent().forget)
    judged = partial(judge_outcome, after=row, names=("k00", "k01", "k02", "k03"))
    verdict = tried(trained.case(Request.of(classes=[1], clients=[0])), judged)
    told = verdict.goal["client"]
    assert told["loss"] > told["foretold"]  # by the class that went
    (missing,) = verdict.missing
    assert "the loss on class k0" in missing
    assert "of client 0 is" in missing
    loss, foretold = (float(word) for word in re.findall(r"\d\.\d{3}", missing))
    assert loss < foretold


def test_an_oracle_that_cannot_be_trained_is_told_before_the_work(tmp_path: Path) -> None:
    path = train(tmp_path / "norm", 4, norm=True, algorithm="fedavg",
                 train={"local_epochs": 1, "batch_size": 16, "drop_last": False})  # fmt: skip
    trained = open_trained(path)
    targets = trained.job.dataset.train.targets.numpy()
    # Leave somebody with one example more than whole batches: BatchNorm has no answer to that.
    part = np.asarray(trained.job.parts[1])
    going = part[: (len(part) - 1) % 16]
    assert len(targets[part]) > len(going)
    request = Request.of(samples=going.tolist())
    before = sorted(path.rglob("*"))
    for method, oracle in ((GradientAscent(), True), (Retrain(), False)):
        with pytest.raises(ConfigError) as refused:
            forget(path, request, method, oracle)
        assert refused.value.field == "method"
        assert "a batch of one example" in refused.value.problem
        assert "--method sga" in refused.value.fix
    assert sorted(path.rglob("*")) == before
