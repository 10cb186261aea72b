"""Which algorithm is ahead at which size, and where that changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Crossing(NamedTuple):
    """Two algorithms change places.

    Attributes:
        ahead: who leads from ``size`` on.
        behind: who led before.
        size: where straight lines between the measured points cross.
        between: the two measured sizes.
    """

    behind: str
    ahead: str
    size: float
    between: tuple[float, float]


def by_algorithm(curve: Sequence[Row]) -> dict[str, dict[float, Row]]:
    """Rows by algorithm and by the size that was asked, ascending."""
    rows: dict[str, dict[float, Row]] = {}
    for row in sorted(curve, key=lambda row: row["size"]):
        rows.setdefault(row["algorithm"], {})[row["size"]] = row
    return rows


def crossings(curve: Sequence[Row], margin: float = 0.0) -> list[Crossing]:
    """Where one algorithm overtakes another, by size.

    Args:
        margin: how far apart, in accuracy, both must be before and after; less is chance.
    """
    named = by_algorithm(curve)
    changes = []
    for one, other in combinations(named, 2):
        sizes = [size for size in named[one] if size in named[other]]
        gaps = [named[one][s]["accuracy"] - named[other][s]["accuracy"] for s in sizes]
        last: int | None = None
        for place, gap in enumerate(gaps):
            if abs(gap) <= margin:
                continue
            if last is not None and (gaps[last] > 0) != (gap > 0):
                low, high = sizes[last], sizes[place]
                share = abs(gaps[last]) / (abs(gaps[last]) + abs(gap))
                behind, ahead = (other, one) if gap > 0 else (one, other)
                size = low + share * (high - low)
                changes.append(Crossing(behind, ahead, size, (low, high)))
            last = place
    return sorted(changes, key=lambda crossing: crossing.size)


def ranks(curve: Sequence[Row]) -> list[dict[str, Any]]:
    """The place of every algorithm at every size, 1 the best; ties share the better place."""
    placed = []
    for size in sorted({row["size"] for row in curve}):
        rows = [row for row in curve if row["size"] == size]
        if len(rows) < 2:  # an algorithm's least size, where no other was measured
            continue
        for row in rows:
            better = sum(other["accuracy"] > row["accuracy"] for other in rows)
            placed.append({"algorithm": row["algorithm"], "size": size, "rank": 1 + better})
    return placed


def spread(curve: Sequence[Row], size: float) -> float:
    """How far the best and the worst algorithm are apart at a size, in normalised accuracy."""
    shares = [row["normalised"] for row in curve if row["size"] == size]
    return max(shares) - min(shares) if shares else 0.0
