"""Rounds in which nodes are away, as a person writes them down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from hansa.base.errors import ConfigError

Intervals: TypeAlias = tuple[tuple[int, int | None], ...]
"""[from, until) rounds, counted from 0, ascending; None: for good."""
Timetable: TypeAlias = Mapping[int, Intervals]
"""When a node is away; the others never are."""


def check_timetable(away: Timetable, nodes: int, field: str = "absent") -> None:
    """Refuse a timetable that names nodes that do not exist, or rounds out of order.

    Args:
        nodes: how many nodes may be away: 0 to ``nodes`` - 1.
        field: what the timetable is called.

    Raises:
        ConfigError: naming ``field`` and the node.
    """
    for node, intervals in away.items():
        where = f"{field}.{node}"
        if not 0 <= node < nodes:
            raise ConfigError(where, None, "is no node of the run", f"nodes are 0..{nodes - 1}")
        before = 0
        for start, end in intervals:
            if start < before or (end is not None and end <= start):
                raise ConfigError(
                    where,
                    [list(pair) for pair in intervals],
                    "rounds must be 0 or more, ascending, and not overlap",
                    "[[from, until], ...] with from < until, such as [[10, 20], [30, null]]",
                )
            before = start + 1 if end is None else end
            if end is None and (start, end) != intervals[-1]:
                raise ConfigError(
                    where,
                    [list(pair) for pair in intervals],
                    f"nothing can follow an absence for good from round {start}",
                    "give it an end, or drop what follows",
                )


def away_in(away: Timetable, nodes: int, round: int) -> np.ndarray:
    """bool [nodes]: who is away in a round (counted from 0)."""
    gone = np.zeros(nodes, dtype=bool)
    for node, intervals in away.items():
        gone[node] = any(
            start <= round and (end is None or round < end) for start, end in intervals
        )
    return gone
