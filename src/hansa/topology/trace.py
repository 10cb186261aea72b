"""Time-varying graphs from a file: contact and mobility traces, read and checked before the start.

A file is text, one record a line, fields parted by blanks, tabs, commas or semicolons; ``#``,
lines with ``%`` and a first line of words are skipped. Three forms, as they are found in public
collections:

- ``contacts``, ``t i j``: i and j met at time t (SocioPatterns, which adds further columns).
- ``intervals``, ``i j from to``: they were in contact so long (Haggle and others in CRAWDAD).
- ``positions``, ``t node x y``: where a node was; those within ``radius`` of each other hear each
  other (GPS and simulator traces, such as BonnMotion's).

Times are in seconds (or anything, with ``seconds_per_round`` in the same unit); the first time
of the file is the start of round 0, and whoever met within a round's window hears the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology
from hansa.topology.tracefile import NODES_AT, TraceFormat, read_records

LONGEST = 1_000_000
"""Rounds that an interval, or a trace with its gaps, may last."""


@dataclass(frozen=True)
class Meetings:
    """Pairs by round: int64 arrays of one length, ascending by round; and how many rounds."""

    rounds: np.ndarray
    low: np.ndarray
    high: np.ndarray
    length: int


@register("trace")
class Trace(Topology):
    """Who met whom in which round, from a file of contacts or positions."""

    path: Path = Field(description="the file")
    format: TraceFormat = Field("contacts", description="contacts, intervals or positions")
    seconds_per_round: float = Field(1.0, gt=0, description="time of the trace that a round takes")
    radius: float | None = Field(None, gt=0, description="reach of a node (positions only)")
    after: Literal["cycle", "hold"] = Field(
        "cycle", description="at the end of the trace: from the start again, or stay as it was last"
    )
    gaps: Literal["refuse", "keep", "skip"] = Field(
        "refuse", description="rounds without a record: an error, a round alone, or left out"
    )
    renumber: bool = Field(
        False, description="the file's node names are any numbers; number them in ascending order"
    )

    @property
    def changing(self) -> bool:
        """Each round has its own contacts."""
        return True

    def check(self, nodes: int) -> None:
        """The file must be well formed, without gaps, and name the run's nodes and no others."""
        super().check(nodes)
        if (self.radius is None) == (self.format == "positions"):
            raise ConfigError(
                "radius",
                self.radius,
                "is needed for positions, and for them only",
                "radius: how near is near, in the file's unit"
                if self.radius is None
                else "format: positions, or no radius",
            )
        self._meetings(nodes)

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The contacts of a round, both ways."""
        meetings = self._meetings(nodes)
        at = round % meetings.length if self.after == "cycle" else min(round, meetings.length - 1)
        span = slice(*np.searchsorted(meetings.rounds, [at, at + 1]))
        return Graph.from_edges(nodes, meetings.low[span], meetings.high[span], symmetric=True)

    def _meetings(self, nodes: int) -> Meetings:
        try:
            changed = self.path.stat()
            return _load(self, nodes, changed.st_mtime_ns, changed.st_size)
        except OSError as error:
            problem = error.strerror or "cannot be read"
            raise self._wrong(problem, "give the path of a trace file") from None
        except ValueError as error:
            problem, _, fix = str(error).partition("|")
            raise self._wrong(problem, fix or f"see the {self.format} format") from None

    def _wrong(self, problem: str, fix: str) -> ConfigError:
        return ConfigError("path", str(self.path), problem, fix)


@lru_cache(maxsize=8)
def _load(trace: Trace, nodes: int, changed: int, size: int) -> Meetings:
    """A trace's meetings; ``changed`` and ``size`` tell one version of the file from the next.

    Raises:
        ValueError: "what is wrong|the way out".
    """
    records = read_records(trace.path, trace.format)
    names = _numbered(records[:, list(NODES_AT[trace.format])], nodes, trace.renumber)
    times = records[:, 2:4] if trace.format == "intervals" else records[:, [0, 0]]
    window = np.floor((times - times.min()) / trace.seconds_per_round).astype(np.int64)
    if trace.format == "positions":
        return _moving(trace, nodes, records, names[:, 0], window[:, 0])
    low, high = names.min(axis=1), names.max(axis=1)
    if (low == high).any():
        raise ValueError(f"node {low[int((low == high).argmax())]} meets itself|drop such lines")
    lasting = window[:, 1] - window[:, 0] + 1
    if lasting.min() < 1:
        raise ValueError(f"record {int(lasting.argmin()) + 1} ends before it begins|i j from to")
    if lasting.max() > LONGEST or lasting.sum() > 100 * LONGEST:
        raise ValueError("lasts too many rounds|a longer seconds_per_round")
    begins = np.repeat(window[:, 0] - np.cumsum(lasting) + lasting, lasting)
    each = begins + np.arange(lasting.sum())
    low, high = np.repeat(low, lasting), np.repeat(high, lasting)
    rounds, windows = _rounds(each, trace)
    order = np.argsort(rounds, kind="stable")
    return Meetings(rounds[order], low[order], high[order], len(windows))


def _moving(
    trace: Trace, nodes: int, records: np.ndarray, names: np.ndarray, window: np.ndarray
) -> Meetings:
    """Who is near whom, where ``names[k]`` was at ``records[k]`` in window ``window[k]``."""
    times = records[:, 0]
    rounds, windows = _rounds(window, trace)
    assert trace.radius is not None
    last = np.full((nodes, 2), np.nan)
    parts = []
    # The last position that a node has in a window counts.
    order = np.lexsort((times, rounds))
    starts = np.searchsorted(rounds[order], np.arange(len(windows) + 1))
    for t, at in enumerate(windows):
        rows = order[starts[t] : starts[t + 1]]
        placed = np.zeros(nodes, dtype=bool)
        placed[names[rows]] = True
        last[names[rows]] = records[rows, 2:4]
        unknown = np.flatnonzero(np.isnan(last[:, 0]))
        missing = np.flatnonzero(~placed) if trace.gaps == "refuse" else unknown
        if len(missing):
            raise ValueError(
                f"node {missing[0]} has no position in round {at}|"
                + (
                    "gaps: keep, where it stays, or a longer seconds_per_round"
                    if not len(unknown)
                    else "give every node a position in the first round"
                )
            )
        low, high = _near(last, trace.radius)
        parts.append(np.stack([np.full(len(low), t), low, high]))
    met = np.concatenate(parts, axis=1)
    return Meetings(met[0], met[1], met[2], len(windows))


def _rounds(windows: np.ndarray, trace: Trace) -> tuple[np.ndarray, range | np.ndarray]:
    """(round of each record, the window that each round is) once gaps are dealt with."""
    seen, place = np.unique(windows, return_inverse=True)
    holes = np.flatnonzero(np.diff(seen) > 1)
    if trace.gaps == "refuse" and len(holes):
        first = int(seen[holes[0]]) + 1
        raise ValueError(
            f"nothing is recorded in {seen[-1] + 1 - len(seen)} rounds, first in rounds {first} to "
            f"{int(seen[holes[0] + 1]) - 1}|gaps: skip or keep, or a longer seconds_per_round"
        )
    if trace.gaps != "keep":
        return place, seen
    if seen[-1] >= LONGEST:
        raise ValueError(f"lasts {seen[-1] + 1} rounds|gaps: skip, or a longer seconds_per_round")
    return windows, range(int(seen[-1]) + 1)


def _numbered(names: np.ndarray, nodes: int, renumber: bool) -> np.ndarray:
    """The nodes of each record as 0..nodes-1."""
    if (names != np.floor(names)).any() or (names < 0).any():
        wrong = names[(names != np.floor(names)) | (names < 0)][0]
        raise ValueError(f"node {wrong:g} is not a whole number from 0 on|name nodes by numbers")
    distinct, place = np.unique(names, return_inverse=True)
    if len(distinct) > nodes or (not renumber and distinct[-1] >= nodes):
        fix = "" if renumber or len(distinct) > nodes else ", or renumber: true"
        if len(distinct) > nodes:
            raise ValueError(
                f"names {len(distinct)} nodes, the run has {nodes}|nodes: {len(distinct)}"
            )
        raise ValueError(
            f"names node {distinct[-1]:g}, the run has 0..{nodes - 1}|number from 0{fix}"
        )
    if len(distinct) < nodes:
        raise ValueError(f"names only {len(distinct)} of the {nodes} nodes|nodes: {len(distinct)}")
    return place.reshape(names.shape)


def _near(positions: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs low < high at most ``radius`` apart."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(positions).query_pairs(radius, output_type="ndarray")
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
