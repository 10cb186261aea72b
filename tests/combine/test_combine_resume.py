"""An interrupted ensemble goes on and ends as if it had not been interrupted."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hansa.base.errors import CheckpointError, ConfigError
from hansa.cli import main
from hansa.combine.ensemble import members, pipeline
from hansa.combine.ensemble.baselines.averaging import FedAvgRounds
from hansa.combine.ensemble.judging import Judging
from hansa.combine.ensemble.run import ensemble, remove, resume
from hansa.engine import Collector
from hansa.report import RunFolder

from .conftest import QUICK

GIVEN: dict[str, Any] = QUICK | {
    "clients": 5,
    "models": [{"name": "mlp", "hidden": [16]}, "logistic"],
    "predictors": [{"path": "sklearn.naive_bayes:GaussianNB"}],
    "rules": ["average", "voting", "per_class", "residual"],
    "aggregate": {"rounds": 10, "every": 5, "folds": 2},
    "baselines": {"methods": ["fedavg_once", "fedavg"], "rounds": 2, "once": [1]},
}


def table(folder: RunFolder) -> Any:
    """All that is said of the run but its seconds."""
    found = json.loads((folder.path / "table.json").read_text())
    for row in found["rows"]:
        row.pop("seconds", None)
    return found


def ensemble_files(folder: RunFolder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder.path / "ensemble").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return ensemble(GIVEN, tmp_path_factory.mktemp("whole") / "run", report=False)


class Once:
    """Lets a function through a few times, then interrupts."""

    def __init__(self, inner: Any, times: int) -> None:
        self.inner, self.times = inner, times

    def __call__(self, *given: Any, **more: Any) -> Any:
        if self.times == 0:
            raise KeyboardInterrupt
        self.times -= 1
        return self.inner(*given, **more)


PLACES = {
    "between groups of phase 1": (members, "_trained", 1),
    "after phase 1": (pipeline, "score", 0),
    "after two rules": (pipeline, "fit", 2),
    "while a rule is fitted out of fold": (pipeline, "out_of_fold", 1),
    "before rules are judged": (pipeline, "judge", 0),
    "while rules are judged": (Judging, "_told", 2),
    "after a baseline": (FedAvgRounds, "run", 0),
}


@pytest.mark.parametrize("where", PLACES)
def test_it_ends_as_if_it_had_not_been_interrupted(
    where: str, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, name, times = PLACES[where]
    plain = getattr(room, name)
    with monkeypatch.context() as patch:
        guard = Once(plain, times)
        patch.setattr(room, name, lambda *given, **more: guard(*given, **more))
        with pytest.raises(KeyboardInterrupt):
            ensemble(GIVEN, tmp_path / "run", report=False)
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.summary or {})["status"] == "interrupted"
    assert not (folder.path / "table.json").exists()
    if where == "after two rules":  # as after kill -9: no summary, and a file half-written
        (folder.path / "summary.json").unlink()
        (folder.path / "finished" / ".scores.json.x.part").write_text("{")
    if where != "between groups of phase 1":  # nothing is trained twice
        monkeypatch.setattr(members, "_trained", None)
        monkeypatch.setattr(members, "_fitted", None)
    found = resume(folder.path, report=False)
    assert table(found) == table(whole)
    assert ensemble_files(found) == ensemble_files(whole)
    assert (found.summary or {})["status"] == "finished"
    ours, theirs = found.metrics(), whole.metrics()
    assert ours.drop("time").equals(theirs.drop("time"))
    assert not (found.path / "finished").exists()
    with pytest.raises(ConfigError, match="has finished"):
        resume(found.path)


def test_a_removal_goes_on_without_training(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = remove(whole.path, 1, tmp_path / "plain", report=False)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", Once(pipeline.fit, 1))
        with pytest.raises(KeyboardInterrupt):
            remove(whole.path, 1, tmp_path / "less", report=False)
    monkeypatch.setattr(members, "_trained", None)
    (tmp_path / "less" / "finished" / "member_03.json").unlink()  # as if killed still earlier
    found = resume(tmp_path / "less", report=False)
    assert table(found) == table(plain)
    said = [json.loads((f.path / "removal.json").read_text()) for f in (found, plain)]
    assert said[0] == said[1]


def test_what_cannot_go_on_is_explained(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", Once(pipeline.fit, 1))
        with pytest.raises(KeyboardInterrupt):
            ensemble(GIVEN, tmp_path / "run", report=False)
    with pytest.raises(ConfigError, match="cannot change") as caught:
        resume(tmp_path / "run", {"seed": 3})
    assert caught.value.field == "seed"
    file = tmp_path / "run" / "finished" / "rule_average.safetensors"
    kept = file.read_bytes()
    file.write_bytes(kept[:-1])
    with pytest.raises(CheckpointError, match="corrupt"):
        resume(tmp_path / "run", report=False)
    file.write_bytes(kept)
    assert table(resume(tmp_path / "run", report=False)) == table(whole)
    with pytest.raises(CheckpointError, match="not the folder of a run of hansa combine ensemble"):
        resume(tmp_path / "run" / "rule_per_class")
    with pytest.raises(CheckpointError, match="no such run folder"):
        resume(tmp_path / "none")


def test_the_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(GIVEN | {"baselines": {}}))
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", Once(pipeline.fit, 1))
        assert main(["combine", "ensemble", "file.yaml", "--out", "run", "--no-report"]) == 130
    assert "to go on: hansa combine ensemble --resume run" in capsys.readouterr().err
    wrong = ["combine", "ensemble", "file.yaml", "--resume", "run"]
    assert main(wrong) == 2
    assert "takes no FILE" in capsys.readouterr().err
    changed = ["combine", "ensemble", "--resume", "run", "--set", "clients=3"]
    assert main(changed) == 2
    assert "cannot change" in capsys.readouterr().err
    assert main(["combine", "ensemble", "--resume", "run", "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "finished"
    assert main(["combine", "ensemble", "--resume", "run"]) == 2
    assert "has finished" in capsys.readouterr().err


def test_training_goes_on_where_it_was_interrupted(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the first epoch of the members that were being trained."""
    done: list[int] = []
    add = Collector.add

    def interrupted(self: Collector, report: Any) -> None:
        add(self, report)
        done.append(report["round"])
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Collector, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensemble(GIVEN, tmp_path / "run", report=False)
    found = resume(tmp_path / "run", report=False)
    assert done[:3] == [1, 2, 3]
    assert table(found) == table(whole)
    assert ensemble_files(found) == ensemble_files(whole)


def test_an_ensemble_is_not_resumed_with_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{k % 7},{k % 5},{k % 2}" for k in range(120)]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    given = GIVEN | {"data": {"name": "file", "path": str(tmp_path / "x.csv")}, "clients": 2}
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "score", Once(None, 0))
        with pytest.raises(KeyboardInterrupt):
            ensemble(given, tmp_path / "run", report=False)
    rows[0] = "6,4,1"
    (tmp_path / "x.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    with pytest.raises(ConfigError, match="not the data that the run was begun with") as caught:
        resume(tmp_path / "run", report=False)
    assert caught.value.field == "data.path"
