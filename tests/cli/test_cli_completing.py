"""What a shell completes, shortcuts of settings, and examples by their names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.completing import beginning, remembered
from hansa.base.component import catalogue
from hansa.base.shipped import home, shipped
from hansa.cli import completion
from hansa.experiment.first_file import kinds
from hansa.experiment.vocabulary import vocabulary

SCRIPT = """
import sys
from hansa.cli import main
try:
    main([])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def words() -> dict:
    return json.loads(json.dumps(vocabulary()))


def test_a_shell_is_answered_without_anything_heavy(tmp_path: Path, words: dict) -> None:
    environment = {
        **os.environ, "HANSA_CACHE": str(tmp_path), "_HANSA_COMPLETE": "complete_bash",
        "COMP_WORDS": "hansa learn fedad", "COMP_CWORD": "2",
    }  # fmt: skip
    for _ in range(2):  # the second time from the cache
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
        )
        assert done.stdout.split() == ["fedadagrad", "fedadam"], done.stderr
        loaded = set(done.stderr.split())
        assert not loaded & {"torch", "numba", "polars", "scipy"}
    assert "hansa.experiment" not in loaded
    kept = json.loads((tmp_path / "completion.json").read_text())["value"]
    for what in ("kinds", "settings"):  # other tests may have brought parts into this process
        assert kept[what].keys() <= words[what].keys()
        for name, one in kept[what].items():
            assert set(one) <= set(words[what][name])


def test_every_setting_that_is_completed_is_known(words: dict) -> None:
    learn = words["settings"]["learn"]
    assert {"rounds", "train.optimizer.lr", "topology.degree", "algorithm.name"} <= set(learn)
    assert learn["topology"] == sorted(catalogue("topology"))
    assert learn["algorithm.name"] == learn["algorithm"] == words["kinds"]["algorithm"]
    assert learn["data.normalize"]
    assert "clients" in words["settings"]["combine ensemble"]
    assert {*words["begun"]} <= {*kinds()}


@pytest.mark.parametrize(
    ("path", "word"), [("hansa route run", "repeats"), ("hansa audit run", "budget")]
)
def test_a_commands_own_settings(
    monkeypatch: pytest.MonkeyPatch, words: dict, path: str, word: str
) -> None:
    monkeypatch.setattr(completion, "_words", lambda: words)
    context = SimpleNamespace(command_path=path)
    assert f"{word}=" in completion.settings(context, word)
    assert completion.settings(context, "topology.deg") == []
    assert "node" not in completion.begun("n")
    assert {"merge", "audit", "digits_dpsgd"} <= {*completion.begun("")}


@settings(max_examples=20)
@given(st.lists(st.text(max_size=4)), st.text(max_size=2))
def test_what_is_completed_begins_with_what_was_typed(known: list[str], typed: str) -> None:
    found = beginning(known, typed)
    assert sorted(found) == found
    assert sorted(word for word in known if word[: len(typed)] == typed) == found


def test_a_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path))
    for text in ("", "[1]", '{"of": "another", "value": 1}'):
        (tmp_path / "words.json").write_text(text)
        assert remembered("words", lambda: {"made": 2}) == {"made": 2}
        assert remembered("words", dict) == {"made": 2}


def test_runs_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("runs/one", "runs/two", "other"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.yaml").write_text("...\n")
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert completion.runs("") == ["other", "runs/one", "runs/two"]
    assert completion.runs("runs/t") == ["runs/two"]
    assert completion.runs("runs/nothing/in") == []
    assert completion.run_files("") == ["mine.yaml", "other/", "runs/"]
    assert completion.run_files(f"{tmp_path}/mi") == [f"{tmp_path}/mine.yaml"]


def test_examples_go_by_their_names(hansa, tmp_path: Path) -> None:
    short = "--no-report --json"
    said = hansa(f"learn digits_fedavg --rounds 1 --nodes 5 --set algorithm.sampled=2 {short}")
    assert said.status == 0, said.err
    assert (said.object["rounds"], said.object["nodes"]) == (1, 5)
    assert not set(catalogue("algorithm")) & {file.stem for file in home().glob("*.yaml")}
    said = hansa("learn examples/digits_fedavg.yaml")
    assert said.status == 2
    assert "hansa init digits_fedavg" in said.err
    (tmp_path / "digits_fedavg").write_text("nodes: 0\n")  # a file here goes before
    assert "nodes = 0" in hansa("check digits_fedavg").err
    assert shipped("../digits_fedavg") is None
    assert shipped("nothing") is None


def test_shortcuts_are_refused_as_settings_are(hansa) -> None:
    assert "rounds = 0" in hansa("learn --rounds 0").err
    assert "nodes = 0" in hansa("check dpsgd --nodes 0").err
    assert "did you mean aggregate.rounds=3" in hansa("check digits_ensemble --rounds 3").err
