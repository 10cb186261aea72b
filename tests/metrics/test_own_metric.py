"""A user's own metric, as docs/learn.md shows it: in a run, an ensemble and a request to forget."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from hansa.cli.app import app
from hansa.report import RunFolder

PAGE = Path(__file__).parents[2] / "docs" / "learn.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
(OWN,) = [block for block in BLOCKS if "(Metric)" in block]
RUN = {
    "plugins": ["top_two.py"],
    "nodes": 4,
    "rounds": 2,
    "algorithm": {"name": "quickdrop"},
    "model": {"name": "convnet", "depth": 1, "width": 4},
    "train": {"local_steps": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.05}},
    "evaluate": {"every": 1, "metrics": ["top_two", "accuracy"]},
}
ENSEMBLE = {
    "plugins": ["top_two.py"],
    "verb": "combine",
    "clients": 3,
    "data": {"name": "digits", "public": 0.1},
    "models": [{"name": "mlp", "hidden": [8]}],
    "local": {"epochs": 1, "batch_size": 16},
    "rules": ["average", "linear"],
    "aggregate": {"rounds": 3},
    "metrics": ["top_two", "f1", "recall"],
    "baselines": {
        "methods": ["fedavg", "fedavg_once", "fine_tuned", "distilled"],
        "rounds": 2,
        "once": [1],
        "distillation": {"epochs": 1},
    },
}


def hansa(*words: str) -> str:
    done = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert done.exit_code in (0, 1), done.output
    return done.output


def write(path: Path, settings: object) -> str:
    (path.parent / "top_two.py").write_text(OWN)
    path.write_text(json.dumps(settings))
    return str(path)


def test_its_file_is_short() -> None:
    assert len(OWN.splitlines()) < 30


def test_it_is_in_a_run_and_in_a_receipt(tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = hansa("learn", write(tmp_path / "run.yaml", RUN), "--out", str(run))
    folder = RunFolder.open(run)
    names = set(folder.metrics()["name"].unique())
    assert {"top_two", "accuracy"} <= names
    assert "loss" not in names
    last = folder.metrics().filter((pl.col("name") == "top_two") & (pl.col("round") == 2))
    value = last["value"].to_list()[-1]
    assert f"{100 * value:.2f} %" in said
    assert "top two" in (run / "report.html").read_text()
    told = hansa("forget", str(run), "--class", "3", "--oracle", "--metric", "f1")
    receipt = json.loads((run / "requests/001/receipt.json").read_text())
    before = receipt["figures"]["before"]
    assert before["top_two_test"] == pytest.approx(value, abs=1e-9)
    assert before["accuracy_forget"] == pytest.approx(before["forget"], abs=1e-12)
    for stage in ("before", "after", "oracle"):
        for part in ("forget", "retain", "test"):
            found = receipt["figures"][stage]
            assert found[part] <= found[f"top_two_{part}"] <= 1
    assert "top_two_forget_gap" in receipt["distance_to_oracle"]
    assert receipt["figures"]["after"]["f1_test"] > 0
    assert "top two" in told
    assert "F1" in told


def test_it_is_in_an_ensemble(tmp_path: Path) -> None:
    run = tmp_path / "run"
    hansa("combine", "ensemble", write(tmp_path / "ensemble.yaml", ENSEMBLE), "--out", str(run))
    table = json.loads((run / "table.json").read_text())
    assert len(table["rows"]) == 7
    for row in (*table["rows"], *table["members"]):
        figures = row["figures"]
        assert row["accuracy"] <= figures["top_two"] <= 1
        assert figures["f1"] > 0
        assert len([name for name in figures if name.startswith("recall_")]) == 10
    head = (run / "table.md").read_text().splitlines()[0]
    assert "top two | F1 | recall" in head
    summary = RunFolder.open(run).summary
    assert summary is not None
    assert set(summary["figures"]) == {row["name"] for row in table["rows"]}
    assert "F1" in (run / "report.html").read_text()
