"""What a node sends where it may choose: raw ratings, item rows, or its whole model.

A node holds back some of its own training ratings: it neither trains on them nor sends them. From
time to time (``reviewing.py``) it measures on these by how much the squared error falls by what it
was sent of each kind, and for how many bytes. Until the next time it sends what was worth most a
byte, and takes its neighbours to be as it is. Where it cannot tell it sends ratings, which are
small.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.engine.settings import Settings

DATA, ITEMS, MODEL = range(3)
"""What may be sent."""
PROBE = "probe"
"""The note: whether a rating is held back to measure."""
CHOICE, WORTH, DOUBT = "rex.choice", "rex.worth", "rex.doubt"
"""In a block's state: which of the three each node sends, int64 [n]; by how much the mean
squared error falls a byte of each, float64 [n, 3], NaN where nobody knows; the standard errors of
that, [n, 3]."""
_MEMORY = 0.5


class Weighing(Settings):
    """How a node finds out what a byte of ratings and of models is worth to it."""

    every: int = Field(20, ge=1, description="rounds from one measuring to the next")
    probe: float = Field(
        0.05, gt=0, lt=1, description="share of a node's own ratings that it holds back to measure"
    )
    passes: int = Field(
        5, ge=1, description="passes of local work after which what came is measured, as a trial"
    )
    sample: int = Field(
        64, ge=1, le=1000, description="item rows that a neighbour is asked for to measure them"
    )

    def due(self, t: int) -> bool:
        """Whether nodes measure in round t."""
        return t % self.every == self.every - 1


def start(block: Block, how: Weighing) -> None:
    """Hold some of each node's own ratings back; nothing of very few, as neighbours tell too."""
    assert block.store is not None
    for node in block.ids.tolist():
        dealt = block.store.dealt(node)
        count = int(how.probe * dealt)
        chosen = block.streams.own.numpy("rex probe", node).choice(dealt, count, replace=False)
        block.store.noted(node, PROBE)[chosen] = True
    block.state[CHOICE] = torch.zeros(len(block), dtype=torch.int64)
    for name in (WORTH, DOUBT):
        block.state[name] = torch.full((len(block), 3), float("nan"), dtype=torch.float64)


def trained(block: Block) -> list[np.ndarray]:
    """What each node trains on, positions in its training examples: all that is not held back."""
    store = block.store
    if store is None or PROBE not in store.notes:
        return [*block.parts]
    ids = block.ids.tolist()
    return [part[~store.noted(i, PROBE)] for i, part in zip(ids, block.parts, strict=True)]


def choices(block: Block) -> np.ndarray:
    """Which of the three each node sends, int64 [n]."""
    return block.state[CHOICE].numpy()


def lives_on_models(block: Block) -> np.ndarray:
    """Which nodes send rows, and so are sent rows, and have gathered fewer ratings than they were
    dealt, bool [n]."""
    assert block.store is not None
    return (choices(block) != DATA) & (2 * block.store.gathered < block.store.sizes)


def learn(block: Block, fell: np.ndarray, doubt: np.ndarray, nbytes: np.ndarray) -> None:
    """Take in what was measured, half of what is known being what was known before, and choose.

    Rows cost much more than ratings do, so that a node sends them only if a byte of them is worth
    more even where they were worth one standard error less, and ratings one more, than measured.

    Args:
        fell: by how much the mean squared error of each node fell by what came of each kind,
            float64 [n, 3]; NaN where nothing came or nothing was held back.
        doubt: the standard errors of that, [n, 3].
        nbytes: how many bytes that takes, [n, 3].
    """
    worth, doubts = block.state[WORTH].numpy(), block.state[DOUBT].numpy()
    seen = ~np.isnan(fell) & (nbytes > 0)
    share = np.where(np.isnan(worth), 1.0, 1 - _MEMORY)
    paid = np.where(seen, nbytes, 1.0)
    mixed = np.where(np.isnan(worth), 0.0, worth) * (1 - share) + share * fell / paid
    wider = np.hypot(np.where(np.isnan(worth), 0.0, doubts) * (1 - share), share * doubt / paid)
    worth[seen], doubts[seen] = mixed[seen], wider[seen]
    least = np.where(np.isnan(worth), -np.inf, worth - doubts)
    most = np.where(np.isnan(worth), np.inf, worth + doubts)[:, DATA]
    rows = least[:, ITEMS:].argmax(1) + ITEMS
    better = least[np.arange(len(rows)), rows] > np.maximum(most, 0)
    choices(block)[:] = np.where(better, rows, DATA)


def report(block: Block) -> None:
    """Leave in the block's report which nodes send item rows, and which their whole models."""
    for name, kind in (("sends_items", ITEMS), ("sends_model", MODEL)):
        block.report[name] = (choices(block) == kind).astype(np.float64)
