"""Which edge servers are there, and who takes over the clients of one that is not."""

from __future__ import annotations

import numpy as np

_BITS = 32  # of presence in a number that is told


def columns(edges: int) -> dict[str, int]:
    """The numbers in which it is told which of so many edges are there; as they are by default,
    that is with all of them there."""
    names = range(-(-edges // _BITS))
    return {f"there{k}": (1 << min(_BITS, edges - k * _BITS)) - 1 for k in names}


def packed(there: np.ndarray) -> dict[str, int]:
    """``there``, bool [edges], in such numbers."""
    places = 1 << np.arange(_BITS, dtype=np.int64)
    parts = [there[k : k + _BITS] for k in range(0, len(there), _BITS)]
    return {f"there{k}": int(places[: len(part)][part].sum()) for k, part in enumerate(parts)}


def unpacked(numbers: dict[str, int], edges: int) -> np.ndarray:
    """bool [edges]: which of them are there."""
    parts = [numbers[f"there{k}"] >> np.arange(_BITS, dtype=np.int64) for k in range(len(numbers))]
    return (np.concatenate(parts)[:edges] & 1).astype(bool)


def taken_over(home: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The edge that each client has, int64 [clients]; -1: none.

    The clients of an edge that is not there are dealt out one by one, in the order of their ids, to
    those that are, from the next one on.

    Args:
        home: int64 [clients], the edge that each has as a rule, from 0.
        there: bool [edges].
    """
    has, present = home.copy(), np.flatnonzero(there)
    for edge in np.flatnonzero(~there):
        orphans = np.flatnonzero(home == edge)
        first = np.searchsorted(present, edge)
        turns = (first + np.arange(len(orphans))) % max(len(present), 1)
        has[orphans] = present[turns] if len(present) else -1
    return has
