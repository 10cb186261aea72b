"""The best model by the losses of clients on what they hold back: who can tell, what they told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.learn.federated.plateau import LossWatch, Plateau

if TYPE_CHECKING:
    from torch import Tensor

BEST = "federated.best"
"""What servers keep the best model by validation loss under, where it is looked for."""
WATCH = "federated.watch"
"""What servers keep what they have seen of those losses under."""


def begin(block: Block, members: np.ndarray, rule: Plateau, field: str) -> None:
    """Keep what servers see of losses, and their best models: the initial ones.

    Args:
        members: int64 [clients], the server of each.
        field: the setting that asks for it.

    Raises:
        ConfigError: a server has no clients that can tell it how good its model is.
    """
    held = block.roster.held[: block.clients]
    if not held.any():
        problem = "needs examples that clients hold back to validate models"
        fix = "set evaluate.local_validation, such as 0.1"
        if any(len(part) for part in block.parts):
            fix += "; clients hold some back who have 10 examples or more"
        raise ConfigError(field, None, problem, fix)
    for server in np.unique(members[members >= block.clients]):
        if not held[members == server].any():
            raise ConfigError(
                field,
                None,
                f"none of the {int((members == server).sum())} clients of server {server} "
                "has validation examples (it takes 10 examples to hold some back)",
                "fewer cohorts, or a more even data.partition",
            )
    fresh = torch.from_numpy(LossWatch.start(rule).row())
    block.kept[WATCH] = fresh.repeat(len(block.residents), 1)
    block.kept[BEST] = block.rows.clone()


def see(block: Block, row: int, model: Tensor, loss: float, rule: Plateau) -> bool:
    """Take the loss of a model of the server at a row; whether it is time to stop."""
    watch = LossWatch.of(rule, block.kept[WATCH][row].numpy())
    if watch.see(loss):
        block.kept[BEST][row] = model
    block.kept[WATCH][row] = torch.from_numpy(watch.row())
    return watch.stopped


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
