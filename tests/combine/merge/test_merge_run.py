"""``hansa combine merge`` from end to end: a run, its table, its cuts, an interrupt, a refusal."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import CheckpointError, ConfigError
from hansa.cli import main
from hansa.combine.merge import size_points
from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.run import merge, resume
from hansa.data.views import INPUT_VIEWS, VIEWS
from hansa.experiment.settings_file import kind_of, read_settings_file
from hansa.report import RunFolder
from hansa.report.writing import write_report

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits_merge.yaml"
SMALL = {
    "seed": 3,
    "tasks": {
        "name": "digits_views", "views": ["mirror", "permuted", "roll"], "train": 400,
        "pretrain_epochs": 6, "epochs": 5, "batch_size": 32,
    },
    "algorithms": ["averaging", {"name": "ties", "density": 0.3}, "emr"],
    "sizes": [1, 2, 3],
    "least_gain": 0,
}  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    capsys.readouterr()
    status = main([*map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Three views of digits, merged by three algorithms."""
    return merge(SMALL, tmp_path_factory.mktemp("merge") / "run")


def figures(folder: RunFolder) -> list[dict]:
    curve = (folder.summary or {})["final"]["curve"]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in curve]


def test_a_task_of_its_own_view_or_classes_is_asked_as_such(run_folder: RunFolder) -> None:
    for task in run_folder.config["tasks"]["views"]:
        said = run_folder.predict(np.zeros((2, 8, 8, 1), dtype=np.float32), task=task)
        assert any(f"the view {task!r}" in line for line in said.remarks) == (task in INPUT_VIEWS)
        classes = int(VIEWS[task](torch.zeros(10, 1, 8, 8), torch.arange(10))[1].max()) + 1
        assert len(said.rows[0]["probabilities"]) == classes


def test_the_curve_has_its_rows(run_folder: RunFolder) -> None:
    summary = run_folder.summary or {}
    assert (summary["verb"], summary["status"], summary["models"]) == ("merge", "finished", 3)
    assert summary["model_bytes"] == 4 * 26_432
    assert summary["uploaded_bytes"] == 3 * 4 * 26_432
    curve = summary["final"]["curve"]
    sizes: dict[str, list[float]] = {}
    for row in curve:
        sizes.setdefault(row["algorithm"], []).append(row["size"])
        assert row["payload"] <= row["size"] * summary["model_bytes"] + 1
        assert row["payload"] < row["bytes"]
        assert row["worst"] <= row["normalised"]
        assert row["accuracy"] == pytest.approx(sum(row["by_task"].values()) / 3)
        assert sum(row["ledger"].values()) == row["payload"]
        if row["size"] == 3:  # nothing is merged, so nothing is lost
            assert (row["normalised"], row["loss"]) == (1.0, 0.0)
    assert sizes["averaging"] == sizes["ties"] == [1.0, 2.0, 3.0]
    least, whole = sizes["emr"]  # 2 + 3/32 models, and scalers
    assert 2.09 < least < 2.12
    assert whole == 3.0
    assert [row.get("least") for row in curve if row["algorithm"] == "emr"] == [True, None]
    ends = summary["final"]["references"]
    assert ends["zero_shot"]["accuracy"] < ends["fine_tuned"]["accuracy"]
    assert ends["fine_tuned"]["by_task"] == curve[2]["by_task"]
    assert not (run_folder.path / "cuts").exists()


