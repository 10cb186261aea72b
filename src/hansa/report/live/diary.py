"""What a run's diary says so far: its last lines in words, and the faults, counted."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.report.folder import EVENTS
from hansa.report.live.nodes import Nodes, node_ids
from hansa.report.live.tail import Tail
from hansa.report.live.track import Track
from hansa.report.units import label, number

_FAULTS = ("missing", "lost", "failed", "diverged", "worker lost", "damaged")
_KEPT = 100  # lines, of missing messages and of all else
_MARKS, _ROUNDS = 64, 1 << 53
_SHOWN = 6  # entries of a list in a line
_LONG = 300  # characters of a line


class Diary:
    """Follows the diary of a run and counts what befell its nodes.

    A run that is resumed says after which round it goes on: what happened later counts no more.

    Attributes:
        nodes: where faults are counted by node.
        faults: messages that were ``missing`` by cause, nodes ``lost`` and ``rejoined``.
        missed: messages that had not come by a round, by cause, so far.
        marks: (round, kind) of the last times that nodes were lost or came back.
        began: time of the first line after the last resume, ISO 8601.
    """

    def __init__(self, path: Path, nodes: Nodes) -> None:
        self.nodes = nodes
        self._tail = Tail(path / EVENTS)
        self._cuts: list[tuple[int, int]] = []
        self._begin()

    def _begin(self) -> None:
        self.faults: Counter[str] = Counter()
        self.missed = {"lost on the way": Track(), "sender silent": Track()}
        self.marks: deque[tuple[int, str]] = deque(maxlen=_MARKS)
        self.began = self.ended = self.error = ""
        self._read = 0
        self._lines: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._missing: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self.nodes.clear_faults()

    def update(self) -> tuple[bool, bool]:
        """(whether there are new lines, whether measurements were taken back meanwhile)."""
        news = back = False
        while True:
            cuts = len(self._cuts)
            for event in self._tail.read():
                news = True
                self._take(event)
            if len(self._cuts) == cuts:
                return news, back
            back = True
            self._tail.rewind()
            self._begin()

    def _take(self, event: dict[str, Any]) -> None:
        at = self._read
        self._read += 1
        kind, round = str(event.get("kind", "")), event.get("round")
        if kind == "truncated":
            after = event.get("after_round")
            if type(after) is int and (at, after) not in self._cuts:
                self._cuts.append((at, after))
        elif kind == "resumed":
            self.began, self.ended, self.error = str(event.get("time", "")), "", ""
        elif kind == "ended":
            self.ended = str(event.get("time", ""))
        elif kind == "failed":
            self.error = str(event.get("error", ""))
        if type(round) is int and any(at < cut and round > after for cut, after in self._cuts):
            return
        self._count(kind, event)
        line = {
            "time": str(event.get("time", "")),
            "kind": label(kind)[:80],
            "text": told(event),
            "fault": kind in _FAULTS,
        }
        (self._missing if kind == "missing" else self._lines).append((at, line))

    def _count(self, kind: str, event: Mapping[str, Any]) -> None:
        self.nodes.happened(event)
        if kind == "missing":
            cause = "silent" if event.get("cause") == "silent" else "missing"
            self.faults[cause] += len(node_ids(event.get("receivers")))
            track = self.missed["sender silent" if cause == "silent" else "lost on the way"]
            self._at_round(event, lambda round: track.add(round, self._sum(cause), whole=True))
        elif kind in ("lost", "rejoined"):
            self.faults[kind] += len(node_ids(event.get("nodes")))
            self._at_round(event, lambda round: self.marks.append((round, kind)))
        elif kind == "worker lost":
            self.faults[kind] += 1

    def _sum(self, cause: str) -> np.ndarray:
        return np.array([self.faults[cause]], np.float64)

    @staticmethod
    def _at_round(event: Mapping[str, Any], note: Callable[[int], None]) -> None:
        round = event.get("round")
        if type(round) is int and 0 <= round < _ROUNDS:
            note(round)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The last lines, the newest first: time, kind, text, and whether it is a fault."""
        every = sorted([*self._lines, *self._missing], key=lambda line: -line[0])
        return [line for _, line in every[:_KEPT]]


def told(event: Mapping[str, Any]) -> str:
    """An event in a line, without its time and kind."""
    if event.get("kind") == "missing":
        return _missing(event)
    rest = [(k, v) for k, v in event.items() if k not in ("time", "kind")]
    return ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in rest)[:_LONG]


def _missing(event: Mapping[str, Any]) -> str:
    senders, receivers = node_ids(event.get("senders")), node_ids(event.get("receivers"))
    pairs = [f"{a} → {b}" for a, b in zip(senders, receivers, strict=False)]
    more = f" and {number(len(pairs) - _SHOWN)} more" if len(pairs) > _SHOWN else ""
    why = "the sender was silent" if event.get("cause") == "silent" else "lost on the way"
    where = f"round {event.get('round')}: "
    return f"{where}{', '.join(pairs[:_SHOWN])}{more} ({why}, {event.get('outcome')})"[:_LONG]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        more = f" … {number(len(value))} in all" if len(value) > _SHOWN else ""
        return ", ".join(map(_plain, value[:_SHOWN])) + more
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
