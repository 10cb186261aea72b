"""``hansa combine`` from the command line: the example, predict, remove, and errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from hansa.cli import main
from hansa.data import Digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_ensemble.yaml"
QUICK = ["--set", "local.epochs=3", "--set", "aggregate.rounds=5", "--json", "--quiet"]


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    capsys.readouterr()
    status = main(["combine", *words])
    return status, json.loads(capsys.readouterr().out)


def test_an_ensemble_is_made_applied_and_reduced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = said(capsys, "ensemble", str(EXAMPLE), "--out", "run", *QUICK)
    assert status == 0
    assert found["status"] == "finished"
    assert found["chosen"] in found["rules"]
    assert found["accuracy"] == found["rules"][found["chosen"]]
    assert (tmp_path / "run" / "report.html").exists()
    assert "| accuracy |" in (tmp_path / "run" / "table.md").read_text()

    raw = Digits().read().test
    np.save("some.npy", raw.inputs[:50])
    status, answers = said(capsys, "predict", "run", "some.npy", "--json")
    assert status == 0
    right = [
        int(p["class"]) == t for p, t in zip(answers["predictions"], raw.targets, strict=False)
    ]
    assert np.mean(right) > found["accuracy"] - 0.25

    status, less = said(
        capsys, "remove", "run", "--client", "4", "--out", "less", "--json", "--quiet"
    )
    assert status == 0
    assert less["clients"] == 9
    assert json.loads((tmp_path / "less" / "removal.json").read_text())["removed"] == 4
    assert main(["forget", "run", "--class", "4"]) == 2
    assert "hansa combine remove run" in capsys.readouterr().err


def test_the_table_is_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*QUICK[:4], "--set", "rules=[average, voting]", "--no-report", "--quiet"]
    assert main(["combine", "ensemble", str(EXAMPLE), *words]) == 0
    out = capsys.readouterr().out
    assert "label_weighted" not in out
    assert "kept" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["ensemble", "--set", "clients=0"], "clients"),
        (["ensemble", "--set", "rules=[mean]"], "no such rule"),
        (["ensemble", "--set", "proxy=0.001"], "leaves 0 examples"),
        (["ensemble", "none.yaml"], "no such file"),
        (["predict", "none", "some.npy"], "no such run folder"),
        (["remove", "none", "--client", "1"], "no such run folder"),
    ],
)
def test_errors_are_explained_and_leave_nothing(
    words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = said(capsys, *words, "--json")
    assert status == 2
    assert text in found["error"]["message"]
    assert not list(tmp_path.iterdir())
