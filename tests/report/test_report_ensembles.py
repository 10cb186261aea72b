"""The page of an ensemble, and its comparison with a run of federated learning."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from hansa.cli import main
from hansa.combine.ensemble.charts import _spread
from hansa.combine.ensemble.page import EnsemblePage
from hansa.combine.ensemble.run import ensemble
from hansa.experiment import run
from hansa.report import RunFolder
from hansa.report.charts import views
from hansa.report.comparing import comparison
from hansa.report.page import page_of
from hansa.report.writing import write_report

GIVEN: dict[str, Any] = {
    "seed": 7,
    "clients": 4,
    "data": {"name": "digits", "train_samples": 400},
    "models": [{"name": "mlp", "hidden": [16]}],
    "local": {"epochs": 6},
    "rules": ["average", "label_weighted", "per_class"],
    "aggregate": {"rounds": 20, "every": 5},
    "choose": "per_class",
    "baselines": {"methods": ["fedavg"], "rounds": 2},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return ensemble(GIVEN, tmp_path_factory.mktemp("page") / "run")


def test_the_headline_is_the_kept_rule_and_the_table_has_all(found: RunFolder) -> None:
    summary = found.summary or {}
    page = page_of(found)
    assert type(page) is EnsemblePage
    of = page.read(found)
    shown = page.tiles(of)
    assert len(shown) <= 5
    assert shown[0][0] == "accuracy of per_class"
    assert shown[0][1] == f"{100 * summary['rules']['per_class']:.2f} %"
    names = [row[0] for row in page.table(of, every=True).rows]
    assert set(names) == {"average", "label_weighted", "per_class *", "best client", "fedavg"}
    accuracy = [float(row[1].removesuffix(" %")) for row in page.table(of, every=True).rows]
    assert accuracy == sorted(accuracy, reverse=True)
    text = (found.path / "report.html").read_text()
    for words in ("combined by per_class", "kept: as asked", "Members and their data", "8 bits"):
        assert words in text


def test_one_chart_has_all_rules(found: RunFolder) -> None:
    page = page_of(found)
    parts = {section.title: section for section in page.sections(page.read(found))}
    (chart,) = parts[""].charts
    drawn = chart.to_dict()
    data = max((rows for rows in drawn["datasets"].values()), key=len)
    assert {row["name"] for row in data} == {
        "average", "label_weighted", "per_class", "best client", "fedavg",
    }  # fmt: skip
    assert sorted(row["round"] for row in data if row["name"] == "per_class") == [5, 10, 15, 20]
    over_rounds, over_bytes = views(chart)
    assert over_rounds == {"words": "round of phase 2", "change": {}}
    assert over_bytes["change"]["layer"][2]["encoding"]["x"]["scale"]["type"] == "log"
    assert len(parts["Members and their data"].charts) == 2
    assert len(parts["What travels"].grid.rows) == 4


def test_compare_takes_the_kept_rule_and_its_bytes(found: RunFolder, tmp_path: Path) -> None:
    other = run(
        {"nodes": 4, "rounds": 2, "algorithm": "fedadam", "data": GIVEN["data"]},
        tmp_path / "fedadam",
        report=False,
    )
    ours, theirs = comparison([found, other])
    summary = found.summary or {}
    assert ours["algorithm"] == "ensemble by per_class"
    assert ours["final"]["accuracy"] == pytest.approx(summary["accuracy"])
    row = next(r for r in found.read_json("table.json")["rows"] if r["name"] == "per_class")
    assert ours["totals"]["bytes"] == pytest.approx(4 * row["counted"], abs=1)
    assert theirs["run"] == "fedadam"
    page = tmp_path / "page.html"
    line = ["compare", str(found.path), str(other.path), "--out", str(page)]
    assert main(line) == 0
    assert "sent by all nodes" in page.read_text()


def test_the_page_can_be_made_again(found: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (found.path / "report.html").unlink()
    assert main(["report", str(found.path), "--png"]) == 0
    assert "per_class *" in capsys.readouterr().out
    assert (found.path / "report.html").exists()
    assert len(list((found.path / "pictures").glob("*.png"))) == 4
    part = RunFolder.open(found.path / "rule_per_class")  # a run of the engine has a plain page
    assert type(page_of(part)) is not EnsemblePage
    assert write_report(part).exists()


def test_names_are_kept_apart() -> None:
    values = [0.9, 0.9, 0.89, 0.5, 0.1, 0.1]
    found = _spread(values, 0.05, 0.0, 1.0)
    ordered = sorted(found)
    assert all(b - a >= 0.05 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert found[3] == 0.5
    assert min(found) >= 0
