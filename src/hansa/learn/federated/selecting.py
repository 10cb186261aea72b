"""The model that a run of several rounds hands out: the best that clients have judged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.learn.federated.plateau import LossWatch, Plateau

if TYPE_CHECKING:
    from torch import Tensor

BEST = "federated.best"
"""What servers keep the best model by validation loss under, where it is looked for."""
WATCH = "federated.watch"
"""What servers keep what they have seen of those losses under."""


def best_rows(
    block: Block, t: int, learns: Callable[[Block, int], bool], rule: Plateau, judged_every: int
) -> Tensor:
    """The best models [r, D]; the last ones where no trained model was ever judged.

    Args:
        learns: whether a server has clients that teach it.
        rule: that the losses were watched by.
        judged_every: rounds after which clients judge what they get.
    """
    rows = block.kept[BEST].clone()
    initial = block.trainer.layout.flatten(block.trainer.module).to(rows.device)
    for row, server in enumerate(block.ids[block.residents].tolist()):
        watch = LossWatch.of(rule, block.kept[WATCH][row].numpy())
        if not learns(block, server) or torch.equal(block.rows[row], initial):
            continue
        remark = f"server {server}: "
        if math.isinf(watch.best):
            rows[row] = block.rows[row]
            remark += "no client that took part could judge a model, so the last one is selected"
        elif t < judged_every:
            rows[row] = block.rows[row]
            remark += "clients judge what they get, so that of a single round is not judged yet; "
            remark += "it is selected"
        elif torch.equal(rows[row], initial):
            remark += "no model was better by validation loss than the initial one, which is "
            remark += "selected"
        else:
            continue
        block.events.append({"kind": "remark", "text": f"select: best, {remark}"})
    return rows
