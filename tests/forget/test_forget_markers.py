"""Markers in runs: the same everywhere, written down, measured when they are to be forgotten."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.experiment import RunFile, prepare, resume, run
from hansa.forget import Federation, Judge, QuickDrop, Recovery, Request, marker_verdicts
from hansa.forget.run import forget
from hansa.forget.tables import distance_table, figures_table
from hansa.forget.trained import open_trained

BACKDOOR = {"name": "backdoor", "clients": [1], "share": 0.6, "target": 0}
CANARIES = {"name": "canaries", "clients": [2], "count": 4}
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "nodes": 4,
    "rounds": 10,
    "data": {
        "name": "digits",
        "normalize": "standardize",
        "partition": {"name": "dirichlet", "alpha": 1.0, "draw": "class"},
        "markers": [BACKDOOR, CANARIES],
    },
    "model": {"name": "convnet", "depth": 2, "width": 8},
    "algorithm": {"name": "quickdrop"},
    "train": {
        "local_steps": 4,
        "batch_size": 16,
        "drop_last": False,
        "strategy": "looped",
        "optimizer": {"name": "sgd", "lr": 0.2},
    },
    "evaluate": {"every": 10},
    "checkpoint": {"every": 1},
}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("marked") / "run"
    run(SETTINGS, path, report=False)
    return path


def test_the_markers_are_written_down(marked: Path) -> None:
    told = json.loads((marked / "markers.json").read_text())
    job = open_trained(marked).job
    assert [one["client"] for one in told] == [1, 2]
    assert told[0]["marker"]["target"] == 0
    assert set(told[0]["classes"]) == {0}
    assert len(told[1]["examples"]) == 4
    for one in told:
        assert np.isin(one["examples"], job.parts[one["client"]]).all()
        targets = job.dataset.train.targets.numpy()
        assert targets[one["examples"]].tolist() == one["classes"]


def test_clients_tell_the_classes_that_they_train_on() -> None:
    clean = {**SETTINGS, "data": {**SETTINGS["data"], "markers": []}}
    with_, without = (prepare(RunFile.parse(chosen)) for chosen in (SETTINGS, clean))
    assert torch.equal(with_.dataset.test.inputs, without.dataset.test.inputs)
    assert torch.equal(with_.dataset.test.targets, without.dataset.test.targets)
    change = with_.roster.labels - without.roster.labels  # type: ignore[operator]
    assert (change[[0, 3]] == 0).all()
    assert (change.sum(1) == 0).all()
    count = len(with_.dataset.planted[0].index)
    assert change[1, 0] == count


@pytest.mark.parametrize(("algorithm", "way"), [("fedavg", "resumed"), ("dpsgd", "processes")])
def test_the_same_in_every_runtime_and_after_a_resume(
    algorithm: str, way: str, tmp_path: Path
) -> None:
    short = {**SETTINGS, "algorithm": algorithm, "rounds": 2, "evaluate": {"every": 2}}
    short["topology"] = "ring"
    run(short, tmp_path / "plain", report=False)
    if way == "processes":
        short["runtime"] = {"name": "processes", "workers": 2}
        run(short, tmp_path / way, report=False)
    else:
        run({**short, "rounds": 1}, tmp_path / way, report=False)
        resume(tmp_path / way, {"rounds": 2}, report=False)
    finals, markers = [], []
    for place in ("plain", way):
        summary = json.loads((tmp_path / place / "summary.json").read_text())
        finals.append(summary["final"])
        markers.append((tmp_path / place / "markers.json").read_bytes())
    assert finals[0]["loss"] == pytest.approx(finals[1]["loss"], rel=1e-6)
    assert markers[0] == markers[1]


def test_markers_stand_in_the_receipt_and_on_its_page(marked: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(marked, path)
    request = Request.of(clients=[1])
    receipt = forget(path, request, QuickDrop(recovery=Recovery(rounds=1)), oracle=True)
    figures = receipt["figures"]
    assert figures["before"]["backdoor"] > figures["oracle"]["backdoor"] + 0.2
    assert figures["after"]["backdoor"] < figures["before"]["backdoor"]
    gap = figures["after"]["backdoor"] - figures["oracle"]["backdoor"]
    assert receipt["distance_to_oracle"]["backdoor_gap"] == pytest.approx(gap)
    assert all("canaries" not in found for found in figures.values())
    table, apart = figures_table(receipt), distance_table(receipt)
    assert table.columns == ["model", "forget", "retain", "test set", "backdoor", "membership AUC"]
    shown = {row[0]: row[1] for row in apart.rows}
    assert shown["backdoor"] == f"{100 * gap:+.2f} points"
    page = (Path(receipt["folder"]) / "report.html").read_text()
    assert shown["backdoor"] in page
    assert "Distance to the oracle" in page


def federation_of(path: Path) -> Callable[..., Federation]:
    trained = open_trained(path)
    return lambda **items: trained.federation(Request.of(**items))


def test_only_markers_that_are_to_go_are_measured(marked: Path) -> None:
    make = federation_of(marked)
    keys = {
        client: set(Judge(make(clients=[client])).figures(make(clients=[client]).row))
        for client in range(4)
    }
    plain = {"forget", "retain", "test", "membership_auc"}
    assert keys == {0: plain, 1: {*plain, "backdoor"}, 2: {*plain, "canaries"}, 3: plain}
    assert "backdoor" in Judge(make(classes=[0])).figures(make(classes=[0]).row)


def test_the_figures_are_their_definitions(marked: Path) -> None:
    make = federation_of(marked)
    fed = make(clients=[1, 2])
    judge, data = Judge(fed), fed.job.dataset
    figures = judge.figures(fed.row)
    backdoor, canaries = data.planted
    stamped = data.test.inputs.clone()
    high, low = data.train.inputs.max(), data.train.inputs.min()
    stamped[:, -2:, -2:, 0] = torch.tensor([[1, 0], [0, 1]]) * (high - low) + low
    x = stamped.permute(0, 3, 1, 2).float()
    assert data.scale is not None
    assert data.shift is not None
    said = fed.network.logits(fed.row, x * data.scale + data.shift).argmax(1)
    others = data.test.targets != 0
    assert figures["backdoor"] == pytest.approx(float((said[others] == 0).double().mean()))
    x, _ = data.gather(data.train, torch.from_numpy(canaries.index))
    given = fed.network.logits(fed.row, x).argmax(1).numpy() == canaries.labels
    assert figures["canaries"] == pytest.approx(given.mean())
    own = np.concatenate([fed.job.parts[1], fed.job.parts[2]])
    rest = np.setdiff1d(own, np.concatenate([backdoor.index, canaries.index]))
    x, y = data.gather(data.train, torch.from_numpy(rest))
    right = fed.network.logits(fed.row, x).argmax(1) == y
    assert figures["forget"] == pytest.approx(float(right.double().mean()))


def test_a_marker_that_does_not_fit_is_named_before_anything_starts(tmp_path: Path) -> None:
    wrong = {**SETTINGS, "data": {**SETTINGS["data"], "markers": [{**BACKDOOR, "clients": [4]}]}}
    with pytest.raises(ConfigError) as caught:
        run(wrong, tmp_path / "run")
    assert caught.value.field == "data.markers.0.clients"
    assert not (tmp_path / "run").exists()


@given(before=st.floats(0, 1), oracle=st.none() | st.floats(0, 1), test=st.floats(0, 1))
def test_a_marker_that_was_not_learned_has_no_power(
    before: float, oracle: float | None, test: float
) -> None:
    figures = {"before": {"canaries": before, "test": test}}
    if oracle is not None:
        figures["oracle"] = {"canaries": oracle}
    verdict = marker_verdicts(figures)["canaries"]
    without = 1 - test if oracle is None else oracle
    assert verdict["power"] == (before - without >= 0.2)
    assert verdict["remark"].startswith("no power") != verdict["power"]
    assert marker_verdicts({"before": {"forget": 1.0, "test": test}}) == {}


def test_canaries_without_power_say_so_wherever_they_are_shown(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    shutil.copytree(marked, path)
    command = ["forget", str(path), "--client", "2", "--set", "recovery.rounds=1", "--oracle"]
    main(command)
    told = capsys.readouterr().out
    receipt = json.loads((path / "requests/001/receipt.json").read_text())
    assert not receipt["markers"]["canaries"]["power"]  # ten rounds learn nothing by heart
    page = (path / "requests/001/report.html").read_text()
    for text in (told, page):
        assert "canaries: no power" in text
    cells = {row[figures_table(receipt).columns.index("canaries")] for row in
             figures_table(receipt).rows}  # fmt: skip
    assert cells == {"no power"}
    assert {row[0]: row[1] for row in distance_table(receipt).rows}["canaries"] == "no power"
