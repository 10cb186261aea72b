"""An agent's ledger: every query is in it before it is sent, every answer once it came.

It is a file of JSON lines, each on the disk before anything else happens. A line holds the digest
of the one before and its own, so that a ledger that was changed afterwards shows. Kinds of lines:

- ``opened``: whose it is, the budget, and a digest of what is asked of;
- ``asking``: a call with its rows: from now on they are spent;
- ``answered``: its answers, 1, 0 or -1 refused;
- ``deferred``: the platform did not take it: the same call will be made again, and is spent once;
- ``again``: it is made again under its key, since it was not taken, or since the platform counts a
  key once;
- ``lost``: it is spent, and no answer will come.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hansa.audit.black_box import LOST, REFUSED
from hansa.base.errors import CheckpointError, RunError
from hansa.base.files import writing

_FIRST = "0" * 64


@dataclass
class Call:
    """A call that has no answer yet.

    Attributes:
        number: the call's, from 0; its key is made of it.
        state: on its way, or not taken by the platform.
        until: if it was not taken, when it may be made again, in seconds since 1970.
    """

    number: int
    rows: list[int]
    state: Literal["asking", "deferred"] = "asking"
    until: float = 0.0


@dataclass
class Ledger:
    """What one agent has asked and heard. Make one with :meth:`opened`.

    Attributes:
        answers: by row, what came of each query: 1, 0, -1 refused, -2 lost.
        pending: the call without an answer, if there is one.
        calls: how many calls there were.
        again: how often one that may have been taken was made again.
        head: digest of the last line.
        set_aside: where a last line went that was cut short, or None.
    """

    path: Path
    agent: str
    budget: int
    answers: dict[int, int] = field(default_factory=dict)
    pending: Call | None = None
    calls: int = 0
    again: int = 0
    head: str = _FIRST
    set_aside: Path | None = None
    _heads: set[str] = field(default_factory=set)
    _of: tuple[Any, ...] = ()
    _root: str = ""

    @classmethod
    def opened(cls, path: Path, agent: str, budget: int, of: str) -> Ledger:
        """A new ledger, or the one that is there.

        A last line that a crash cut short is moved to a file beside it: what it said had not
        happened yet.

        Args:
            of: digest of the population, the box and the agent.

        Raises:
            CheckpointError: a line does not follow from the one before, or it is of another audit.
            DiskError: it cannot be written.
        """
        ledger = cls(path, agent, budget)
        if path.exists():
            ledger._read()
        if ledger.head == _FIRST:
            ledger._write({"kind": "opened", "agent": agent, "budget": budget, "of": of})
        elif ledger._of != (agent, budget, of):
            raise CheckpointError(f"{path}: is the ledger of another audit")
        return ledger

    @property
    def spent(self) -> int:
        """Queries that were asked, whether or not they were answered."""
        return len(self.answers) + (len(self.pending.rows) if self.pending else 0)

    def key(self, number: int) -> str:
        """The key of a call, the same however often it is made, and no other call's anywhere."""
        return f"{self._root}-{number}"

    def count(self, answer: int) -> int:
        """How many queries came to this."""
        return sum(one == answer for one in self.answers.values())

    def asking(self, rows: Sequence[int]) -> Call:
        """Note a call before it is made.

        Raises:
            RunError: a row was asked before, or the budget does not reach. It is a last guard: no
                plan asks for that.
        """
        rows = [int(row) for row in rows]
        if self.pending is not None:
            raise RunError(f"{self.agent}: a call is without an answer", repeats=True)
        if twice := [row for row in rows if row in self.answers] or len(set(rows)) < len(rows):
            raise RunError(f"{self.agent} would ask twice about {twice}", repeats=True)
        if self.spent + len(rows) > self.budget:
            raise RunError(f"{self.agent} would ask more than {self.budget}", repeats=True)
        call = Call(self.calls, rows)
        self._write({"kind": "asking", "call": call.number, "rows": rows})
        return call

    def answered(self, call: Call, answers: np.ndarray) -> None:
        """Note the answers int8 [k] of a call."""
        said = [int(one) for one in answers]
        if len(said) != len(call.rows) or not set(said) <= {REFUSED, 0, 1}:
            raise RunError(f"{self.agent}: answers are 1, 0 or -1, one a query, not {said[:8]}")
        self._write({"kind": "answered", "call": call.number, "answers": said})

    def deferred(self, call: Call, why: str, wait: float = 0.0) -> None:
        """Note that the platform did not take a call, and for how many seconds it is to wait."""
        until = round(time.time() + wait, 3)
        self._write({"kind": "deferred", "call": call.number, "why": why, "until": until})

    def repeated(self, call: Call) -> None:
        """Note that a call is made again under its key."""
        self._write({"kind": "again", "call": call.number})

    def lost(self, call: Call, why: str) -> None:
        """Note that a call is spent and will not be answered."""
        self._write({"kind": "lost", "call": call.number, "why": why})

    def holds(self, head: str) -> bool:
        """Whether a line with this digest is in it."""
        return head in self._heads

    def _write(self, entry: dict[str, Any]) -> None:
        line = {"time": round(time.time(), 3), **entry, "before": self.head}
        line["digest"] = _digest(line)
        blob = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                if file.write(blob) != len(blob):
                    file.truncate(end)
                    raise OSError(28, os.strerror(28))
                os.fsync(file.fileno())
            if new:
                _sync_folder(self.path.parent)
        self._take(line)

    def _read(self) -> None:
        blob = self.path.read_bytes()
        ends = blob.endswith(b"\n") or not blob
        lines = blob.split(b"\n")[: -1 if ends else None]
        kept, last = 0, len(lines) - 1
        for number, text in enumerate(lines):
            line = _parsed(text)
            if number == last and (line is None or not ends):
                self._cut(blob, kept)
                return
            if line is None or line["before"] != self.head or line["digest"] != _digest(line):
                problem = f"line {number + 1} does not follow from the one before"
                fix = "the ledger was changed, and what it says cannot be relied on"
                raise CheckpointError(f"{self.path}: {problem}: {fix}")
            self._take(line)
            kept += len(text) + 1

    def _cut(self, blob: bytes, kept: int) -> None:
        """Move a last line that is not whole to a file of its own."""
        number = 0
        while (place := self.path.with_suffix(f".cut{number or ''}")).exists():
            number += 1
        with writing(place):
            place.write_bytes(blob[kept:])
            with self.path.open("r+b") as file:
                file.truncate(kept)
                os.fsync(file.fileno())
        self.set_aside = place

    def _take(self, line: dict[str, Any]) -> None:
        self.head = line["digest"]
        self._heads.add(self.head)
        match line["kind"]:
            case "opened":
                self._of = (line["agent"], line["budget"], line["of"])
                self._root = self.head[:20]
            case "asking":
                self.pending = Call(line["call"], line["rows"])
                self.calls += 1
            case "deferred":
                assert self.pending is not None
                self.pending.state, self.pending.until = "deferred", line["until"]
            case "again":
                assert self.pending is not None
                self.again += self.pending.state == "asking"
                self.pending.state = "asking"
            case "answered" | "lost":
                assert self.pending is not None
                rows = self.pending.rows
                said = line.get("answers") or [LOST] * len(rows)
                self.answers.update(zip(rows, said, strict=True))
                self.pending = None


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    whole = isinstance(line, dict) and {"kind", "before", "digest"} <= set(line)
    return line if whole else None


def _digest(line: dict[str, Any]) -> str:
    """SHA-256 of a line without its own digest; ``before`` chains it to all that came first."""
    rest = {key: value for key, value in line.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, separators=(",", ":")).encode()).hexdigest()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