def test_the_same_file_gives_the_same_curve_elsewhere(
    run_folder: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(run_folder.path / "models", tmp_path / "run-models")
    again = merge(
        {**run_folder.config, "algorithms": ["averaging"]}, tmp_path / "run", report=False
    )
    assert figures(again) == figures(run_folder)[:3]


def test_an_interrupted_run_goes_on_and_measures_nothing_anew(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, done = size_points.cut, []

    def interrupted(*arguments, **more):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(arguments[1])
        return cut(*arguments, **more)

    monkeypatch.setattr(size_points, "cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge(SMALL, tmp_path / "run", report=False)
    half = RunFolder.open(tmp_path / "run")
    assert (half.summary or {})["status"] == "interrupted"
    assert len((half.summary or {})["final"]["curve"]) == 4
    write_report(half)  # a page of what there is
    assert not list((half.path / "cuts").iterdir())
    (half.path / "measured" / "leftover.part").write_text("")
    again: list[str] = []
    monkeypatch.setattr(size_points, "cut", lambda *a, **m: again.append(a[1]) or cut(*a, **m))
    said: list[str] = []
    whole = resume(half.path, say=said.append, report=False)
    assert again == ["ties", "ties", "emr", "emr"][-(8 - 4) :]
    assert not any("fine-tuning" in text for text in said)
    assert figures(whole) == figures(run_folder)
    with pytest.raises(ConfigError, match="has finished"):
        resume(half.path)


@pytest.mark.slow  # test_merge_kill.py kills it at each stage
def test_a_run_that_is_killed_goes_on(run_folder: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps({"verb": "merge", **SMALL}))
    words = [sys.executable, "-m", "hansa.cli", "combine", "merge"]
    place = tmp_path / "run"
    started = subprocess.Popen([*words, str(file), "--out", str(place), "-q"])
    while not (place / "models" / "mirror" / "model.safetensors").exists():
        assert started.poll() is None
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    done = subprocess.run(
        [*words, "--resume", str(place), "--json", "-q", "--no-report"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    curve = json.loads(done.stdout)["final"]["curve"]
    wanted = figures(run_folder)
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in curve] == wanted


def test_sizes_are_cut_without_the_models(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "artefact"
    shutil.copytree(run_folder.path / "artefact", alone)
    rows = {(r["algorithm"], r["size"]): r for r in figures(run_folder)}
    for place in (run_folder.path, run_folder.path / "artefact", alone):
        out = tmp_path / f"{place.parent.name}-{place.name}.safetensors"
        status, told = said(capsys, "combine", "cut", place, "--size", 2.0, "--out", out)
        assert status == 0
        assert told["algorithm"] == "averaging"
        assert told["size"] == rows["averaging", 2.0]["reached"] <= 2
        assert told["bytes"] == out.stat().st_size == rows["averaging", 2.0]["bytes"]
    largest = max(layout.size.bytes for layout in Artefact.open(alone).layouts)
    for budget in (120_000, 200_000, 300_000):
        out = tmp_path / f"{budget}.safetensors"
        words = ("--budget", budget, "--algorithm", "ties", "--out", out)
        told = said(capsys, "combine", "cut", run_folder.path, *words)[1]
        assert budget - largest < told["bytes"] <= budget
    words = ("--size", 2, "--task", "roll", "--out", tmp_path / "roll")
    told = said(capsys, "combine", "cut", alone, *words)[1]
    held = load_file(tmp_path / "roll" / "model.safetensors")
    models = MergedModels.open(tmp_path / f"{run_folder.path.name}-artefact.safetensors")
    assert all(torch.equal(held[k], v) for k, v in models.state_dict("roll").items())
    assert told["bytes"] == sum(f.stat().st_size for f in (tmp_path / "roll").iterdir())


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--size", 2.0, "--algorithm", "emr"), "size"),  # below its least
        (("--size", 2.0, "--budget", "1MB"), "size"),
        ((), "size"),
        (("--budget", "1kB"), "budget"),
        (("--size", 2.0, "--algorithm", "pcb"), "algorithm"),
        (("--size", 2.0, "--task", "sideways"), "task"),
    ],
)
def test_what_cannot_be_cut_is_refused(run_folder, tmp_path, capsys, words, field) -> None:
    out = tmp_path / "cut.safetensors"
    status, told = said(capsys, "combine", "cut", run_folder.path, "--out", out, *words)
    assert status == 2
    assert told["error"]["field"] == field
    assert told["error"]["fix"]
    assert not list(tmp_path.iterdir())
    if "emr" in words:
        assert "the least is 2.0956 models" in told["error"]["problem"]


def test_a_cut_is_evaluated_and_explained(run_folder, tmp_path, capsys) -> None:
    out = tmp_path / "two.safetensors"
    assert main(["combine", "cut", str(run_folder.path), "--size", "2", "--out", str(out)]) == 0
    told = said(capsys, "combine", "evaluate", out, "--run", run_folder.path)[1]
    row = next(r for r in figures(run_folder) if (r["algorithm"], r["size"]) == ("averaging", 2.0))
    for key in ("by_task", "accuracy", "normalised", "reached", "bytes"):
        assert told["curve"][0][key] == row[key]
    shown = said(capsys, "combine", "evaluate", run_folder.path)[1]
    assert len(shown["curve"]) == 8
    status, told = said(capsys, "combine", "evaluate", out)
    assert (status, told["error"]["field"]) == (2, "run")
    told = said(capsys, "combine", "explain", out)[1]
    layouts = Artefact.open(run_folder.path / "artefact").layouts
    assert [block["block"] for block in told["blocks"]] == [layout.name for layout in layouts]
    told = said(capsys, "combine", "explain", run_folder.path, "--algorithm", "ties")[1]
    assert len(told["steps"]) == 16 * 2
    lost = sum(step["lost"] for step in told["steps"])
    ties = {r["size"]: r for r in figures(run_folder) if r["algorithm"] == "ties"}
    assert lost == pytest.approx(ties[1.0]["loss"])
    assert told["forecast"]["rows"]
    for name, groups in told["groups"]["2"].items():
        assert len(groups) == 3, name
    assert main(["combine", "explain", str(run_folder.path)]) == 0
    assert "merges that lost most" in capsys.readouterr().out


def test_the_page_says_it_all(run_folder: RunFolder) -> None:
    page = (run_folder.path / "report.html").read_text()
    for words in (
        "3 models as one of any size", "Accuracy against size", "Who is ahead",
        "How alike the models are", "Who shares which block", "What the bytes are", "Forecast",
        "The base alone keeps",
    ):  # fmt: skip
        assert words in page, words


def test_scales_are_tuned_on_validation_images(run_folder: RunFolder, tmp_path: Path) -> None:
    algorithms = ["averaging", {"name": "task_arithmetic", "scale": 1.5}]
    settings = {**SMALL, "algorithms": algorithms, "sizes": [1], "tune": [0.5, 1.0]}
    folder = merge(settings, tmp_path / "run")
    summary = folder.summary or {}
    plain, tuned = summary["final"]["curve"]
    assert summary["tuning_evaluations"] == 2
    assert "scale" not in plain
    assert tuned["scale"] in (0.5, 1.0)
    if tuned["scale"] == 1.0:  # the mean of the task vectors, as averaging is
        assert tuned["by_task"] == plain["by_task"]
    assert "2 merges were evaluated" in (folder.path / "report.html").read_text()
    labels = list(Artefact.open(folder.path / "artefact").algorithms)
    assert labels == ["averaging", "task_arithmetic at 0.5", "task_arithmetic at 1"]


def test_what_fine_tuning_hardly_helps_is_refused(run_folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shows nothing") as caught:
        merge({**SMALL, "least_gain": 0.9}, tmp_path / "run", report=False)
    assert caught.value.field == "least_gain"
    assert not (tmp_path / "run" / "artefact").exists()
    whole = resume(tmp_path / "run", {"least_gain": 0.0}, report=False)
    assert figures(whole) == figures(run_folder)


def test_the_example_is_a_file_of_this_verb(capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings_file(EXAMPLE)
    chosen = kind_of(settings).parse(settings)
    assert chosen.command == "combine merge"
    assert chosen.parse(chosen.dump()) == chosen
    plan = said(capsys, "check", EXAMPLE)[1]
    assert plan["tasks"] == "digits_views"
    assert plan["algorithms"].count(",") == 6


def test_another_verbs_folder_is_refused(run_folder: RunFolder, tmp_path: Path) -> None:
    from hansa.infer.robust.run import resume as other

    with pytest.raises(CheckpointError, match="infer robust"):
        other(run_folder.path)
