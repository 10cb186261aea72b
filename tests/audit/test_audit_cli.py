"""``hansa audit`` from the command line: its contract for scripts, plans, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hansa.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
MADE = EXAMPLES / "made_audit.yaml"
SMALL = ("--set", "population.rows=900", "--set", "budget=50", "--no-report")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hansa(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_the_contract_for_scripts(hansa: Call) -> None:
    status, out, err = hansa("audit", MADE, "--json", *SMALL)
    assert status == 0, err
    said: dict[str, Any] = json.loads(out)
    assert {"run_dir", "verb", "status", "final"} <= set(said)
    assert (said["verb"], said["status"]) == ("audit", "finished")
    final = said["final"]
    assert final["queries"] == {"sex": 50, "age": 50, "origin": 50}
    keys = {"attribute", "metric", "group", "reference", "estimate", "low", "high", "verdict"}
    for row in final["findings"]:
        assert keys <= set(row)
        assert row["verdict"] in {
            "below", "above", "different", "similar", "undecided", "undefined",
        }  # fmt: skip
    assert final["platform"] == "consistent"
    folder = Path(said["run_dir"])
    assert folder.parent.name == "runs"
    for name in ("plan.json", "audit.json", "metricframe.json", "ledger/00.jsonl"):
        assert (folder / name).is_file()


def test_an_audit_in_words(hansa: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # so that no line is broken
    status, out, err = hansa("audit", MADE, "--out", "run", *SMALL[:-1])
    assert status == 0, err
    assert "women : men" in out
    assert "undecided" in out
    assert "report  run/report.html" in out
    assert "of 150 queries" in err
    status, out, err = hansa("report", "run", "--png")
    assert status == 0, err
    assert "demographic parity" in out
    assert len(list(Path("run/pictures").glob("*.png"))) == 2
    hansa("audit", MADE, "--out", "again", "--seed", 2, *SMALL)
    status, out, err = hansa("compare", "run", "again")
    assert status == 0, err
    status, _, err = hansa("audit", "resume", "run")
    assert status == 2
    assert "has finished" in err


@pytest.mark.parametrize(
    "words", [("audit", "plan", MADE), ("audit", MADE, "--dry-run"), ("check", MADE)]
)
def test_a_plan_asks_nothing(hansa: Call, words: tuple[object, ...]) -> None:
    status, out, err = hansa(*words)
    assert status == 0, err
    assert "900 queries in at least 3 calls, 90 of them to check the platform" in out
    assert "neyman a_priori" in out
    assert "Nothing was asked." in out
    assert not list(Path().iterdir())
    status, out, _ = hansa(*words, "--json")
    assert json.loads(out)["cost"]["queries"] == {"sex": 300, "age": 300, "origin": 300}


@pytest.mark.parametrize(
    ("words", "field", "text"),
    [
        (["--set", "attributes=[sexx]"], "attributes.0", "did you mean 'sex'"),
        (["--set", "budget=0"], "budget", "greater than or equal to 1"),
        (["--set", "box.name=tabel"], "box.name", "table"),
        (["--set", "strategy.sampling=some"], "strategy", "uniform"),
        (["--set", "budgett=5"], "budgett", "did you mean budget=5?"),
        (["--set", "rounds=5"], "rounds", "there is no such setting"),
        (["--set", "box={name: callable, function: none.py:f}"], "box.function", "no such file"),
    ],
)
def test_what_is_wrong_is_named(hansa: Call, words: list[str], field: str, text: str) -> None:
    status, out, err = hansa("audit", MADE, "--json", *words)
    assert status == 2
    error = json.loads(out)["error"]
    assert error["field"].startswith(field)
    assert text in error["message"]
    assert text in err
    assert not Path("runs").exists()


def test_a_file_of_another_verb_and_a_folder_of_another_run(hansa: Call, tmp_path: Path) -> None:
    status, _, err = hansa("audit", EXAMPLES / "digits_fedavg.yaml")
    assert status == 2
    assert "hansa learn FILE" in err
    status, _, err = hansa("learn", MADE)
    assert status == 2
    assert "hansa audit FILE" in err
    status, _, err = hansa("audit", "resume", tmp_path)
    assert status == 2
    assert "is not a run folder" in err
    status, _, err = hansa("audit", "nothing.yaml")
    assert status == 2
    assert "there is no such file" in err
    assert hansa("audit", "--help")[0] == 0
    assert hansa("audit")[0] == 2


def test_a_platform_that_does_not_answer_leaves_a_run_to_go_on_with(hansa: Call) -> None:
    box = "box={name: http, url: 'http://127.0.0.1:9/', give_up: 0}"
    status, out, err = hansa("audit", MADE, "--out", "run", "--json", "--set", box, *SMALL)
    assert status == 1
    error = json.loads(out)["error"]
    assert error["type"] == "RunError"
    assert "cannot be reached" in error["message"]
    assert "to go on: hansa audit resume run" in err
    assert json.loads(Path("run/summary.json").read_text())["spent"] == {
        "sex": 1, "age": 0, "origin": 0,
    }  # fmt: skip
    status, _, err = hansa("audit", "resume", "run", "--set", "box.name=own")
    assert status == 2
    assert "is another than the audit was begun with" in err


def test_the_settings_of_its_file_are_listed(hansa: Call) -> None:
    status, out, err = hansa("list", "settings", "audit", "--json")
    assert status == 0, err
    settings = {item["setting"]: item for item in json.loads(out)["settings"]}
    assert settings["box"]["type"] == "black_box"
    assert "liars.pooling" in settings
    assert all(item["help"] for item in settings.values())
    assert hansa("list", "settings", "audits")[0] == 2


def test_a_function_of_ones_own(hansa: Call) -> None:
    Path("mine.py").write_text("def decide(rows):\n    return [r['sex'] == 'men' for r in rows]\n")
    Path("mine.yaml").write_text(
        "verb: audit\npopulation: {name: made, attributes: {sex: {men: 0.5, women: 0.5}}}\n"
        "box: {name: callable, function: 'mine.py:decide'}\nbudget: 40\n"
    )
    status, out, err = hansa("audit", "mine.yaml", "--json", "--no-report")
    assert status == 0, err
    finding = json.loads(out)["final"]["findings"][0]
    assert (finding["estimate"], finding["verdict"]) == (-1.0, "different")
    assert "truth" not in finding
    Path("bad.py").write_text("def decide(rows):\n    return rows[0]['income']\n")
    status, _, err = hansa(
        "audit", "mine.yaml", "--no-report", "--set", "box.function=bad.py:decide"
    )
    assert status == 2
    assert "bad.py, line 2, in decide: KeyError: 'income'" in err


@pytest.mark.data
def test_german_credit(hansa: Call) -> None:
    status, out, err = hansa("audit", EXAMPLES / "german_audit.yaml", "--json")
    assert status == 0, err
    final = json.loads(out)["final"]
    assert final["queries"] == dict.fromkeys(
        ("age", "sex", "marital", "telephone", "employment"), 100
    )
    first = final["findings"][0]
    assert first["attribute"] == "age"
    assert first["truth"] == pytest.approx(0.1494, abs=1e-4)
    assert first["low"] <= first["truth"] <= first["high"]
