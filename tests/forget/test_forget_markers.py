"""Markers in runs: the same everywhere, written down, measured when they are to be forgotten."""

import json
import shutil
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
from hansa.forget.classifier import Classifier
from hansa.forget.federation import Asking
from hansa.forget.own_figures import wins
from hansa.forget.playing import tried
from hansa.forget.run import forget
from hansa.forget.tables import distance_table, figures_table
from hansa.forget.trained import Trained, open_trained

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


def figures_of(trained: Trained, **items: Any) -> dict[str, float]:
    """The figures of the run's own model on a request."""

    def program(federation: Federation) -> Asking[dict[str, float]]:
        judge = yield from Judge.of(federation)
        return (yield from judge.figures(federation.row))

    return tried(trained.case(Request.of(**items)), program)


def test_only_markers_that_are_to_go_are_measured(marked: Path) -> None:
    trained = open_trained(marked)
    keys = {client: set(figures_of(trained, clients=[client])) for client in range(4)}
    plain = {"forget", "retain", "test", "membership_auc"}
    assert keys == {0: plain, 1: {*plain, "backdoor"}, 2: {*plain, "canaries"}, 3: plain}
    assert "backdoor" in figures_of(trained, classes=[0])


def test_the_figures_are_their_definitions(marked: Path) -> None:
    trained = open_trained(marked)
    data, parts, row = trained.job.dataset, trained.job.parts, trained.row
    network, figures = Classifier(trained.job.module), figures_of(trained, clients=[1, 2])
    backdoor, canaries = data.planted
    stamped = data.test.inputs.clone()
    high, low = data.train.inputs.max(), data.train.inputs.min()
    stamped[:, -2:, -2:, 0] = torch.tensor([[1, 0], [0, 1]]) * (high - low) + low
    x = stamped.permute(0, 3, 1, 2).float()
    assert data.scale is not None
    assert data.shift is not None
    said = network.logits(row, x * data.scale + data.shift).argmax(1)
    others = data.test.targets != 0
    assert figures["backdoor"] == pytest.approx(float((said[others] == 0).double().mean()))
    x, _ = data.gather(data.train, torch.from_numpy(canaries.index))
    assert (
        figures["canaries"] == (network.logits(row, x).argmax(1).numpy() == canaries.labels).mean()
    )
    spoiled = np.concatenate([backdoor.index, canaries.index])
    for part, own in (("forget", [1, 2]), ("retain", [0, 3])):
        rest = np.setdiff1d(np.concatenate([parts[client] for client in own]), spoiled)
        x, y = data.gather(data.train, torch.from_numpy(rest))
        scores = network.logits(row, x)
        assert figures[part] == float((scores.argmax(1) == y).double().mean())
        if part == "forget":
            members, at = losses_of(scores, y), np.isin(data.test.targets, y.unique())
    x, y = data.gather(data.test, torch.from_numpy(np.flatnonzero(at)))
    strangers = losses_of(network.logits(row, x), y)
    lower = members[:, None] < strangers
    ties = members[:, None] == strangers
    assert figures["membership_auc"] == pytest.approx((lower + ties / 2).mean(), abs=1e-12)


def losses_of(scores: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.cross_entropy(scores, y, reduction="none").double().numpy()


@given(
    members=st.lists(st.integers(0, 5) | st.just(float("nan")), min_size=1, max_size=12),
    strangers=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    cut=st.integers(0, 12),
)
def test_the_pairs_that_clients_win_add_up(members, strangers, cut: int) -> None:
    losses, others = np.array(members, float), np.sort(np.array(strangers, float))
    whole = wins(losses, others)
    assert whole == wins(losses[:cut], others) + wins(losses[cut:], others)
    assert whole == sum(2 * (m < s) + (m == s) for m in losses for s in others)


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
