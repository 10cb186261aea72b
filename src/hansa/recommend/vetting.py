"""Ratings that a node does not take in though they are well formed: poison, by how it looks.

Whoever takes part can say what it likes of its users. Three things bound what comes of it:

- a *rate*: of one user a node takes in so many new ratings a round, so that a flood is slow;
- *conflicts*: nobody rates an item twice, so that of two values one was made up. Of a user whose
  ratings in a message conflict with what the node has, nothing in it is taken in;
- *deviation*: the ratings of a user in a message, if there are enough, may not be further from what
  others gave the same items than so many times what the node's own users are. Who has a taste of
  their own is refused as well where it is set low: below 2 that happens.

A user who lies a little, or only on items that nobody else rated, is not found.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.engine.own_examples import TARGETS, Store
from hansa.engine.settings import Settings

_ENOUGH = 3
"""Ratings of an item by which its mean says something, and of a user by which a distance does."""


class Guard(Settings):
    """What is refused of ratings that are well formed."""

    per_user: int | None = Field(
        None, ge=1, description="new ratings of one user that a node takes in a round, at most"
    )
    conflicts: bool = Field(
        False, description="refuse a user's ratings in a message that differ from those known"
    )
    deviation: float | None = Field(
        None,
        gt=0,
        description="refuse a user's ratings in a message whose distance from the items' means is "
        "over so many times that of the node's own users",
    )

    @property
    def watches(self) -> bool:
        """Whether anything is refused."""
        return self.per_user is not None or self.conflicts or self.deviation is not None

    def accepts(
        self, store: Store, node: int, pairs: np.ndarray, stars: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Which of the ratings that came a node takes in, bool [m].

        Args:
            pairs: int64 [m, 2], message after message.
            stars: float32 [m].
            counts: int64 [messages], ratings of each.
        """
        places = store.find(node, pairs)
        message = np.repeat(np.arange(len(counts)), counts)
        group = np.unique(np.stack([message, pairs[:, 0]], 1), axis=0, return_inverse=True)[1]
        group = group.reshape(-1)  # NumPy 2.0 keeps a column
        fine = np.ones(int(group.max(initial=-1)) + 1, dtype=bool)
        known = store.table(node)
        if self.conflicts:
            there = places >= 0
            fine[group[there][known[TARGETS][places[there]] != stars[there]]] = False
        if self.deviation is not None:
            fine &= self._near(store, node, known, pairs, stars, group)
        accepted = fine[group]
        if self.per_user is not None:
            accepted &= _early(pairs[:, 0], accepted & (places < 0), self.per_user)
        return accepted

    def _near(
        self,
        store: Store,
        node: int,
        known: dict[str, np.ndarray],
        pairs: np.ndarray,
        stars: np.ndarray,
        group: np.ndarray,
    ) -> np.ndarray:
        """Which groups are near enough to items' means, bool [groups]."""
        assert self.deviation is not None
        items, given = known["inputs"][:, 1], known[TARGETS].astype(np.float64)
        most = int(max(items.max(initial=0), pairs[:, 1].max(initial=0))) + 1
        sums = np.bincount(items, given, minlength=most)
        often = np.bincount(items, minlength=most)
        own = np.arange(len(items)) < store.dealt(node)
        # Of the node's own users what others gave: their own rating is not among it.
        others = often[items[own]] - 1
        told = others >= _ENOUGH
        means = (sums[items[own]] - given[own])[told] / others[told]
        fine = np.ones(int(group.max(initial=-1)) + 1, dtype=bool)
        if not told.any():
            return fine
        usual = np.mean((given[own][told] - means) ** 2)
        judged = often[pairs[:, 1]] >= _ENOUGH
        off = (stars[judged] - sums[pairs[judged, 1]] / often[pairs[judged, 1]]) ** 2
        total = np.bincount(group[judged], off, minlength=len(fine))
        count = np.bincount(group[judged], minlength=len(fine))
        return (count < _ENOUGH) | (total <= self.deviation**2 * usual * count)


def _early(users: np.ndarray, new: np.ndarray, most: int) -> np.ndarray:
    """All but those new ones that come after ``most`` new ones of the same user, bool [m]."""
    early = np.ones(len(users), dtype=bool)
    at = np.flatnonzero(new)
    order = np.argsort(users[at], kind="stable")
    ordered = users[at][order]
    starts = np.searchsorted(ordered, ordered)
    early[at[order[np.arange(len(order)) - starts >= most]]] = False
    return early
