"""One figure over the rounds of a run, kept in bounded memory however many rounds there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

POINTS = 512
"""Kept of a track at most; a chart 1,000 pixels wide shows no more."""


@dataclass
class Point:
    """A round: the mean over nodes, the lowest and the highest; or one figure of the whole run."""

    round: int
    total: float = 0.0
    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    whole: float = math.nan

    @property
    def mean(self) -> float:
        """Over the nodes that have the figure, else what the run says of itself."""
        return self.total / self.count if self.count else self.whole


class Track:
    """Points by round, evenly thinned: of a long run every second, fourth ... and the last.

    Args:
        most: how many points are kept.
    """

    def __init__(self, most: int = POINTS) -> None:
        self._most, self._stride, self._ordinal = most, 1, 0
        self._kept: list[tuple[int, Point]] = []
        self.last: Point | None = None

    def add(self, round: int, values: np.ndarray, *, whole: bool) -> None:
        """Take the figures of a round, or some of them: the rest may come later.

        Args:
            values: float64 [k], finite.
            whole: the run says it of itself, else each is a node's.
        """
        if self.last is None or self.last.round != round:
            if self.last is not None and round < self.last.round:
                return  # a late report of a round that is over
            self._close()
            self.last = Point(round)
        point = self.last
        if whole:
            point.whole = float(values[-1])
        else:
            point.total += float(values.sum())
            point.count += len(values)
            point.low = min(point.low, float(values.min()))
            point.high = max(point.high, float(values.max()))

    @property
    def points(self) -> list[Point]:
        """What was kept, by ascending round, the last among them."""
        kept = [point for _, point in self._kept]
        return kept if self.last is None else [*kept, self.last]

    def _close(self) -> None:
        if self.last is None:
            return
        if self._ordinal % self._stride == 0:
            self._kept.append((self._ordinal, self.last))
        self._ordinal += 1
        if len(self._kept) >= self._most:
            self._stride *= 2
            self._kept = [kept for kept in self._kept if kept[0] % self._stride == 0]


def columns(points: Sequence[Point]) -> dict[str, list[Any]]:
    """Points as plain data: round, mean, low, high; None where it is not known."""
    spread = [point.count > 1 for point in points]
    return {
        "round": [point.round for point in points],
        "mean": [short(point.mean) for point in points],
        "low": [short(p.low) if s else None for p, s in zip(points, spread, strict=True)],
        "high": [short(p.high) if s else None for p, s in zip(points, spread, strict=True)],
    }


def short(value: float) -> float | None:
    """Six significant digits, whole numbers whole; None for what is not finite."""
    if not np.isfinite(value):
        return None
    return float(value) if value == int(value) else float(f"{value:.6g}")
