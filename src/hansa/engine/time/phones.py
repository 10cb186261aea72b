"""The clock of a run on phones: time and energy by device, and batteries that run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine.time.battery import BatteryClock
from hansa.engine.time.clock import FlatClock
from hansa.engine.time.energy import PHONES, Phone, PhoneName

if TYPE_CHECKING:
    from hansa.engine.time.times import Times


@register("phones", paper="Biswas et al.", year=2024, url="https://arxiv.org/abs/2407.01283")
class Phones(BatteryClock, FlatClock):
    """SkipTrain's four phones in turn (Biswas et al., 2024), with batteries if a share is set.

    A node whose battery cannot pay for another round of training stops training and goes on
    synchronizing, whatever the algorithm.
    """

    devices: tuple[PhoneName, ...] = Field(
        tuple(PHONES), min_length=1, description="node i is the (i mod length)-th of these"
    )

    def check(self, nodes: int, parameters: int, samples: int | np.ndarray) -> None:
        if self.battery_share is None:
            return
        which = np.arange(nodes) % len(self.devices)
        share = [p.training_joules(parameters) / p.joules() for p in self._phones()]
        examples = np.broadcast_to(samples, nodes)
        needed = np.array(share)[which] * examples
        worst = int(np.argmax(needed))
        phone = self._phones()[which[worst]]
        if phone.budget(self.battery_share, parameters, int(examples[worst])) < 1:
            least = 1.01 * needed[worst]  # still enough when it is written with three digits
            fix = f"at least {least:.3g}" if least <= 1 else "fewer local steps or smaller batches"
            problem = f"does not last one round of training on a {phone.title}"
            raise ConfigError("battery_share", self.battery_share, problem, fix)

    def work(self, block: Times, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        size = block.trainer.layout.trainable
        seconds = [phone.training_seconds(size) for phone in self._phones()]
        which = (block.ids if ids is None else ids) % len(self.devices)
        return np.array(seconds)[which], np.array([phone.watts for phone in self._phones()])[which]

    def batteries(self, block: Times, ids: np.ndarray) -> np.ndarray:
        full = [phone.joules(self.battery_share or 0) for phone in self._phones()]
        return np.array(full)[ids % len(self.devices)]

    def _phones(self) -> list[Phone]:
        return [PHONES[name] for name in self.devices]
