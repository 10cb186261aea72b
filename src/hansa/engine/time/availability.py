"""When devices are there: always, by trace, by day and night, or on and off at random.

All of it is a function of the settings, the run's seed, the node and the time.
"""

from __future__ import annotations

import csv
import functools
import math
from abc import abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.engine.time.fedscale import read_availability
from hansa.engine.time.intervals import Intervals
from hansa.engine.time.memo import remembered


class Availability(Component, kind="availability"):
    """Which clients are there at which modelled time.

    Settings must be hashable (tuples, not lists): what they lead to is remembered.
    """

    def check(self, clients: int) -> None:
        """Refuse settings that cannot work for so many clients.

        Raises:
            ConfigError: naming field, value and fix.
            DataError: a file of times makes no sense.
        """

    @abstractmethod
    def online(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """Whether clients ``ids`` [k] are there at ``time`` [k] seconds, bool [k]."""

    @abstractmethod
    def leaves(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """When those that are there at ``time`` [k] next go away, s [k]; inf: never."""

    @abstractmethod
    def returns(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """The first moment from ``time`` [k] on at which each is there, s [k]; inf: never."""


@register("always")
class Always(Availability):
    """Everybody is always there."""

    def online(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        return np.ones(len(ids), dtype=bool)

    def leaves(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        return np.full(len(ids), np.inf)

    def returns(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        return np.array(time, dtype=np.float64)


class Timetable(Availability):
    """Clients that keep to the intervals of devices of a file."""

    @abstractmethod
    def load(self, streams: Streams, clients: int) -> tuple[Intervals, np.ndarray]:
        """The file's devices, and which of them each client is, int64 [clients]."""

    def check(self, clients: int) -> None:
        self.load(Streams(0), clients)

    def _table(self, streams: Streams, clients: int) -> tuple[Intervals, np.ndarray]:
        return remembered(streams, (self, clients), lambda: self.load(streams, clients))

    def online(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        intervals, device = self._table(streams, clients)
        return intervals.online(device[ids], time)

    def leaves(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        intervals, device = self._table(streams, clients)
        return intervals.leaves(device[ids], time)

    def returns(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        intervals, device = self._table(streams, clients)
        return intervals.returns(device[ids], time)


@register("fedscale", paper="Lai et al.", year=2022, url="https://arxiv.org/abs/2105.11367")
class FedScaleAvailability(Timetable):
    """FedScale's availability trace (``client_behave_trace``), each device by its own period.

    Online iff active[i] <= (t mod finish_time) <= inactive[i] for some i.
    """

    file: Path = Field(description="the pickle; nothing in it is run")
    draw: Literal["random", "order"] = Field(
        "random",
        description="random: each device at most once, by the run's seed; order: client i is "
        "device i modulo their number, as FedScale does",
    )
    bad: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do about devices whose times make no sense"
    )
    limit_mib: float = Field(512.0, gt=0, description="largest file that is read, MiB")

    def load(self, streams: Streams, clients: int) -> tuple[Intervals, np.ndarray]:
        stamp = self.file.stat().st_mtime_ns if self.file.is_file() else 0
        intervals = _read_trace(self.file, stamp, self.limit_mib, self.bad)
        count = len(intervals)
        if self.draw == "order":
            return intervals, np.arange(clients) % count
        if clients > count:
            problem = f"has {count} devices for {clients} clients"
            raise ConfigError("file", str(self.file), problem, "draw: order, which repeats them")
        return intervals, streams.numpy("availability").permutation(count)[:clients]


@functools.lru_cache(maxsize=2)
def _read_trace(
    path: Path, stamp: int, limit_mib: float, bad: Literal["refuse", "skip"]
) -> Intervals:
    return read_availability(path, limit_mib, bad)


@register("file")
class FileAvailability(Timetable):
    """A CSV file with columns node, from, to: seconds in which clients are there.

    Clients without a line are always there.
    """

    file: Path = Field(description="CSV with a header: node,from,to")
    repeat: float | None = Field(
        None, gt=0, description="seconds after which the file begins anew; none: never"
    )

    def load(self, streams: Streams, clients: int) -> tuple[Intervals, np.ndarray]:
        return self._read(clients), np.arange(clients)

    def _read(self, clients: int) -> Intervals:
        spans_of: list[list[tuple[float, float]]] = [[] for _ in range(clients)]
        end = self.repeat or math.inf
        try:
            with self.file.open(encoding="utf-8-sig", newline="") as lines:
                for number, row in enumerate(csv.DictReader(lines), start=2):
                    node, begin, to = self._line(number, row, clients)
                    if begin < end:
                        spans_of[node].append((begin, min(to, end)))
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise ConfigError("file", str(self.file), problem, "check the path") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.file}: not a CSV file: {error}") from None
        for node, spans in enumerate(spans_of):
            spans.sort()
            for (_, before), (begin, _) in pairwise(spans):
                if begin < before:
                    problem = f"node {node} begins at {begin:g} in a span that ends at {before:g}"
                    raise DataError(f"{self.file}: {problem}; join the two lines")
        listed = [spans or [(0.0, end)] for spans in spans_of]
        flat = np.array([span for spans in listed for span in spans]).reshape(-1, 2)
        counts = [len(spans) for spans in listed]
        return Intervals.of(counts, flat[:, 0], flat[:, 1], np.full(clients, end))

    def _line(
        self, number: int, row: dict[str, str | None], clients: int
    ) -> tuple[int, float, float]:
        where = f"{self.file}, line {number}"
        try:
            node, begin, to = (
                int(row["node"] or ""),
                float(row["from"] or ""),
                float(row["to"] or ""),
            )
        except (KeyError, ValueError):
            raise DataError(f"{where}: not node,from,to: {row}; see docs/devices.md") from None
        if not 0 <= node < clients:
            raise DataError(f"{where}: node {node} is none of the {clients} clients, from 0 on")
        if not (math.isfinite(begin) and 0 <= begin <= to):
            problem = f"node {node} from {begin:g} to {to:g}"
            raise DataError(f"{where}: {problem}: write 0 <= from <= to (to may be inf)")
        return node, begin, to
