"""``hansa init VERB``: a commented file of any verb, which runs as it stands."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import yaml

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.forms import FORMAT
from hansa.experiment.first_file import Wishes, asks_for, first_settings, kinds
from hansa.experiment.runfile import RunFile
from hansa.experiment.settings_file import files, kind_of, read_settings_file

WRITTEN = sorted(set(files()) - {"node"} - {"toy"})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three classes, skewed, with words and gaps."""
    rows, draw = ["age,job,note,class"], random.Random(1)
    for k in range(180):
        age = draw.random()
        kind = "rare" if k % 15 == 0 else "low" if age < 0.5 else "high"
        rows.append(f"{age:.3f},{draw.choice('xyz')},{'' if k % 7 == 0 else k % 5},{kind}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "mine.csv"


@pytest.mark.parametrize("verb", WRITTEN)
def test_every_verb_has_a_file_that_its_parser_takes(hansa, tmp_path: Path, verb: str) -> None:
    said = hansa(f"init {verb} --out mine.yaml --json")
    assert said.status == 0, said.err
    text = (tmp_path / "mine.yaml").read_text()
    settings = read_settings_file(tmp_path / "mine.yaml")
    kind = kind_of(settings)
    assert (kind.own_verb(), settings["format"]) == (verb, FORMAT)
    assert kind.command == said.object["command"]
    assert kind.parse(settings).dump()["verb"] == verb
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    for at, line in enumerate(lines):  # each section says what it is
        if line[:1].isalpha() and line.partition(":")[0] not in ("format", "verb"):
            assert lines[at - 1].startswith("# "), line
    for field in set(kind.model_fields) - {"plugins", "format", "verb"}:
        assert f"{field}:" in text
    assert "is there already" in hansa(f"init {verb} --out mine.yaml").err


@pytest.mark.parametrize("algorithm", sorted(catalogue("algorithm")))
def test_every_algorithm_is_begun(tmp_path: Path, algorithm: str) -> None:
    settings = first_settings(RunFile, Wishes(algorithm, nodes=8, rounds=3), tmp_path)
    chosen = RunFile.parse(settings)
    assert chosen.algorithm.name == algorithm
    assert (chosen.nodes, chosen.rounds) == (8, 3)


def test_your_own_table_learns_combines_and_is_asked(hansa, tmp_path: Path, table: Path) -> None:
    line = "init learn --data mine.csv --target class --nodes 5 --rounds 2 --out sub/run.yaml"
    assert hansa(line).status == 0
    said = hansa("learn sub/run.yaml --json --no-report")
    assert said.status == 0, said.err
    assert (said.object["nodes"], said.object["rounds"]) == (5, 2)
    assert hansa("init combine --data mine.csv --label class --nodes 3 --rounds 2").status == 0
    written = yaml.safe_load((tmp_path / "ensemble.yaml").read_text())
    assert (written["clients"], written["aggregate"]["rounds"]) == (3, 2)
    said = hansa("combine ensemble ensemble.yaml --set local.epochs=1 --json --no-report")
    assert said.status == 0, said.err
    assert hansa("init infer --data mine.csv --label class --nodes 9").status == 0
    assert yaml.safe_load((tmp_path / "robust.yaml").read_text())["clients"]["members"] == 9


def test_few_nodes_have_few_neighbours(hansa, tmp_path: Path) -> None:
    few = first_settings(RunFile, Wishes("dpsgd", nodes=3), tmp_path)
    assert few["topology"]["degree"] == 2
    assert (
        first_settings(RunFile, Wishes("el_local", nodes=2), tmp_path)["algorithm"]["fanout"] == 1
    )
    late = first_settings(RunFile, Wishes("fedbuff", nodes=4), tmp_path)["algorithm"]
    assert (late["concurrency"], late["buffer"]) == (4, 4)
    (tmp_path / "mine (ü).csv").write_text("größe,Art: ok?\n" + "1,a\n2,b\n3,a\n4,b\n" * 30)
    line = ("init", "learn", "--data", "mine (ü).csv", "--label", "Art: ok?", "--nodes", "3")
    assert hansa(*line, "--out", "x y/ü.yaml").status == 0
    text = (tmp_path / "x y" / "ü.yaml").read_text()
    assert text.startswith("# hansa learn 'x y/ü.yaml'\n")
    assert "path: ../mine (ü).csv" in text
    said = hansa("check", "x y/ü.yaml")
    assert said.status == 0, said.err


def test_what_cannot_be_is_refused_and_nothing_written(hansa, tmp_path: Path, table: Path) -> None:
    for line, said in {
        "learn --data mine.csv": "one of age, job, note, class",
        "learn --data mine.csv --label klass": "did you mean 'class'",
        "learn --data yours.csv --label class": "there is no such file and no such data set",
        "learn --data digit": "did you mean 'digits'",
        "learn --data digits --label class": "has its own labels",
        "recommend --data mine.csv --label class": "--set data.user=COLUMN",
        "learn --label class": "no --data is given",
        "learn --algorithm fedavgg": "fedavg",
        "learn --rounds 0": "rounds = 0",
        "learn --set topologie=ring": "topology",
        "merge --algorithm fedavg": "has no algorithm of this kind",
        "merge --rounds 3": "has no rounds",
        "audit --data mine.csv": "holds the decisions",
        "digits_dpsgd --rounds 3": "is written as it is",
        "learn --out mine.csv": "is a file",
    }.items():
        answer = hansa(f"init {line}")
        assert answer.status == 2, line
        assert said in answer.err, answer.err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]


def test_a_terminal_is_asked(hansa, tmp_path: Path, table: Path, monkeypatch) -> None:
    answers = ["lern", "learn", "dpsgdd", "fedavg", "mine.csv", "6", "2", "class"]
    asked = []

    def prompt(text: str, default: str, err: bool) -> str:
        asked.append((text, default))
        return answers.pop(0)

    monkeypatch.setattr("typer.prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    said = hansa("init")
    assert said.status == 0, said.err
    assert answers == []
    assert asked[-2] == ("How many rounds", "60")
    settings = yaml.safe_load((tmp_path / "fedavg.yaml").read_text())
    assert (settings["nodes"], settings["rounds"]) == (6, 2)
    assert settings["algorithm"]["sampled"] == 6
    assert settings["data"]["label"] == "class"


def test_the_end_of_input_leaves_nothing(hansa, tmp_path: Path, monkeypatch) -> None:
    import typer

    def prompt(*words: object, **how: object) -> str:
        raise typer.Abort

    monkeypatch.setattr("typer.prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert hansa("init").status == 130
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="no whole number"):
        Wishes.said({"nodes": "many"})
    assert [field for field, *_ in asks_for(kinds()["merge"])] == []
