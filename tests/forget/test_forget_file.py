"""Files of ``hansa forget``: a run that learns and forgets, alone and in a sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hansa.base.errors import ConfigError, RunError
from hansa.cli import main
from hansa.experiment.sweep.sweep_file import with_options
from hansa.experiment.sweep.sweeping import How, as_sweep, sweep
from hansa.forget import forget_run
from hansa.forget.forget_file import ForgetFile
from hansa.forget.forget_run import begin, check, resume
from hansa.forget.request import Request
from hansa.forget.run import forget
from hansa.report import RunFolder
from hansa.report.folder import held

from ..toy.runs_here import RunsHere
from .conftest import SETTINGS

QUIET = How(quiet=True, jobs=1, places=RunsHere)
SMALL = {**SETTINGS, "rounds": 2, "evaluate": {"every": 2}, "checkpoint": {"every": 2}}
PLAIN = {
    **SMALL,
    "algorithm": "fedavg",
    "model": {"name": "mlp", "hidden": [8]},
    "nodes": 3,
    "topology": "complete",
    "train": {"local_steps": 1, "batch_size": 16, "drop_last": False},
}
LONE = {**PLAIN, "nodes": 4, "algorithm": {"name": "cpfl", "cohorts": 2, "merge": "none"}}
LONE["evaluate"] = {"every": 2, "local_validation": 0.2}
ODD = {
    "run": {**PLAIN, "train": {"local_steps": 1, "batch_size": 64, "drop_last": True}},
    "classes": list(range(9)),
    "method": "sga",
}


def settings(run: Any, **more: Any) -> dict[str, Any]:
    return {"verb": "forget", "run": run, "classes": 3, **more}


def test_a_copy_forgets_as_the_run_would_have(folder: Path, tmp_path: Path) -> None:
    before = (folder / "summary.json").read_bytes()
    out = tmp_path / "a run"
    file = tmp_path / "forget.yaml"
    file.write_text(yaml.safe_dump(settings(str(folder), method="sga")))
    assert main(["forget", str(file), "--out", str(out), "--no-report"]) in (0, 1)
    assert not (folder / "requests").exists()
    assert (folder / "summary.json").read_bytes() == before
    from hansa.forget import GradientAscent

    alone = forget(folder, Request.of([3]), GradientAscent())
    made = RunFolder.open(out)
    assert made.config["seed"] == SETTINGS["seed"]
    assert made.summary is not None
    assert made.summary["final"] == json.loads(json.dumps(alone["figures"]["after"]))
    assert json.loads((out / "receipt.json").read_bytes())["model_after"] == alone["model_after"]
    assert main(["report", str(out)]) == 0
    assert "Forget" in (out / "report.html").read_text()


def test_what_is_swept_is_a_line_a_method(folder: Path, tmp_path: Path) -> None:
    whole = with_options(
        as_sweep(settings(str(folder))), ["method=sga,quickdrop_originals", "classes=[[3],[4]]"]
    )
    swept = sweep(whole, tmp_path / "out", how=QUIET)
    table = {row["setting"]: row for row in swept.table()}
    assert len(table) == 4
    for row in table.values():
        assert row["metric"] == "right of what remains"
        assert {"right of what went", "goal reached", "membership AUC", "total_bytes"} <= set(
            row["metrics"]
        )


def test_an_interrupted_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once between training and forgetting, once after forgetting."""
    whole = settings(PLAIN, method={"name": "retrain"}, clients=[0], classes=[])
    served, calls = forget_run.forget, []

    def killed(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RunError("the machine is gone")
        made = served(*given, **named)
        raise RunError(f"and again, after {made['status']}")

    monkeypatch.setattr(forget_run, "forget", killed)
    with pytest.raises(RunError, match="gone"):
        begin(whole, tmp_path / "out", report=False)
    rounds = RunFolder.open(tmp_path / "out/trained").events()
    with pytest.raises(RunError, match="again, after done"):
        resume(tmp_path / "out", report=False)
    assert [e["kind"] for e in RunFolder.open(tmp_path / "out/trained").events()][
        : len(rounds)
    ] == [e["kind"] for e in rounds]  # it is not trained anew
    folder = resume(tmp_path / "out", report=False)  # nor asked a third time
    assert len(calls) == 2
    assert folder.summary is not None
    assert folder.summary["status"] == "finished"
    assert folder.summary["goal"] == "done"


def test_training_that_was_killed_before_it_was_a_run_begins_anew(tmp_path: Path) -> None:
    whole = settings(PLAIN, method="retrain", clients=[0], classes=[])
    first = begin(whole, tmp_path / "out", report=False)
    before = first.summary
    (first.path / "summary.json").unlink()
    shutil.rmtree(first.path / "trained")
    (first.path / "trained").mkdir()
    again = resume(first.path, report=False)
    assert before is not None
    assert again.summary is not None
    assert again.summary["final"] == before["final"]


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"classes": []}, "classes", "nothing is named"),
        ({"classes": "lion"}, "classes", "no such class"),
        ({"classes": 12}, "class", "no such class"),
        ({"clients": 9}, "client", "no such client"),
        ({"method": "federaser", "classes": [], "clients": [1]}, "method", "kept none"),
        ({"method": "quikdrop"}, "method.name", "no such forgetting"),
        ({"method": {"name": "sga", "rats": 1}}, "method.rats", "no such setting"),
        ({"method": "quickdrop"}, "method", "synthetic images"),
        ({"run": {**PLAIN, "rouns": 3}}, "run.rouns", "no such setting"),
        ({"run": {**PLAIN, "verb": "audit"}}, "run.verb", "no training"),
        ({"run": {**PLAIN, "algorithm": "dpsgd"}}, "run.algorithm", "no server"),
        ({"run": "nowhere.yaml"}, "run.file", "no such file"),
        ({"metrics": "acuracy"}, "metrics", "no such metric"),
        ({"metrics": "rmse"}, "metrics", "regression"),
        ({"run": {**PLAIN, "checkpoint": {"every": 0}}}, "run.checkpoint.every", "keeps no state"),
        ({"run": LONE}, "run.algorithm.merge", "none of them all"),
        ({**ODD, "oracle": True}, "method", "one batch"),
    ],
)
def test_what_cannot_work_is_told_before_training(
    changes: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        check(ForgetFile.parse({**settings(PLAIN), **changes}))
    assert caught.value.field.startswith(field)
    assert "--" not in str(caught.value)


def test_a_run_that_is_trained_has_its_own_seed(folder: Path) -> None:
    with pytest.raises(ConfigError, match="trained") as caught:
        ForgetFile.parse(settings(str(folder), seed=99))
    assert caught.value.field == "seed"


def test_a_run_that_another_process_changes_is_left_alone(folder: Path) -> None:
    part = folder / "requests/.part-001"
    part.mkdir(parents=True)
    chosen = ForgetFile.parse(settings(str(folder), method="sga"))
    check(chosen)
    assert part.is_dir()
    with held(folder), pytest.raises(ConfigError, match="another process"):
        check(chosen)


def test_an_example_with_changes() -> None:
    given = {"name": "digits_quickdrop", "rounds": 3, "algorithm": {"name": "fedavg"}, "seed": 5}
    chosen = ForgetFile.parse(settings(given))
    assert isinstance(chosen.run, dict)
    assert chosen.seed == 5
    assert chosen.run["rounds"] == 3
    assert chosen.run["algorithm"] == {"name": "fedavg"}
    assert chosen.run["data"]["normalize"] == "standardize"
    assert ForgetFile.parse(chosen.dump()) == chosen
