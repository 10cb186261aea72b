"""Tables of results as they are read to judge what papers claim."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from measure import RESULTS

from hansa.base.systems import VERDICTS

YES, DIFFERS, NO, OPEN = VERDICTS
Judgement = tuple[str, str]
"""(what was measured, in words; the verdict)."""


class Table:
    """The part of a page of results that one command made.

    Attributes:
        command, commit: how and from what it was made; commit is empty in old tables.
    """

    def __init__(self, name: str, script: str = "") -> None:
        self.name = name
        text = (RESULTS / f"{name}.md").read_text()
        parts = re.split(r"(?m)^(?=`python )", text)[1:]
        part = next(p for p in parts if script in p.partition("`\n")[0])
        made = re.match(r"`([^`]+)`(?: at commit (\w+))?", part)
        assert made is not None
        self.command, self.commit = made[1], (made[2] or "")[:10]
        lines = part.splitlines()
        self.rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in lines
            if line.startswith("|") and not line.startswith("|---")
        ]
        self.points = [line[2:] for line in lines if line.startswith("- ")]
        self.sentences = [line for line in lines if line and line[0] not in "|-`#"]

    def met(self, start: str) -> tuple[str, bool]:
        """(measured, whether reached) of the first goal that begins so: a row or a point."""
        for row in self.rows:
            if row[0].startswith(start) and row[-1].lower() in ("yes", "no"):
                return row[1], row[-1] == "yes"
        for point in self.points:
            found = re.search(r": (yes|NO)(?: \((.*)\))?$", point)
            if point.startswith(start) and found:
                inside = re.search(r"\(([^()]*)\): (?:yes|NO)", point)
                return found[2] or (inside[1] if inside else ""), found[1] == "yes"
        raise KeyError(f"{self.name}: no goal begins with {start!r}")

    def cell(self, column: str, *keys: str) -> float:
        """The first number in a column of the row whose first cells are these."""
        for at, row in enumerate(self.rows):
            if row[: len(keys)] == list(keys):
                head = next(h for h in reversed(self.rows[:at]) if column in h)
                return number(row[head.index(column)])
        raise KeyError(f"{self.name}: no row {keys} with {column!r}")

    def all(self, *starts: str) -> Judgement:
        """The judgement of several goals: yes where all are met, NO where none is."""
        told = [self.met(start) for start in starts]
        words = "; ".join(f"{s}: {m}" for s, (m, _) in zip(starts, told, strict=True))
        good = [ok for _, ok in told]
        return words, YES if all(good) else DIFFERS if any(good) else NO


def number(text: str) -> float:
    """The first number in a cell."""
    found = re.search(r"-?\d[\d,]*\.?\d*", text)
    if found is None:
        raise ValueError(f"no number in {text!r}")
    return float(found[0].replace(",", ""))


def size(words: str, got: float, direction: float, published: float) -> Judgement:
    """A figure that is yes from the published one on, and differs from where it points that way."""
    return words, YES if got >= published else DIFFERS if got > direction else NO


@dataclass(frozen=True)
class Claim:
    """What a paper says, and how one sees whether it is so.

    Attributes:
        table: name of the page of results, and what its command has in it.
        judge: reads that table; None: not measured, and ``why`` says why.
    """

    system: str
    published: str
    table: tuple[str, str] = ("", "")
    judge: Callable[[Table], Judgement] | None = None
    why: str = ""
