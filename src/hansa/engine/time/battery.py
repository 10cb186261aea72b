"""Batteries: nodes that can no longer pay for a round of training stop training."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.lazy import torch
from hansa.engine.time.clock import DeviceClock
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


class BatteryClock(DeviceClock):
    """Devices with batteries, if a share of them is set.

    A node whose battery cannot pay for another round of training stops training and goes on
    synchronizing, whatever the algorithm.
    """

    battery_share: float | None = Field(
        None, gt=0, le=1, description="part of a full battery that a node may use; none = no limit"
    )
    send_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of sending a byte, J (SkipTrain neglects it)"
    )
    receive_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of receiving a byte, J (SkipTrain neglects it)"
    )

    @abstractmethod
    def batteries(self, block: Times, ids: np.ndarray) -> np.ndarray:
        """Energy that each client may use, J [k]."""

    def start(self, block: Times) -> None:
        """``battery_rounds``: rounds of training that each node can pay for."""
        if self.battery_share is None:
            return
        charge, each = self._charge(block), self._round(block)
        with np.errstate(divide="ignore", invalid="ignore"):
            rounds = np.where(each > 0, np.floor(charge / each * _WHOLE), FOREVER)
        whole = np.minimum(rounds, FOREVER).astype(np.int64)
        block.state[BATTERY_ROUNDS] = torch.from_numpy(whole)
        block.state[BATTERY_LEFT] = torch.from_numpy(charge)
        block.state[BATTERY_EMPTY] = torch.zeros(len(block), dtype=torch.bool)

    def awake(self, block: Times) -> np.ndarray | None:
        """Who can pay for a round of training; those who no longer can are reported once."""
        if self.battery_share is None:
            return None
        left = block.state[BATTERY_LEFT].numpy()
        able: np.ndarray = left >= self._round(block) * _ENOUGH
        empty = block.state[BATTERY_EMPTY].numpy()
        if (~able & ~empty).any():
            block.report[BATTERY_EMPTY] = np.where(~able & ~empty, left, np.nan)
        empty |= ~able
        return able

    def radio(self) -> tuple[float, float]:
        return self.send_joules_per_byte, self.receive_joules_per_byte

    def spend(self, block: Times, kind: str, joules: np.ndarray) -> None:
        super().spend(block, kind, joules)
        if self.battery_share is not None:
            left = self._charge(block) - block.state["energy"].numpy()
            block.state[BATTERY_LEFT].copy_(torch.from_numpy(np.maximum(left, 0)))

    def _charge(self, block: Times) -> np.ndarray:
        """What each node may use, J [n]; servers need no battery, so theirs is shown as 0."""
        charge = np.zeros(len(block))
        clients = block.ids < block.clients
        charge[clients] = self.batteries(block, block.ids[clients])
        return charge

    def _round(self, block: Times) -> np.ndarray:
        """Energy of a round of training, J [n]; servers need none."""
        pace, watts = self.labour(block, block.ids)
        each = pace * block.trainer.asked_examples(block.own_sizes) * watts
        return each if block.effort is None else each * block.effort
