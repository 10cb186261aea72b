"""Which ratings leave a node in a round, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.codec import Tables
from hansa.codec.table_messages import offsets
from hansa.engine import Block
from hansa.recommend.exposure import Exposure
from hansa.recommend.outgoing import table
from hansa.recommend.weighing import PROBE


@dataclass(frozen=True)
class Wanted:
    """One message of ratings.

    Attributes:
        k: the sender, a position in the block.
        copies: how many nodes it goes to.
        among: bool [m], which of the sender's ratings are of use there; None: all.
    """

    k: int
    copies: int = 1
    among: np.ndarray | None = None


def drawn(
    block: Block,
    t: int,
    count: int,
    wanted: Sequence[Wanted],
    exposure: Exposure,
    now: int | None = None,
) -> tuple[Tables, list[np.ndarray]]:
    """Different ratings of a sender's whole store, at random, all where it has fewer.

    Args:
        t: which draw it is.
        wanted: the messages, by sender.
        now: the round, where that is not ``t``.

    Returns:
        (a table for each message, the places of its ratings in the sender's store).
    """
    store = block.store
    assert store is not None
    places: list[np.ndarray] = []
    which: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    beside: dict[str, list[np.ndarray]] = {name: [] for name in exposure.notes}
    randoms: dict[int, np.random.Generator] = {}
    for one in wanted:
        node, part = int(block.ids[one.k]), block.parts[one.k]
        if one.k not in randoms:
            randoms[one.k] = block.streams.own.numpy("rex share", node, t)
        may = exposure.may_leave(store, node, one.copies)
        if PROBE in store.notes:
            kept = ~store.noted(node, PROBE)
            may = kept if may is None else may & kept
        if one.among is not None:
            may = one.among if may is None else may & one.among
        pool = None if may is None else np.flatnonzero(may)
        size = len(part) if pool is None else len(pool)
        some = min(count, size)
        at = randoms[one.k].choice(size, some, replace=False) if some else np.zeros(0, np.int64)
        at = at if pool is None else pool[at]
        places.append(at)
        which.append(part[at])
        for name, column in exposure.leaving(
            store, node, at, t if now is None else now, one.copies
        ).items():
            beside[name].append(column)
    split = store.dataset.train.take(np.concatenate(which))
    tables = table(
        split.inputs.cpu().numpy(), split.targets.cpu().numpy(), offsets(_counts(places))
    )
    more = {
        name: np.concatenate([np.zeros(0, np.uint8), *columns]) for name, columns in beside.items()
    }
    return Tables(tables.indptr, {**tables.columns, **more}), places


def _counts(places: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(each) for each in places], dtype=np.int64)
