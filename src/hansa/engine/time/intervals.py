"""Times at which devices are there: closed intervals, repeated or not, asked about all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Intervals:
    """Device d is there from ``begins[e]`` to ``ends[e]`` inclusive, for e in its slice.

    Attributes:
        indptr: int64 [devices + 1].
        begins: float64 [intervals], s, ascending in each device and after the end before.
        ends: float64 [intervals], s.
        periods: float64 [devices], s, after which a device begins anew; inf: never.
    """

    indptr: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    periods: np.ndarray

    @classmethod
    def of(
        cls, counts: Sequence[int], begins: np.ndarray, ends: np.ndarray, periods: np.ndarray
    ) -> Intervals:
        """From how many intervals each device has. Intervals that touch are made one."""
        owner = np.repeat(np.arange(len(counts)), counts)
        touches = (owner[1:] == owner[:-1]) & (begins[1:] <= ends[:-1])
        first, last = np.append(True, ~touches), np.append(~touches, True)
        first, last = first[: len(begins)], last[: len(begins)]
        kept = np.bincount(owner[first], minlength=len(counts))
        indptr = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return cls(indptr, begins[first], ends[last], np.asarray(periods, dtype=np.float64))

    def __len__(self) -> int:
        return len(self.periods)

    def online(self, which: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether devices ``which`` [k] are there at ``time`` [k], bool [k]."""
        _, place, inside = self._find(which, time)
        return self._covered(which, place, inside)

    def leaves(self, which: np.ndarray, time: np.ndarray) -> np.ndarray:
        """When devices that are there at ``time`` [k] next go away, s [k]; inf: never."""
        lap, place, inside = self._find(which, time)
        online = self._covered(which, place, inside)
        first, period = self.indptr[which], self.periods[which]
        end = self._at(self.ends, place)
        # At the end of a period a device goes on if the next begins with it.
        on = online & (end >= period) & (self._at(self.begins, first) <= 0)
        whole = on & (self._at(self.ends, first) >= period)
        end = np.where(on, period + self._at(self.ends, first), end)
        return np.where(online, np.where(whole, np.inf, np.maximum(lap + end, time)), time)

    def returns(self, which: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The first moment from ``time`` [k] on at which each device is there; inf: never."""
        lap, place, inside = self._find(which, time)
        online = self._covered(which, place, inside)
        first, last, period = self.indptr[which], self.indptr[which + 1], self.periods[which]
        later = place + 1 < last
        begin = self._at(self.begins, np.where(later, place + 1, first))
        again = np.where(later, lap + begin, lap + period + begin)
        again = np.where(last > first, again, np.inf)
        again = np.where(online, time, np.maximum(again, time))
        for _ in range(3):  # adding laps rounds, by a unit in the last place or two
            early = np.isfinite(again) & ~self.online(which, again)
            again = np.where(early, np.nextafter(again, np.inf), again)
        return again

    def _find(self, which: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, ...]:
        """(when the lap began, the last interval that has begun in it, time since it began).

        The interval is the one before the device's first where none has begun.
        """
        period = self.periods[which]
        repeats, sometime = np.isfinite(period), np.isfinite(time)
        time = np.where(sometime, time, 0)
        inside = np.where(repeats, np.mod(time, np.where(repeats, period, 1)), time)
        lap, inside = time - inside, np.where(sometime, inside, np.inf)
        low, high = self.indptr[which].copy(), self.indptr[which + 1].copy()
        while (low < high).any():  # a binary search in each device's own slice
            middle = (low + high) // 2
            begun = (low < high) & (self._at(self.begins, middle) <= inside)
            high = np.where((low < high) & ~begun, middle, high)
            low = np.where(begun, middle + 1, low)
        return lap, low - 1, inside

    def _covered(self, which: np.ndarray, place: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return (place >= self.indptr[which]) & (inside <= self._at(self.ends, place))

    def _at(self, values: np.ndarray, place: np.ndarray) -> np.ndarray:
        if not len(values):
            return np.full(len(place), np.nan)
        return values[np.clip(place, 0, len(values) - 1)]
