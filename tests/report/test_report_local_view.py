"""What a terminal shows of a run of its own process."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hansa.report.live.own_terminal import WORST, LocalView
from hansa.report.live.sparks import round_bar, spark

COMMAND = "learn dpsgd --set nodes=6 --set rounds=3 --set evaluate.every=1 --set model.hidden=[4]"


def drawn(view: LocalView, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200), st.integers(4, 40))
def test_a_spark_is_no_wider_than_it_may_be_and_ends_as_its_values_do(values, width) -> None:
    line = spark(values, width)
    if max(values) == min(values):
        assert line == ""
    else:
        assert len(line) <= width
    rising = spark(list(range(width)), width)
    assert list(rising) == sorted(rising)
    assert spark([1.0], width) == ""


@given(st.integers(0, 500), st.integers(1, 400), st.integers(8, 60))
def test_a_bar_is_full_when_all_rounds_are_done(done: int, rounds: int, width: int) -> None:
    text = round_bar(done, rounds, width, "cyan").plain
    assert len(text) == width
    assert (text.count("━") == width) >= (done >= rounds)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_view_has_mean_worst_and_what_was_spent_and_fits(width: int) -> None:
    view = LocalView()
    assert "preparing" in drawn(view, width)
    view.rounds, view.time, view.doing = 50, "3.0 s, 10.0 s left", "training"
    for done in range(12):
        view.done = done
        view.take({"accuracy": done / 20, "accuracy" + WORST: done / 40, "bytes_sent": 2e6 * done})
    view.take({"bytes_sent": 5e7, "energy_joules": 12.0})  # a round without measurements
    lines = drawn(view, width).splitlines()
    assert all(len(line) <= width for line in lines)
    if width >= 80:
        text = "\n".join(lines)
        assert "round 11 of 50" in text
        assert "55.00 %" in text
        assert "worst 27.50 %" in text
        assert "50.0 MB sent, 12.0 J modelled energy" in text
        assert "10.0 s left" in lines[0]


def test_a_terminal_is_drawn_on_and_quiet_leaves_it_alone(tmp_path: Path) -> None:
    for quiet in (False, True):
        end, child_end = pty.openpty()
        line = [sys.executable, "-m", "hansa.cli", *COMMAND.split(), "--out", f"run_{quiet}"]
        line += ["--no-report", *(["--quiet"] if quiet else [])]
        child = subprocess.Popen(
            line, cwd=tmp_path, stderr=child_end, stdout=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
        )  # fmt: skip
        os.close(child_end)
        said = b""
        while child.poll() is None or select.select([end], [], [], 0)[0]:
            if select.select([end], [], [], 1.0)[0]:
                try:
                    said += os.read(end, 65536)
                except OSError:  # the other end is closed
                    break
        os.close(end)
        assert child.wait() == 0, said
        assert (b"round" in said) is not quiet
