"""How far a rating may go: over how many links, for how many rounds, to how many nodes.

What a limit needs to know of a rating travels with each copy, one byte a limit. An owner can hold
others to it only as far as they run this code: where they might not, on attested channels.

A *hop limit* of h lets a rating reach nodes at most h links away from its owner. An *expiry* of e
has every copy dropped e rounds after it left its owner; one that came later from there is younger.
A *budget* of b lets a rating have b copies beside the owner's, exactly: the owner starts with b
tokens, a copy costs one, and sender and receiver share the others (binary spray and wait;
Spyropoulos, Psounis, Raghavendra, 2005). A copy that was there already gives back what it cost. So
copies and tokens together are never more than b.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from hansa.base.errors import WireError
from hansa.engine import Block
from hansa.engine.own_examples import Store, WhenFull
from hansa.engine.settings import Settings

HOPS, AGE, TOKENS = "hops", "age", "tokens"
"""Columns of a message, and notes of a store: links from the owner; rounds since it left there, as
a note the round of leaving, -1 at the owner's; copies that may yet be made of it."""
_MOST = 255


class Exposure(Settings):
    """How many nodes may come to hold a rating, and for how long."""

    hops: int | None = Field(
        None, ge=1, le=_MOST, description="over how many links a rating goes from its owner"
    )
    expiry: int | None = Field(
        None, ge=1, le=_MOST, description="rounds after leaving its owner when a copy is dropped"
    )
    budget: int | None = Field(
        None, ge=1, le=_MOST, description="copies of a rating that there may be beside its owner's"
    )
    capacity: int | None = Field(
        None, ge=0, description="ratings of others that a node keeps at most"
    )
    when_full: WhenFull = Field("random", description="what a full store does with one more rating")

    @property
    def notes(self) -> dict[str, np.generic]:
        """What is noted of each rating, and what of those that nodes were dealt."""
        limits = {HOPS: self.hops, AGE: self.expiry, TOKENS: self.budget}
        first: dict[str, np.generic] = {
            HOPS: np.uint8(0),
            AGE: np.int32(-1),
            TOKENS: np.uint8(self.budget or 0),
        }
        return {name: first[name] for name, limit in limits.items() if limit is not None}

    def may_leave(self, store: Store, node: int, copies: int) -> np.ndarray | None:
        """Which of a node's ratings may go to so many others, bool [m]; None: all."""
        may = None
        if self.hops is not None:
            may = store.noted(node, HOPS) < self.hops
        if self.budget is not None:
            enough = store.noted(node, TOKENS) >= copies
            may = enough if may is None else may & enough
        return may

    def leaving(
        self, store: Store, node: int, places: np.ndarray, t: int, copies: int
    ) -> dict[str, np.ndarray]:
        """What goes with these ratings [m] to each of so many others: columns, uint8 [m].

        The tokens that go are no longer here.
        """
        columns: dict[str, np.ndarray] = {}
        if self.hops is not None:
            columns[HOPS] = store.noted(node, HOPS)[places] + np.uint8(1)
        if self.expiry is not None:
            left = store.noted(node, AGE)[places]
            columns[AGE] = np.where(left < 0, 0, t - left).astype(np.uint8)
        if self.budget is not None:
            tokens = store.noted(node, TOKENS)
            given = (tokens[places].astype(np.int64) - copies) // (copies + 1)
            tokens[places] -= (copies * (given + 1)).astype(np.uint8)
            columns[TOKENS] = given.astype(np.uint8)
        return columns

    def check(self, columns: Mapping[str, np.ndarray]) -> None:
        """Refuse copies that nobody who keeps to the limits sends.

        Raises:
            WireError: naming the first.
        """
        most = {HOPS: self.hops, AGE: self.expiry and self.expiry - 1, TOKENS: self.budget}
        for name in self.notes:
            values, limit = columns[name], most[name]
            low = int(name == HOPS)
            assert limit is not None
            if len(values) and not low <= values.min() <= values.max() <= limit:
                bad = values[(values < low) | (values > limit)][0]
                raise WireError(f"a rating with {name} {bad}, which are {low} to {limit}")

    def noted(self, columns: Mapping[str, np.ndarray], t: int) -> dict[str, np.ndarray]:
        """What is noted of ratings that came in round t."""
        notes = {name: columns[name] for name in self.notes}
        if AGE in notes:
            notes[AGE] = (t - notes[AGE].astype(np.int32)).astype(np.int32)
        return notes

    def again(
        self, store: Store, node: int, places: np.ndarray, came: Mapping[str, np.ndarray]
    ) -> None:
        """Ratings that a node had already came again: the nearer, younger copy counts.

        Args:
            places: int64 [m], where they are.
            came: what :meth:`noted` makes of the columns, [m] each.
        """
        if HOPS in came:
            np.minimum.at(store.noted(node, HOPS), places, came[HOPS])
        if AGE in came:
            age = store.noted(node, AGE)
            others = age[places] >= 0
            np.maximum.at(age, places[others], came[AGE][others])
        if TOKENS in came:
            tokens = store.noted(node, TOKENS)
            more = np.zeros(len(tokens), dtype=np.int64)
            np.add.at(more, places, came[TOKENS].astype(np.int64) + 1)
            tokens[:] = np.minimum(tokens + more, self.budget or 0)

    def expire(self, block: Block, t: int) -> None:
        """Drop the copies whose time has come in round t."""
        if self.expiry is None or block.store is None:
            return
        for node in block.ids.tolist():
            left = block.store.noted(node, AGE)
            block.store.drop(node, (left >= 0) & (t - left >= self.expiry))


def holders(block: Block) -> np.ndarray:
    """How many nodes of a block hold each rating that one of them was dealt and keeps, int64.

    In ``simulate`` a block is all nodes, and this is exact. Apart, nodes know only how many ratings
    they hold, and so the mean (see :mod:`~hansa.recommend.spreading`), and from how far away.
    """
    assert block.store is not None
    store = block.store
    keys = [store.keys(node) for node in block.ids.tolist()]
    dealt = store.sizes - store.gathered
    own = np.sort(np.concatenate([k[:count] for k, count in zip(keys, dealt, strict=True)]))
    every, counts = np.unique(np.concatenate(keys), return_counts=True)
    return counts[np.searchsorted(every, own)]
