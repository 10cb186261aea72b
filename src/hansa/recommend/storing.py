"""The ratings that nodes have: what they send of them, and what they take in."""

from __future__ import annotations

import numpy as np

from hansa.base.errors import WireError
from hansa.codec import Tables
from hansa.codec.pair_gaps import FORM
from hansa.engine import Block, Inbox
from hansa.engine.own_examples import INPUTS, TARGETS
from hansa.recommend.outgoing import table


def drawn(block: Block, t: int, count: int, who: np.ndarray) -> Tables:
    """Different ratings of each node's whole store, at random, all where it has fewer.

    Args:
        who: bool [n], those that send some; the others' messages are empty.
    """
    assert block.store is not None
    which = []
    for node, part, speaks in zip(block.ids.tolist(), block.parts, who.tolist(), strict=True):
        random = block.streams.own.numpy("rex share", node, t)
        some = min(count, len(part)) if speaks else 0
        which.append(part[random.choice(len(part), some, replace=False)] if some else part[:0])
    split = block.store.dataset.train.take(np.concatenate(which))
    indptr = np.cumsum([0, *map(len, which)])
    return table(split.inputs.cpu().numpy(), split.targets.cpu().numpy(), indptr)


def take(block: Block, inbox: Inbox) -> None:
    """Take in what came, by sender and in its order; the first of equal (user, item) stays.

    Leaves in the block's report how many ratings each node was sent, ``ratings_received``, and how
    many of these it had already, ``duplicates``.

    Raises:
        WireError: a rating is none of this data set, with who sent it.
    """
    assert block.store is not None
    _check(block, inbox)
    came, new = np.zeros(len(block), dtype=np.int64), np.zeros(len(block), dtype=np.int64)
    for k, node in enumerate(block.ids.tolist()):
        messages = inbox.messages(k)[1]
        assert isinstance(messages, Tables)  # an exchange has one form
        user, item, stars = messages.columns.values()
        came[k] = len(stars)
        if came[k]:
            pairs = np.stack([user, item], axis=1)
            new[k] = block.store.add(node, {INPUTS: pairs, TARGETS: stars})
    block.report["ratings_received"] = came.astype(np.float64)
    block.report["duplicates"] = (came - new).astype(np.float64)


def report(block: Block) -> None:
    """Leave in the block's report how many ratings each node has, ``ratings``."""
    assert block.store is not None
    block.report["ratings"] = block.store.sizes.astype(np.float64)


def _check(block: Block, inbox: Inbox) -> None:
    """Refuse ratings of users and items that nobody knows, or outside the scale."""
    spec = block.trainer.dataset.spec
    low, high = spec.scale or (-np.inf, np.inf)
    users, items = spec.vocabulary
    first = 0
    for messages in (inbox.sent, inbox.received):
        assert isinstance(messages, Tables)
        if messages.form != FORM:
            raise WireError(f"ratings of columns {messages.form} where {FORM} were due")
        user, item, stars = messages.columns.values()
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
