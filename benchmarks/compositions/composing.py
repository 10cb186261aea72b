"""What the rows of the table of compositions share: commands as a user gives them, and the page.

A row is a file ``composed_NAME.py`` with one :class:`Composition`, ``COMPOSITION``. Its ``measure``
runs commands for one seed and gives, by line, what each came to; the first line is the composition,
the others are its parts alone and the controls, at the same budget.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import COMMIT, RESULTS, machine

from hansa.cli import main as hansa_main

EXAMPLES = Path(__file__).parents[2] / "examples" / "compositions"
KEPT = RESULTS / "compositions"
"""The figures of each composition, from which the page and the picture are made."""
COLOURS = ["#b7410e", "#4c6a92"]
"""Of the composition, and of what stands beside it."""
Figures = dict[str, dict[str, float]]
"""By line and column."""


@dataclass(frozen=True)
class Column:
    """A figure of every line.

    Attributes:
        digits: behind the point.
        worst: which of several seeds is the worst.
    """

    title: str
    digits: int = 1
    worst: Callable[..., float] = min


class Measured:
    """What all seeds came to: by line and column, one number a seed."""

    def __init__(self, each: list[Figures]) -> None:
        self.each = each
        self.lines = list(each[0])

    def of(self, line: str, column: str) -> np.ndarray:
        """float64 [seeds]; NaN where a seed's run has no such figure."""
        return np.array([one[line].get(column, np.nan) for one in self.each])

    def mean(self, line: str, column: str) -> float:
        return float(self.of(line, column).mean())

    def gap(self, line: str, other: str, column: str) -> np.ndarray:
        """How far a line is above another, float64 [seeds]."""
        return self.of(line, column) - self.of(other, column)


@dataclass(frozen=True)
class Goal:
    """What is claimed of a composition, and whether it held.

    Attributes:
        measured: (what it came to, in words; whether that is what was wanted).
    """

    what: str
    wanted: str
    measured: Callable[[Measured], tuple[str, bool]]


def ahead(
    what: str, wanted: str, line: str, other: str, least: float = 0.0, column: str = "accuracy"
) -> Goal:
    """A goal: in every seed a line is above another by ``least`` points, or at most so far below
    if that is negative."""

    def said(m: Measured) -> tuple[str, bool]:
        gap = m.gap(line, other, column)
        held = gap.min() >= least if least else gap.min() > 0
        return f"{gap.mean():+.1f} ({gap.min():+.1f}) points", bool(held)

    return Goal(what, wanted, said)


@dataclass(frozen=True)
class Composition:
    """A row of the table.

    Attributes:
        name: of it, of its file here and of its run files in ``examples/compositions``.
        command: what a user types for the first line.
        text: what is combined, on what, and what the other lines are.
        columns: the figures, by their key; the first is the one of the picture.
        measure: commands of one seed.
    """

    name: str
    title: str
    command: str
    text: str
    columns: Mapping[str, Column]
    measure: Callable[[Bench, int], Figures]
    goals: tuple[Goal, ...] = ()


