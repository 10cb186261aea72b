"""What nodes take in of the ratings that they are sent."""

from __future__ import annotations

import numpy as np

from hansa.base.errors import WireError
from hansa.codec import Tables
from hansa.codec.pair_gaps import FORM, NOTE
from hansa.codec.table_messages import offsets
from hansa.engine import Block, Inbox
from hansa.engine.own_examples import INPUTS, TARGETS
from hansa.recommend import remembering
from hansa.recommend.exposure import Exposure
from hansa.recommend.vetting import Guard
from hansa.recommend.withdrawing import Withdrawals

UNGUARDED = Guard()
NOTHING_WITHDRAWN = Withdrawals()


def take(
    block: Block,
    inbox: Inbox,
    t: int,
    exposure: Exposure,
    guard: Guard = UNGUARDED,
    withdrawals: Withdrawals = NOTHING_WITHDRAWN,
) -> None:
    """Take in what came, by sender and in its order; the first of equal (user, item) stays.

    What is noted of copies that a node had already, it learns anew.

    Leaves in the block's report how many ratings each node was sent, ``ratings_received``, and how
    many of these it had already, ``duplicates``, and refused, ``ratings_refused``.

    Raises:
        WireError: a rating is none of this data set, with who sent it.
    """
    store = block.store
    assert store is not None
    vetted = guard.watches or withdrawals.room > 0
    _check(block, inbox, exposure)
    came, new, refused = np.zeros((3, len(block)), dtype=np.int64)
    for k, node in enumerate(block.ids.tolist()):
        messages = inbox.messages(k)[1]
        assert isinstance(messages, Tables)  # an exchange has one form
        user, item, stars, *beside = messages.columns.values()
        came[k] = len(stars)
        if not came[k]:
            continue
        pairs = np.stack([user, item], axis=1)
        notes = exposure.noted(dict(zip(exposure.notes, beside, strict=True)), t)
        counts = messages.counts
        if vetted:
            fine = withdrawals.allowed(block, k, pairs)
            if guard.watches:
                fine &= guard.accepts(store, node, pairs, stars, counts)
            refused[k] = np.count_nonzero(~fine)
            counts = np.diff(offsets(fine)[messages.indptr])
            pairs, stars = pairs[fine], stars[fine]
            notes = {name: values[fine] for name, values in notes.items()}
        examples = {INPUTS: pairs, TARGETS: stars, **notes}
        if not store.notes:
            new[k] = store.add(node, examples)
            continue
        before = store.find(node, pairs)
        new[k] = store.add(node, examples)
        places = store.find(node, pairs)
        again = (places >= 0) & ~_first(before, places)
        came_again = {name: values[again] for name, values in notes.items()}
        exposure.again(store, node, places[again], came_again)
        if remembering.KNOWN in store.notes:
            remembering.heard(block, inbox, k, counts, places)
    block.report["ratings_received"] = came.astype(np.float64)
    block.report["duplicates"] = (came - new - refused).astype(np.float64)
    if vetted:
        block.report["ratings_refused"] = refused.astype(np.float64)


def report(block: Block) -> None:
    """Leave in the block's report how many ratings each node has, ``ratings``."""
    assert block.store is not None
    block.report["ratings"] = block.store.sizes.astype(np.float64)


def _first(before: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which of what came was new to a store, and the first of its kind, bool [m].

    Args:
        before, places: int64 [m], where each was and is; -1: nowhere.
    """
    fresh = np.flatnonzero((before < 0) & (places >= 0))
    first = np.zeros(len(places), dtype=bool)
    first[fresh[np.unique(places[fresh], return_index=True)[1]]] = True
    return first


def _check(block: Block, inbox: Inbox, exposure: Exposure) -> None:
    """Refuse ratings of users and items that nobody knows, outside the scale, or gone too far."""
    spec = block.trainer.dataset.spec
    low, high = spec.scale or (-np.inf, np.inf)
    users, items = spec.vocabulary
    first, form = 0, (*FORM, *[NOTE] * len(exposure.notes))
    for messages in (inbox.sent, inbox.received):
        assert isinstance(messages, Tables)
        if messages.form != form:
            raise WireError(f"ratings of columns {messages.form} where {form} were due")
        user, item, stars, *beside = messages.columns.values()
        exposure.check(dict(zip(exposure.notes, beside, strict=True)))
        bad = ~((stars >= low) & (stars <= high) & np.isfinite(stars))
        bad |= (user < 0) | (user >= users) | (item < 0) | (item >= items)
        if bad.any():
            at = int(np.argmax(bad))
            slot = first + int(np.searchsorted(messages.indptr, at, side="right")) - 1
            sender = inbox.senders[inbox.slots == slot]
            who = f"node {sender[0]}" if len(sender) else "a node"
            raise WireError(
                f"{who} sent a rating of user {user[at]} for item {item[at]}, {stars[at]:g} stars; "
                f"there are {users} users, {items} items and {low:g} to {high:g} stars"
            )
        first += len(messages)
