"""Files that say what links are like: a matrix of a figure, and a trace over time."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hansa.base.errors import ConfigError

Rows: TypeAlias = list[tuple[float, int, dict[str, float]]]
"""Time in s, number of the line, and the figures that hold from then on."""
LIMITS = {
    "delay": (0.0, math.inf),
    "jitter": (0.0, math.inf),
    "rate": (0.0, math.inf),
    "burst": (1.0, math.inf),
    "loss": (0.0, 0.9),
    "resend": (0.0, math.inf),
    "duplicate": (0.0, 0.9),
    "corrupt": (0.0, 0.9),
}
"""Figures of a link, and the least and the largest that there may be."""


def read_matrix(name: str, path: Path) -> np.ndarray:
    """A figure of all links, float64 [senders, receivers]; what stands on the diagonal is not used.

    Lines of numbers parted by commas, semicolons or blanks; ``#`` begins a remark; ``inf`` is a
    number, for a rate without a limit.

    Raises:
        ConfigError: it cannot be read, is not square, or holds what cannot be.
    """
    field, lines = f"matrix.{name}", _lines(f"matrix.{name}", path)
    table = [[_number(field, path, at, word) for word in words] for at, words in lines]
    fix = "a line for each sender, in it a number for each receiver"
    for (at, _), row in zip(lines, table, strict=True):
        if len(row) != len(table):
            problem = f"line {at} has {len(row)} numbers, and there are {len(table)} lines"
            raise ConfigError(field, str(path), problem, fix)
    if not table:
        raise ConfigError(field, str(path), "is empty", fix)
    for i, (at, _) in enumerate(lines):
        for j, value in enumerate(table[i]):
            if i != j:
                _within(field, path, at, name, value, above=name == "rate")
    return np.array(table)


def read_trace(path: Path) -> dict[tuple[int | None, int | None], Rows]:
    """What holds from when on, by sender and receiver; None: any.

    The first line names the columns: ``time`` in seconds, ``from`` and ``to`` where links are told
    apart, and figures of links. An empty cell changes nothing.

    Raises:
        ConfigError: it cannot be read, names other columns, goes back in time, or holds what
            cannot be.
    """
    lines = _lines("trace", path, commas=True)
    fix = f"a first line of time and some of from, to, {', '.join(LIMITS)}"
    if not lines:
        raise ConfigError("trace", str(path), "is empty", fix)
    columns = [word.lower() for word in lines[0][1]]
    strange = [word for word in columns if word not in ("time", "from", "to", *LIMITS)]
    if strange or "time" not in columns or len({*columns}) < len(columns):
        problem = f"its columns are {', '.join(columns)}"
        raise ConfigError("trace", str(path), problem, fix)
    rows: dict[tuple[int | None, int | None], Rows] = {}
    for at, words in lines[1:]:
        if len(words) != len(columns):
            problem = f"line {at} has {len(words)} cells, and there are {len(columns)} columns"
            raise ConfigError("trace", str(path), problem, "a cell a column, empty: no change")
        cells = dict(zip(columns, words, strict=True))
        figures = {
            name: _number("trace", path, at, word)
            for name, word in cells.items()
            if word and name not in ("from", "to")
        }
        time = figures.pop("time", math.nan)
        if not 0 <= time < math.inf:
            raise ConfigError("trace", str(path), f"line {at} has no time", "seconds from 0")
        for name, value in figures.items():
            _within("trace", path, at, name, value)
        ends = (_node(path, at, cells.get("from", "")), _node(path, at, cells.get("to", "")))
        before = rows.setdefault(ends, [])
        if before and time < before[-1][0]:
            problem = f"line {at} is of {time:g} s, a line before it of {before[-1][0]:g} s"
            raise ConfigError("trace", str(path), problem, "lines ascending by time")
        before.append((time, at, figures))
    return rows


def _lines(field: str, path: Path, commas: bool = False) -> list[tuple[int, list[str]]]:
    """Lines that hold something, with their numbers, in words."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(field, str(path), "is not UTF-8 text", "a table of text") from None
    except OSError as error:
        problem = error.strerror or "cannot be read"
        raise ConfigError(field, str(path), problem, "the path of a table of text") from None
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].strip()
        if line and commas and re.search("[,;]", line):
            lines.append((number, [word.strip() for word in re.split("[,;]", line)]))
        elif line:
            lines.append((number, [word for word in re.split(r"[\s,;]+", line) if word]))
    return lines


def _number(field: str, path: Path, at: int, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        problem = f"line {at}: {word[:40]!r} is no number"
        raise ConfigError(field, str(path), problem, "numbers alone") from None


def _node(path: Path, at: int, word: str) -> int | None:
    if not word:
        return None
    if not word.isdecimal():
        problem = f"line {at}: {word[:40]!r} is no node"
        raise ConfigError("trace", str(path), problem, "nodes by number, from 0; empty: any")
    return int(word)


def _within(
    field: str, path: Path, at: int, name: str, value: float, *, above: bool = False
) -> None:
    """Refuse a figure that cannot be; ``above``: its least too."""
    least, most = LIMITS[name]
    endless = math.isinf(value) and name != "rate"
    if not least <= value <= most or endless or (above and value == least):
        ends = f"above {least:g}" if above else f"{least:g} or more"
        fix = ends if math.isinf(most) else f"{least:g} to {most:g}"
        raise ConfigError(field, str(path), f"line {at}: a {name} of {value:g}", fix)
