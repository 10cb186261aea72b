"""The clock of a run on phones: time and energy by device, and batteries that run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine.clock import DeviceClock
from hansa.engine.energy import PHONES, Phone, PhoneName

if TYPE_CHECKING:
    from hansa.engine.block import Block

_ENOUGH = 1 - 1e-9  # what rounding may have taken from a battery


@register("phones")
class Phones(DeviceClock):
    """SkipTrain's four phones in turn (Biswas et al., 2024), with batteries if a share is set.

    A node whose battery cannot pay for another round of training stops training and goes on
    synchronizing, whatever the algorithm.
    """

    devices: tuple[PhoneName, ...] = Field(
        tuple(PHONES), min_length=1, description="node i is the (i mod length)-th of these"
    )
    battery_share: float | None = Field(
        None, gt=0, le=1, description="part of a full battery that a node may use; none = no limit"
    )
    send_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of sending a byte, J (SkipTrain neglects it)"
    )
    receive_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of receiving a byte, J (SkipTrain neglects it)"
    )

    def check(self, nodes: int, parameters: int, samples: int) -> None:
        if self.battery_share is None:
            return
        phones = [PHONES[name] for name in self.devices[:nodes]]
        needed = [phone.training_joules(parameters, samples) / phone.joules() for phone in phones]
        worst = int(np.argmax(needed))
        if phones[worst].budget(self.battery_share, parameters, samples) < 1:
            least = 1.01 * needed[worst]  # still enough when it is written with three digits
            fix = f"at least {least:.3g}" if least <= 1 else "fewer local steps or smaller batches"
            problem = f"does not last one round of training on a {phones[worst].title}"
            raise ConfigError("battery_share", self.battery_share, problem, fix)

    def start(self, block: Block) -> None:
        if self.battery_share is None:
            return
        share, cost = self.battery_share, self._round(block)
        phones = self._phones(block)
        budgets = [phone.budget(share, *cost) for phone in phones]
        block.state["battery_rounds"] = torch.tensor(budgets, dtype=torch.int64)
        block.state["battery_left"] = torch.from_numpy(self._charge(block))
        block.state["battery_empty"] = torch.zeros(len(block), dtype=torch.bool)

    def awake(self, block: Block) -> np.ndarray | None:
        """Who can pay for a round of training; those who no longer can are reported once."""
        if self.battery_share is None:
            return None
        cost = self._round(block)
        needed = np.array([phone.training_joules(*cost) for phone in self._phones(block)])
        left = block.state["battery_left"].numpy()
        able: np.ndarray = left >= needed * _ENOUGH
        empty = block.state["battery_empty"].numpy()
        if (~able & ~empty).any():
            block.report["battery_empty"] = np.where(~able & ~empty, left, np.nan)
        empty |= ~able
        return able

    def work(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        size, phones = block.trainer.layout.trainable, self._phones(block)
        seconds = np.array([phone.training_seconds(size) for phone in phones])
        return seconds, np.array([phone.watts for phone in phones])

    def radio(self) -> tuple[float, float]:
        return self.send_joules_per_byte, self.receive_joules_per_byte

    def spend(self, block: Block, kind: str, joules: np.ndarray) -> None:
        super().spend(block, kind, joules)
        if self.battery_share is not None:
            left = self._charge(block) - block.state["energy"].numpy()
            block.state["battery_left"].copy_(torch.from_numpy(np.maximum(left, 0)))

    def _phones(self, block: Block) -> list[Phone]:
        return [PHONES[self.devices[i % len(self.devices)]] for i in block.ids]

    def _charge(self, block: Block) -> np.ndarray:
        """What each node may use, J."""
        return np.array([phone.joules(self.battery_share or 0) for phone in self._phones(block)])

    def _round(self, block: Block) -> tuple[int, int]:
        """(parameters, examples) of a round of training."""
        return block.trainer.layout.trainable, block.trainer.samples_per_round
