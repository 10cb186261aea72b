"""The whole way through the command: trained or taken from a run, compiled, served, asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hansa.cli.app import app
from hansa.experiment.settings_file import files
from hansa.infer.private.private_file import PrivateFile
from hansa.report import RunFolder
from hansa.report.page import page_of

SMALL = ["--set", "model={name: mlp, hidden: [24]}", "--set", "train.epochs=2"]


def demo(*arguments: str) -> tuple[int, dict[str, Any]]:
    """(exit status, the object) of a run."""
    told = CliRunner().invoke(app, ["infer", "private", "demo", *arguments, "--json", "--quiet"])
    return told.exit_code, json.loads(told.stdout.splitlines()[-1])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HANSA_DATA", raising=False)


def test_answers_are_those_of_the_integers_and_figures_are_there() -> None:
    status, data = demo(*SMALL, "--set", "queries=5")
    assert status == 0, data
    final = data["final"]
    assert final["mismatches"] == 0
    assert final["queries"] == 5
    assert final["rounds"] == 2
    assert final["requests"] == 10
    for name in ("accuracy", "accuracy_plain"):
        assert 0 <= final[name] <= 1
    assert final["bytes_up"] > 5 * 2 * 4096 * 8
    assert final["bytes_down"] > 0
    assert final["flooding_bits"] >= 60
    assert final["failure_log2"] <= -40
    assert final["cpu_seconds"] == pytest.approx(final["client_seconds"] + final["server_seconds"])
    assert data["certificate"]["distance_log2"] < -40

    folder = RunFolder.open(data["run_dir"])
    assert type(page_of(folder)).name == "private_inference"
    text = (folder.path / "report.html").read_text()
    for words in ("2609.12911", "2605.04901", "semi-honest client", "not audited"):
        assert words in text
    assert not list(folder.path.rglob("*.pem"))  # keys stay with no run


def test_a_run_of_learn_is_served_in_mode_shares(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["learn", "fedavg", "--set", "nodes=4", "--set", "rounds=2", "--set",
              "model={name: mlp, hidden: [16]}", "--out", "trained", "--no-report", "--quiet"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    status, data = demo("--set", "run=trained", "--set", "mode=shares", "--set", "queries=3",
                        "--out", "asked")  # fmt: skip
    assert status == 0, data
    assert data["final"]["mismatches"] == 0
    assert data["final"]["rounds"] == 4
    assert data["scheme"]["reveals"] == "class"
    assert "garbled circuits" in (tmp_path / "asked" / "report.html").read_text()


def test_a_spent_budget_ends_it_and_what_was_answered_counts() -> None:
    status, data = demo(*SMALL, "--set", "mode=budget", "--set", "queries=14", "--set",
                        "model.hidden=[12]")  # fmt: skip
    assert status == 0, data
    final = data["final"]
    assert final["refused"] == "budget"  # 10 outputs a query of 130 unknowns, half of them
    assert final["queries"] == 6
    assert final["mismatches"] == 0
    assert final["bytes_down"] > 0


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from hansa.infer.private import run

    plain = run.ask_child

    def cut_short(program, chosen, rows, asked, keep, say):  # type: ignore[no-untyped-def]
        plain(program, chosen, rows[:2], asked, keep, say)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "ask_child", cut_short)
        status, _ = demo(*SMALL, "--set", "queries=4", "--out", "cut")
    assert status == 130
    kept = RunFolder.open("cut").summary or {}
    assert kept["status"] == "interrupted"
    assert kept["final"]["queries"] == 2
    status, data = demo("--resume", "cut")
    assert status == 0, data
    assert data["final"]["queries"] == 4
    assert data["final"]["mismatches"] == 0
    assert demo("--resume", "cut")[0] == 2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (["hides=element"], "hides"),
        (["mode=shares", "packing=batch"], "packing"),
        (["average=true"], "average"),
        (["run=no_such_run"], "run"),
        (["mode=none"], "mode"),
        (["profile=n1024"], "profile"),
        (["weights=40"], "weights"),
        (["queries=0"], "queries"),
        (["model=resnet8_gn", "train.epochs=1"], ""),
    ],
)
def test_bad_settings_name_their_field(settings: list[str], field: str, tmp_path: Path) -> None:
    arguments = [word for one in settings for word in ("--set", one)]
    status, data = demo(*arguments)
    assert status == 2, data
    if field:
        assert data["error"]["field"] == field
        assert not list(tmp_path.glob("runs/*/config.yaml"))
    else:
        assert "GroupNorm" in data["error"]["message"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--set", "model=gn_lenet"], "GroupNorm"),
        (["--set", "model=femnist_cnn", "--set", "mode=budget"], "no budget is below"),
    ],
)
def test_what_cannot_be_asked_is_told_before_any_training(settings: list[str], said: str) -> None:
    status, data = demo(*settings)
    assert status != 0
    assert said in data["error"]["message"]
    assert not list(Path().rglob("training"))
    assert not list(Path().rglob("config.yaml"))


def test_the_plan_of_a_file_is_shown() -> None:
    Path("private.yaml").write_text("verb: private\nmodel: {name: mlp, hidden: [24]}\n")
    told = CliRunner().invoke(app, ["check", "private.yaml", "--json"])
    data = json.loads(told.stdout)
    assert (data["requests"], data["mode"], data["profile"]) == (2, "shuffle", "n4096")
    assert not list(Path().rglob("training"))


def test_the_shipped_example_is_the_default() -> None:
    path = Path(__file__).parents[3] / "examples" / "digits_private.yaml"
    assert PrivateFile.load(path).dump() == PrivateFile.parse({}).dump()
    assert files()["private"] is PrivateFile
