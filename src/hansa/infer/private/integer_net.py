"""A program evaluated in the clear: what every private answer has to equal, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import functional, torch
from hansa.infer.private.client_steps import apply
from hansa.infer.private.program import LOGITS, Block, Program

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1 << 53
"""float64 counts exactly to here, and convolves integers far faster than integers do."""


def read_rows(program: Program, rows: np.ndarray) -> np.ndarray:
    """Rows [n, *input_shape] as the integers of the input, int64 [n, C, H, W]."""
    into, n = program.input, len(rows)
    real = np.asarray(rows, np.float64).reshape(n, *into.shape)
    scaled = (real - program.offset.reshape(-1, 1, 1)) / into.scale
    return np.clip(np.rint(scaled), into.low, into.high).astype(np.int64)


def accumulate(block: Block, values: dict[str, np.ndarray]) -> np.ndarray:
    """A block's accumulators int64 [n, C, H, W] of values int64 [n, C, H, W] by name."""
    total: Tensor = torch.as_tensor(block.bias).double().view(1, -1, 1, 1)
    for term in block.terms:
        top, bottom, left, right = term.padding
        padded = functional.pad(
            torch.from_numpy(values[term.value]).double(), (left, right, top, bottom)
        )
        weight = torch.from_numpy(term.weight).double()
        total = total + functional.conv2d(
            padded, weight, None, term.stride, 0, term.dilation, term.groups
        )
    return total.numpy().astype(np.int64)


def evaluate(program: Program, integers: np.ndarray) -> np.ndarray:
    """Logits as accumulators, int64 [n, outputs], of inputs int64 [n, C, H, W]."""
    values = {program.input.name: integers}
    for one in program.rounds:
        blocks = {block.name: accumulate(block, values) for block in one.blocks}
        for activation in one.activations:
            values[activation.makes] = apply(activation.steps, blocks[activation.block])
    return values[LOGITS].reshape(len(integers), -1)
