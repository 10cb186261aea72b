"""Devices that come and go at random: with day and night, or each for itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine.time.availability import Availability
from hansa.engine.time.memo import remembered

_CHUNK = 64  # changes of state that are drawn at a time
_HORIZON = 3  # periods that are searched for the next change
_SLOTS = 4096  # slots that are remembered


class _Switches:
    """Times at which nodes change between there and away, as far as they were drawn.

    Attributes:
        row: int64 [clients], the row of each client that was asked about, or -1.
        first: bool [rows], whether it is there at time 0.
        times: float64 [rows, columns], s, ascending; inf where nothing was drawn yet.
        drawn: int64 [rows], how many times were drawn.
    """

    def __init__(self, clients: int) -> None:
        self.row = np.full(clients, -1, dtype=np.int64)
        self.first = np.zeros(0, dtype=bool)
        self.times = np.zeros((0, _CHUNK))
        self.drawn = np.zeros(0, dtype=np.int64)

    def open(self, clients: np.ndarray, first: np.ndarray) -> None:
        """Rows for clients that had none."""
        self.row[clients] = len(self.first) + np.arange(len(clients))
        self.first = np.concatenate([self.first, first])
        fresh = np.full((len(clients), self.times.shape[1]), np.inf)
        self.times = np.concatenate([self.times, fresh])
        self.drawn = np.concatenate([self.drawn, np.zeros(len(clients), dtype=np.int64)])

    def last(self, rows: np.ndarray) -> np.ndarray:
        """The last time that was drawn of each row; -inf: none was."""
        drawn = self.drawn[rows]
        return np.where(drawn > 0, self.times[rows, np.maximum(drawn - 1, 0)], -np.inf)

    def append(self, row: int, times: np.ndarray) -> None:
        """What was drawn next of a row."""
        begin, end = int(self.drawn[row]), int(self.drawn[row]) + len(times)
        if end > self.times.shape[1]:
            more = np.full((len(self.times), max(end, 2 * self.times.shape[1])), np.inf)
            more[:, : self.times.shape[1]] = self.times
            self.times = more
        self.times[row, begin:end], self.drawn[row] = times, end

    def past(self, rows: np.ndarray, time: np.ndarray) -> np.ndarray:
        """How many changes of each row [k] are not after its ``time`` [k]: a binary search.

        Each time is before the last that was drawn of its row.
        """
        low, high = np.zeros(len(rows), dtype=np.int64), self.drawn[rows]
        while (low < high).any():
            middle = (low + high) // 2
            before = (low < high) & (self.times[rows, middle] <= time)
            high = np.where((low < high) & ~before, middle, high)
            low = np.where(before, middle + 1, low)
        return low


@register("periods")
class Periods(Availability):
    """Each client by itself there and away for exponential times, in equilibrium from the start."""

    there: float = Field(3600.0, gt=0, description="mean seconds for which a client is there")
    away: float = Field(3600.0, gt=0, description="mean seconds for which it is away")

    def online(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        return self._next(streams, clients, ids, time)[0]

    def leaves(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        online, change = self._next(streams, clients, ids, time)
        return np.where(online, change, time)

    def returns(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        online, change = self._next(streams, clients, ids, time)
        return np.where(online, time, change)

    def _next(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(is it there, when does that change), [k] and [k]."""
        switches = remembered(streams, (self, clients), lambda: _Switches(clients))
        fresh = np.unique(ids[switches.row[ids] < 0])
        if len(fresh):
            share = self.there / (self.there + self.away)
            begins = [streams.numpy("availability", i).random() < share for i in fresh.tolist()]
            switches.open(fresh, np.array(begins))
        rows = switches.row[ids]
        while (short := switches.last(rows) <= time).any():
            for i in np.unique(ids[short]).tolist():
                self._extend(streams, i, switches)
        past = switches.past(rows, time)
        return switches.first[rows] ^ (past % 2).astype(bool), switches.times[rows, past]

    def _extend(self, streams: Streams, i: int, switches: _Switches) -> None:
        row = int(switches.row[i])
        draws = streams.numpy("availability", i, int(switches.drawn[row]) // _CHUNK)
        means = [self.there, self.away] if switches.first[row] else [self.away, self.there]
        last = switches.times[row, switches.drawn[row] - 1] if switches.drawn[row] else 0.0
        steps = draws.exponential(size=_CHUNK) * np.tile(means, _CHUNK // 2)
        switches.append(row, last + np.cumsum(steps))


@register("diurnal")
class Diurnal(Availability):
    """Day and night, after the churn of the Decentralized Learning Simulator.

    The share of clients that are there follows a sine from ``low`` to ``high``. In a time slot each
    client scores sin(2 pi t / period + phase), its phase drawn once, plus Beta(2, 5) less its mean
    2/7, drawn in every slot; the clients with the highest scores are there.
    """

    low: float = Field(0.2, ge=0, le=1, description="least share of clients that are there")
    high: float = Field(0.8, ge=0, le=1, description="greatest share of clients that are there")
    period: float = Field(86400.0, gt=0, description="seconds from one peak to the next")
    step: float = Field(600.0, gt=0, description="seconds for which nobody comes or goes")

    def check(self, clients: int) -> None:
        if self.low > self.high:
            raise ConfigError("low", self.low, f"is above high = {self.high:g}", "swap the two")
        if self.step > self.period / 2:
            problem = f"is more than half a period of {self.period:g}"
            raise ConfigError("step", self.step, problem, f"at most {self.period / 2:g}")
        if round(self.high * clients) == 0:
            problem = f"of {clients} clients is nobody"
            raise ConfigError("high", self.high, problem, f"at least {1 / clients:.3g}")

    def online(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        return self._there(streams, clients, ids, (time // self.step).astype(np.int64))

    def leaves(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """Searches three periods; inf beyond."""
        online = self.online(streams, clients, ids, time)
        leaves = self._search(time, online, lambda k, s: ~self._there(streams, clients, ids[k], s))
        return np.where(online, leaves, time)

    def returns(
        self, streams: Streams, clients: int, ids: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """Searches three periods; inf beyond."""
        online = self.online(streams, clients, ids, time)
        returns = self._search(time, ~online, lambda k, s: self._there(streams, clients, ids[k], s))
        return np.where(online, time, returns)

    def _search(
        self,
        time: np.ndarray,
        wanted: np.ndarray,
        happens: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """When it first happens in a later slot, s [k], for those who are ``wanted``."""
        first, slots = np.full(len(time), np.inf), (time // self.step).astype(np.int64)
        seek = np.flatnonzero(wanted)
        for ahead in range(1, int(_HORIZON * self.period / self.step) + 1):
            if not len(seek):
                break
            hit = happens(seek, slots[seek] + ahead)
            first[seek[hit]] = (slots[seek[hit]] + ahead) * self.step
            seek = seek[~hit]
        return first

    def _there(
        self, streams: Streams, clients: int, ids: np.ndarray, slots: np.ndarray
    ) -> np.ndarray:
        online_in: dict[int, np.ndarray] = remembered(streams, (self, clients), dict)
        online = np.zeros(len(ids), dtype=bool)
        for slot in np.unique(slots).tolist():
            if slot not in online_in:
                if len(online_in) >= _SLOTS:
                    online_in.clear()
                online_in[slot] = self._draw(streams, clients, slot)
            mine = slots == slot
            online[mine] = online_in[slot][ids[mine]]
        return online

    def _draw(self, streams: Streams, clients: int, slot: int) -> np.ndarray:
        """Who is there in a slot, bool [clients]."""
        phase = remembered(
            streams,
            ("diurnal phase", clients),
            lambda: streams.numpy("availability phase").random(clients) * 2 * np.pi,
        )
        angle = 2 * np.pi * slot * self.step / self.period
        share = self.low + (self.high - self.low) * (1 + np.sin(angle)) / 2
        beta = streams.numpy("availability slot", round=slot).beta(2, 5, size=clients)
        score = np.sin(angle + phase) + beta - 2 / 7
        online = np.zeros(clients, dtype=bool)
        online[np.argsort(-score, kind="stable")[: round(share * clients)]] = True
        return online
