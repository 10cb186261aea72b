"""``hansa init VERB --data TABLE``: a file of any verb on a table that nobody tidied runs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from hansa.experiment.first_file import kinds

LABEL, GROUP = "Urteil, final", "Klinik Ort"
CLASSES = ["Größe, stark", "sehr klein", "mittel", "7", "NaN-like", "ja: nein", "z#1"]
TABLES = ("learn", "combine", "robust", "private", "sweep", "audit")
OTHERS = {  # what needs something else than a table, and says so
    "forget": "a run that was trained",
    "merge": "models that came of one",
    "route": "a pool of adapters",
    "recommend": "--set data.user=COLUMN",
    "serve": "models that answer at addresses",
    "redteam": "reads no examples",
}
SHORT = {
    "learn": "--set rounds=2",
    "combine": "--set local.epochs=1 --set aggregate.rounds=2 --set rules=average",
    "robust": "--set clients.local.epochs=1 --set attacks=logit_flip",
    "private": "--set train.epochs=1 --set queries=4",
    "sweep": "--set train.optimizer.lr=0.05 --set rounds=2 --seeds 1",
    "audit": "",
}


def untidy(path: Path, classes: int, rows: int = 60) -> None:
    """Words, gaps, a name a row, skewed owners and classes, odd names of columns and classes."""
    draw, names = random.Random(classes), CLASSES[:classes]
    lines = [f"Kunden-Nr;Größe (cm);Beruf;Alter;Geschlecht;{GROUP};notes: x;{LABEL}"]
    for row in range(rows):
        often = [2.0**-k for k in range(classes)]
        name = names[row % classes] if row < 3 * classes else draw.choices(names, often)[0]
        cells = [
            f"A{row:04d}",
            "" if draw.random() < 0.1 else f"{150 + names.index(name) * 8 + draw.random():.1f}",
            draw.choice(["Ärztin", "Lehrer", "—", "no idea"]),
            "?" if draw.random() < 0.05 else str(draw.randint(18, 80)),
            draw.choice("wm"),
            draw.choices(["Süd", "Nord 1", "West"], [8, 3, 2])[0],
            draw.choice(["", "a", "b", "c"]),
            f'"{name}"',
        ]
        lines.append(";".join(cells))
    path.write_text("\n".join(lines) + "\n")


def begun(hansa, verb: str, *more: str) -> str:
    """The command that runs such a file, once it was written and checked."""
    words = ["--data", "mine.csv", "--label", LABEL, *more]
    if verb == "audit":
        words = [*words[:4], "--group", "Geschlecht", "--group", "Alter",
                 "--set", "box.positive=mittel"]  # fmt: skip
    said = hansa("init", verb, *words, "--out", f"{verb}.yaml", "--json")
    assert said.status == 0, said.err
    checked = hansa(f"check {verb}.yaml --json")
    assert checked.status == 0, (verb, checked.err)
    return f"{said.object['command']} {verb}.yaml"


@pytest.mark.parametrize("verb", TABLES)
def test_what_is_begun_on_a_table_can_start(hansa, tmp_path: Path, verb: str) -> None:
    untidy(tmp_path / "mine.csv", 7)
    command = begun(hansa, verb, "--group", GROUP)
    settings = yaml.safe_load((tmp_path / f"{verb}.yaml").read_text())
    if verb == "audit":
        assert settings["population"]["attributes"] == {"Geschlecht": None, "Alter": "> 53"}
    elif verb == "learn":
        assert settings["data"]["exclude"] == ["Kunden-Nr"]
        assert (settings["nodes"], settings["data"]["group"]) == (3, GROUP)
    if verb in ("learn", "audit"):
        said = hansa(f"{command} {SHORT[verb]} --no-report --json")
        assert said.status == 0, said.err


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.parametrize("verb", TABLES)
def test_what_is_begun_on_a_table_runs(hansa, tmp_path: Path, verb: str, classes: int) -> None:
    untidy(tmp_path / "mine.csv", classes)
    command = begun(hansa, verb)
    assert hansa(*command.split(), *SHORT[verb].split(), "--json").status == 0


def test_the_models_of_a_run_are_merged_and_asked(hansa, tmp_path: Path) -> None:
    untidy(tmp_path / "mine.csv", 3)
    begun(hansa, "learn", "--algorithm", "isolated")
    assert hansa("learn learn.yaml --set rounds=1 --out run --no-report --json").status == 0
    for verb in ("merge", "private"):
        assert hansa(f"init {verb} --data run").status == 0
    for file in ("merge.yaml", "demo.yaml"):
        said = hansa(f"check {file} --json")
        assert said.status == 0, said.err
    assert "is the folder of a run" in hansa("init learn --data run --out x").err


def test_a_run_on_a_table_is_made_to_forget(hansa, tmp_path: Path) -> None:
    untidy(tmp_path / "mine.csv", 3)
    begun(hansa, "learn", "--algorithm", "quickdrop")
    assert hansa("learn learn.yaml --set rounds=2 --out run --no-report --json").status == 0
    assert hansa("init forget --data run").status == 0
    said = hansa("forget forget.yaml --no-report --json")
    assert said.status in (0, 1), said.err  # 1: done, and its goal was not reached


@pytest.mark.parametrize("verb", OTHERS)
def test_who_needs_something_else_says_what(hansa, tmp_path: Path, verb: str) -> None:
    untidy(tmp_path / "mine.csv", 3)
    said = hansa(f"init {verb} --data mine.csv")
    assert said.status == 2
    assert OTHERS[verb] in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]
    assert {*TABLES, *OTHERS} | {"infer", "ensemble", "demo", "run"} >= {*kinds()} - {"toy"}


def test_an_audit_guesses_neither_who_nor_what(hansa, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("sex,score,granted\n" + "w,1.5,0\nm,2.5,1\nm,3.25,1\n" * 20)
    for line, said in {
        "--data mine.csv": "which column of mine.csv holds the decisions?",
        "--data mine.csv --label granted": "--group COLUMN, of sex, score",
        "--data mine.csv --label sex --group granted": "--set box.positive=DECISION, one of m, w",
        "--data mine.csv --label granted --group gender": "is no column",
        "--data mine.csv --label granted --group granted": "another column",
        "--group sex": "no --data is given",
        "--data digits": "does not take its data so",
    }.items():
        answer = hansa(f"init audit {line}")
        assert answer.status == 2
        assert said in answer.err, answer.err
    assert hansa("init audit --data mine.csv --label granted --group sex").status == 0
    assert yaml.safe_load((tmp_path / "audit.yaml").read_text())["box"]["positive"] == 1


def test_what_could_be_either_is_asked_before_a_file_is_there(hansa, tmp_path: Path) -> None:
    rows = "".join(f"{k},{k % 30 * 7}\n" for k in range(90))
    (tmp_path / "mine.csv").write_text("a,points\n" + rows)
    said = hansa("init learn --data mine.csv --label points")
    assert "--set data.task=classification, or --set data.task=regression" in said.err
    assert hansa("init learn --data mine.csv --label points --set data.task=regression").status == 0
    assert yaml.safe_load((tmp_path / "learn.yaml").read_text())["data"]["task"] == "regression"


def test_columns_that_can_be_no_input_are_left_out(hansa, tmp_path: Path) -> None:
    rows = "".join(f"{k},2024-01-{k % 28 + 1:02d},,{k % 7},{'ab'[k % 2]}\n" for k in range(60))
    (tmp_path / "mine.csv").write_text("id,day,empty,x,y\n" + rows)
    said = hansa("init learn --data mine.csv --label y --json")
    assert said.status == 0, said.err
    assert yaml.safe_load((tmp_path / "learn.yaml").read_text())["data"]["exclude"] == [
        "id", "day", "empty",
    ]  # fmt: skip
    assert "dates" in said.object["remarks"][1]
