"""Batteries: nodes that can no longer pay for a round of training stop training.

All of it is in the block's state: rounds that each node could pay for at the start, what is left,
and whose battery lasts no other round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.time.energy import FOREVER

if TYPE_CHECKING:
    from hansa.engine.time.times import Times

_ENOUGH = 1 - 1e-9  # what rounding may have taken from a battery
_WHOLE = 1 + 1e-9  # a quotient that is a whole number but for rounding counts as that number

BATTERY_ROUNDS = "battery_rounds"
"""In a block's state: rounds of training that each node can pay for, int64 [n]."""
BATTERY_LEFT = "battery_left"
"""In a block's state: what is left in each battery, J, float64 [n]."""
BATTERY_EMPTY = "battery_empty"
"""In a block's state: whose battery lasts no other round, bool [n]; in its report: what was left
when that was noticed, J."""


def fill(block: Times, charge: np.ndarray, each: np.ndarray) -> None:
    """Batteries at the start.

    Args:
        charge: what each node may use, J [n].
        each: energy of a round of training, J [n].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rounds = np.where(each > 0, np.floor(charge / each * _WHOLE), FOREVER)
    whole = np.minimum(rounds, FOREVER).astype(np.int64)
    block.state[BATTERY_ROUNDS] = torch.from_numpy(whole)
    block.state[BATTERY_LEFT] = torch.from_numpy(charge.copy())
    block.state[BATTERY_EMPTY] = torch.zeros(len(block), dtype=torch.bool)


def lasting(block: Times, each: np.ndarray) -> np.ndarray:
    """Who can pay for a round of training, bool [n]; who no longer can is reported once."""
    left = block.state[BATTERY_LEFT].numpy()
    able: np.ndarray = left >= each * _ENOUGH
    empty = block.state[BATTERY_EMPTY].numpy()
    if (~able & ~empty).any():
        block.report[BATTERY_EMPTY] = np.where(~able & ~empty, left, np.nan)
    empty |= ~able
    return able


def drain(block: Times, charge: np.ndarray) -> None:
    """Take what was spent so far from what each node may use, J [n]."""
    left = charge - block.state["energy"].numpy()
    block.state[BATTERY_LEFT].copy_(torch.from_numpy(np.maximum(left, 0)))
