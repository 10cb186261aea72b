"""Counters of a model between clients and servers: integer buffers that training changes.

BatchNorm's number of batches is one. They are no part of a row. Beside it they travel as float32,
which is exact up to 2^24, and a server rounds their average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine import Block

if TYPE_CHECKING:
    from torch import Tensor

NAME = "counters"


def count(block: Block) -> int:
    """How many numbers they are."""
    state = block.state
    return sum(state[name][:1].numel() for name in block.trainer.counters)


def read(block: Block, at: np.ndarray) -> Tensor:
    """Those of the nodes at some positions, float32 [k, C]."""
    columns = [torch.zeros(len(at), 0)]
    for name in block.trainer.counters:
        own = block.state[name]
        own = own.view(len(own), own[:1].numel())
        columns.append(own[torch.from_numpy(at)].float())
    return torch.cat(columns, dim=1).to(block.rows.device)


def as_state(block: Block, numbers: Tensor) -> dict[str, Tensor]:
    """``numbers`` [k, C], rounded, in the form of a block's state."""
    state, first = {}, 0
    for name in block.trainer.counters:
        like = block.state[name]
        width = like[:1].numel()
        values = numbers[:, first : first + width].round().to("cpu", like.dtype)
        state[name] = values.reshape(len(numbers), *like.shape[1:])
        first += width
    return state


def write(block: Block, at: np.ndarray, numbers: Tensor) -> None:
    """Set those of the nodes at some positions to ``numbers`` [k, C], rounded."""
    for name, values in as_state(block, numbers).items():
        block.state[name][torch.from_numpy(at)] = values
