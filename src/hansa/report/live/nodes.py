"""What is known of every node of a run that is watched: figures, and what befell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

FAULTS = ("missing", "lost", "silent", "rejoined")
"""By node: messages that did not come to it, times it was lost, times others waited for it in vain,
times it came back."""
_MOST = 10_000_000  # nodes of a run


class Nodes:
    """Arrays over nodes, as long as the highest number heard of.

    Attributes:
        most: how many there can be; who has a higher number is none.
        round: the last of which something was recorded, -1 if none was, int64 [n].
        figures: by name, NaN where a node has none, float64 [n].
        faults: by name in :data:`FAULTS`, int64 [n].
        gone: whether a node was lost and has not come back, bool [n].
    """

    def __init__(self) -> None:
        self.most = _MOST
        self.round = np.zeros(0, np.int64)
        self.figures: dict[str, np.ndarray] = {}
        self.clear_faults()

    def __len__(self) -> int:
        return len(self.round)

    def clear_faults(self) -> None:
        """Forget what befell them."""
        self.faults = {name: np.zeros(len(self), np.int64) for name in FAULTS}
        self.gone = np.zeros(len(self), bool)

    def measured(self, name: str, node: np.ndarray, value: np.ndarray, round: np.ndarray) -> None:
        """Take the newest figures of some nodes, in the order of recording."""
        known = (node >= 0) & (node < self.most)
        node, value, round = node[known], value[known], round[known]
        if not len(node):
            return
        self.reach(int(node.max()) + 1)
        figure = self.figures.setdefault(name, np.full(len(self), np.nan))
        figure[node] = value
        np.maximum.at(self.round, node, round)

    def happened(self, event: Mapping[str, Any]) -> None:
        """Take what an event says of nodes; what it does not say in its usual form is left out."""
        kind = event.get("kind")
        if kind == "missing":
            self._count("missing", event.get("receivers"))
            if event.get("cause") == "silent":
                self._count("silent", event.get("senders"), once=True)
        elif kind in ("lost", "rejoined"):
            ids = self._count(kind, event.get("nodes"), once=True)
            self.gone[ids] = kind == "lost"

    def _count(self, name: str, ids: Any, *, once: bool = False) -> np.ndarray:
        known = node_ids(ids)
        known = known[known < self.most]
        known = np.unique(known) if once else known
        if len(known):
            self.reach(int(known.max()) + 1)
            np.add.at(self.faults[name], known, 1)
        return known

    def reach(self, size: int) -> None:
        """Have room for so many."""
        more = min(size, self.most) - len(self)
        if more <= 0:
            return
        self.round = np.concatenate([self.round, np.full(more, -1)])
        self.gone = np.concatenate([self.gone, np.zeros(more, bool)])
        for name, array in self.figures.items():
            self.figures[name] = np.concatenate([array, np.full(more, np.nan)])
        for name, counts in self.faults.items():
            self.faults[name] = np.concatenate([counts, np.zeros(more, np.int64)])

    @property
    def trouble(self) -> np.ndarray:
        """How much befell each, int64 [n]."""
        return np.stack([self.faults[name] for name in FAULTS]).sum(0)


def node_ids(ids: Any) -> np.ndarray:
    """Those of a list that can be nodes' numbers, int64."""
    if isinstance(ids, int):
        ids = [ids]
    if not isinstance(ids, Iterable) or isinstance(ids, str | Mapping):
        return np.zeros(0, np.int64)
    kept = [one for one in ids if type(one) is int and 0 <= one < _MOST]
    return np.array(kept, dtype=np.int64)
