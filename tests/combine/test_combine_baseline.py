"""Baselines are components: their settings, and one of a user's own in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.combine.ensemble.baseline import check
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.pipeline import prepare
from hansa.combine.ensemble.run import ensemble, resume
from hansa.report import RunFolder

from .conftest import QUICK, quick

OWN = """
from pydantic import Field
from hansa.combine.ensemble.baseline import Baseline, Compared

class Guess(Baseline):
    '''Names one class, whatever it sees.'''

    answer: int = Field(0, ge=0, description="the class that it names")

    def run(self, harness):
        targets = harness.dataset.test.targets
        right = float((targets == self.answer).double().mean())
        return Compared(type(self).name, right, 0.0, 0.0, f"always {self.answer}")
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "guess.py").write_text(OWN)
    return f"{tmp_path / 'guess.py'}:Guess"


def given(*methods: Any, **more: Any) -> dict[str, Any]:
    return QUICK | {"rules": ["average"], "baselines": {"methods": list(methods), **more}}


def test_one_of_a_users_own_stands_in_the_table(own: str, tmp_path: Path) -> None:
    folder = ensemble(given({"name": own, "answer": 3}), tmp_path / "run", report=False)
    rows = (folder.read_json("table.json") or {})["rows"]
    row = next(row for row in rows if row["kind"] == "baseline")
    assert row["name"] == own
    assert row["note"] == "always 3"
    assert 0 < row["accuracy"] < 0.3
    assert row["accuracy"] == (folder.summary or {})["baselines"][own]


def test_one_that_is_done_is_not_done_again(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hansa.combine.ensemble.baselines.averaging import FedAvgRounds

    settings = given({"name": own, "answer": 3}, "fedavg", rounds=1)
    plain = FedAvgRounds.run
    with monkeypatch.context() as patch:

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(FedAvgRounds, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensemble(settings, tmp_path / "run", report=False)
    assert FedAvgRounds.run is plain
    kept = list((tmp_path / "run" / "finished").glob("baseline_*guess.py-Guess.json"))
    assert len(kept) == 1
    (tmp_path / "guess.py").write_text(OWN.replace("return Compared", "1 / 0"))  # no more needed
    with pytest.warns(UserWarning, match="not the code"):
        folder = resume(tmp_path / "run", report=False)
    assert list((folder.summary or {})["baselines"]) == [own, "fedavg"]


def test_a_resolved_file_says_the_same() -> None:
    found = EnsembleFile.parse(given("fedkd", {"name": "dense"}, rounds=4))
    assert [type(method).name for method in found.baselines.methods] == ["fedkd", "dense"]
    assert EnsembleFile.parse(found.dump()) == found
    assert EnsembleFile.parse({"baselines": {"methods": "fedkd"}}).baselines.methods


@pytest.mark.parametrize(
    ("methods", "field", "words"),
    [
        (["fedavgg"], "baselines.methods.name", "did you mean 'fedavg'"),
        ([{"name": "dense", "depth": 3}], "baselines.methods.depth", "no such setting"),
        ([3], "baselines.methods", "is no baseline"),
    ],
)
def test_what_is_none_is_refused(methods: list[Any], field: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        EnsembleFile.parse(given(*methods))
    assert caught.value.field == field


def test_each_stands_in_the_table_once() -> None:
    prepared = prepare(quick())
    with pytest.raises(ConfigError, match="has a name twice"):
        check(quick(baselines={"methods": ["fedavg", "fedavg"]}), prepared.dataset)


def test_they_are_listed_with_their_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "baseline"]) == 0
    said = capsys.readouterr().out
    assert "coboosting" in said
    assert "Dai et al. 2024" in said


def test_the_folder_of_a_resumed_run_holds_the_components(own: str, tmp_path: Path) -> None:
    folder = ensemble(given({"name": own, "answer": 1}), tmp_path / "run", report=False)
    methods = RunFolder.open(folder.path).config["baselines"]["methods"]
    assert methods == [{"name": own, "answer": 1}]