@dataclass
class Bench:
    """Where the commands of one seed are given.

    Attributes:
        folder: empty at first; runs go below it.
        smoke: whether it only has to be seen that they run, as short as ``small``.
        here: whether commands run in this process, which spares them the time to start.
    """

    folder: Path
    smoke: bool = False
    here: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def hansa(
        self, *words: str | Path, small: str = "", statuses: tuple[int, ...] = (0,)
    ) -> dict[str, Any]:
        """What a command prints with ``--json``.

        Args:
            small: settings of a smoke run, ``key=value`` between blanks.
            statuses: how it may end; 1 is an incomplete request to forget.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        line = [str(word) for word in words] + ["--json"]
        if self.smoke:
            line += [word for pair in small.split() for word in ("--set", pair)]
        if self.smoke or self.here:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), self._set():
                status = hansa_main(line)
            said, why = out.getvalue(), err.getvalue()
        else:
            done = subprocess.run(
                [sys.executable, "-m", "hansa.cli", *line],
                cwd=self.folder, env=os.environ | self.environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            status, said, why = done.returncode, done.stdout, done.stderr
        if status not in statuses:
            raise RuntimeError(f"hansa {' '.join(line)}: {status}\n{why}")
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    def learn(
        self, file: str, line: str, seed: int, *settings: str, small: str = ""
    ) -> dict[str, Any]:
        """``hansa learn`` of a run file of ``examples/compositions``, with settings of a line."""
        pairs = [word for pair in settings for word in ("--set", pair)]
        out = self.folder / line.replace(" ", "_").replace(",", "").replace("/", "_")
        words = ["learn", EXAMPLES / file, "--seed", str(seed), "--out", out, "--no-report"]
        return self.hansa(*words, *pairs, small=small)

    @contextlib.contextmanager
    def serving(self, *words: str | Path) -> Iterator[str]:
        """A command that serves, from when it says where until the block ends: its address."""
        with self.serving_all([list(words)]) as addresses:
            yield addresses[0]

    @contextlib.contextmanager
    def serving_all(self, commands: Sequence[Sequence[str | Path]]) -> Iterator[list[str]]:
        """Several commands that serve, begun at once: their addresses, in order."""
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "hansa.cli", *map(str, words)],
                cwd=self.folder, env=os.environ | self.environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for words in commands
        ]  # fmt: skip
        try:
            addresses = []
            for process, words in zip(processes, commands, strict=True):
                assert process.stdout is not None
                said = process.stdout.readline()
                if "http://" not in said:
                    raise RuntimeError(f"hansa {words}: {said}{process.communicate()[1]}")
                addresses.append(said.split()[-1].partition("/v2")[0])
            yield addresses
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.communicate()

    @contextlib.contextmanager
    def _set(self) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update(self.environment)
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            yield
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)


def percent(answer: Mapping[str, Any], name: str = "accuracy") -> float:
    """A share among the last figures of a run, in percent."""
    return 100 * float(answer["final"][name])


def keep(composition: Composition, each: list[Figures], seeds: list[int]) -> None:
    """Write down what was measured."""
    KEPT.mkdir(parents=True, exist_ok=True)
    facts = {"commit": COMMIT, "machine": machine(), "seeds": seeds, "each": each}
    (KEPT / f"{composition.name}.json").write_text(json.dumps(facts, indent=1) + "\n")


def section(composition: Composition, each: list[Figures], made: str) -> str:
    """A composition's part of the page: its command, its table, what was wanted."""
    found = Measured(each)
    lines = [f"## {composition.title}", "", composition.text, "", f"    {composition.command}", ""]
    lines += [made, ""]
    header = ["", *(column.title for column in composition.columns.values())]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for line in found.lines:
        cells = [_cell(found.of(line, key), c) for key, c in composition.columns.items()]
        lines.append("| " + " | ".join([line, *cells]) + " |")
    if composition.goals:
        lines += ["", "| wanted | | measured | |", "|---|---|---|---|"]
    for goal in composition.goals:
        said, held = goal.measured(found)
        lines.append(f"| {goal.what} | {goal.wanted} | {said} | {'yes' if held else 'NO'} |")
    return "\n".join(lines) + "\n"


def _cell(values: np.ndarray, column: Column) -> str:
    if np.isnan(values).all():
        return ""
    kept = values[~np.isnan(values)]
    mean, worst = kept.mean(), column.worst(kept)
    return f"{mean:,.{column.digits}f} ({worst:,.{column.digits}f})"


def page(compositions: list[Composition]) -> str:
    """All that was kept, as one page.

    Raises:
        SystemExit: nothing was measured yet.
    """
    parts, commits = [], []
    for one in compositions:
        path = KEPT / f"{one.name}.json"
        if not path.exists():
            continue
        facts = json.loads(path.read_text())
        commits.append(facts["commit"])
        made = f"At commit {facts['commit']}, {facts['machine']}; "
        made += f"seeds {', '.join(map(str, facts['seeds']))}, mean (worst)."
        parts.append(section(one, facts["each"], made))
    if not parts:
        raise SystemExit("nothing was measured yet")
    head = ["# Compositions: what they gain and what they cost", ""]
    head += [f"`python benchmarks/compositions/table.py` at commit {commits[0]}", ""]
    head += ["Each part names the commit of its own figures; docs/compositions.md tells them.", ""]
    head += ["![Scores of all lines](compositions.png)", ""]
    return "\n".join([*head, *parts])


def draw(compositions: list[Composition], path: Path) -> None:
    """One panel a composition: each line's score, a point a seed and a bar for their mean."""
    import altair as alt
    import polars as pl

    from hansa.report.charts import save_png

    panels = []
    for one in compositions:
        file = KEPT / f"{one.name}.json"
        if not file.exists():
            continue
        found = Measured(json.loads(file.read_text())["each"])
        key, column = next(iter(one.columns.items()))
        rows = [
            {"line": line, "score": float(value), "first": k == 0}
            for k, line in enumerate(found.lines)
            for value in found.of(line, key)
        ]
        base = alt.Chart(pl.DataFrame(rows)).encode(
            alt.Y("line", sort=found.lines, title=None, axis=alt.Axis(labelLimit=330)),
            alt.Color("first", legend=None).scale(domain=[True, False], range=COLOURS),
        )  # fmt: skip
        score = alt.X("score", title=column.title).scale(zero=False, nice=True)
        means = base.mark_tick(thickness=3, size=14).encode(score.aggregate("mean"))
        points = base.mark_circle(opacity=0.6, size=45).encode(score)
        size = {"width": 420, "height": 22 * len(found.lines) + 20}
        panels.append((points + means).properties(title=one.title, **size))
    save_png(alt.vconcat(*panels), path)
