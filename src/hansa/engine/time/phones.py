"""The clock of a run on the phones of SkipTrain."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base import many
from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine.time.device_clock import DeviceClock
from hansa.engine.time.energy import PHONES, Phone, PhoneName
from hansa.engine.time.fleet import Column, Drawn, Fleet


@register("phones", paper="Biswas et al.", year=2024, url="https://arxiv.org/abs/2407.01283")
class Phones(DeviceClock):
    """SkipTrain's four phones in turn (Biswas et al., 2024), with batteries if a share is set.

    A node whose battery cannot pay for another round of training stops training and goes on
    synchronizing, whatever the algorithm.
    """

    devices: tuple[PhoneName, ...] = Field(
        tuple(PHONES), min_length=1, description="node i is the (i mod length)-th of these"
    )
    bandwidth: float = Field(
        12.5e6, gt=0, description="bytes a second that a node can send, shared by its receivers"
    )
    latency: float = Field(0.02, ge=0, description="seconds that a message is on its way")

    def deal(self, streams: Streams, clients: int, parameters: int) -> Fleet:
        phones = self._phones()

        def column(values: list[float]) -> Column:
            each = np.array(values)
            if clients < many.MANY:
                return each[np.arange(clients) % len(each)]
            return Drawn(clients, lambda ids: each[ids % len(each)])

        return Fleet.flat(
            seconds=column([phone.training_seconds(parameters) for phone in phones]),
            watts=column([phone.watts for phone in phones]),
            battery_wh=column([phone.battery_wh for phone in phones]),
            bandwidth=self.bandwidth,
            latency=self.latency,
        )

    def check_battery(
        self, share: float, fleet: Fleet, parameters: int, samples: int | np.ndarray
    ) -> None:
        """Every phone has to last a round."""
        nodes = len(fleet.seconds)
        which = np.arange(nodes) % len(self.devices)
        each = [p.training_joules(parameters) / p.joules() for p in self._phones()]
        examples = np.broadcast_to(samples, nodes)
        needed = np.array(each)[which] * examples
        worst = int(np.argmax(needed))
        phone = self._phones()[which[worst]]
        if phone.budget(share, parameters, int(examples[worst])) < 1:
            least = 1.01 * needed[worst]  # still enough when it is written with three digits
            fix = f"at least {least:.3g}" if least <= 1 else "fewer local steps or smaller batches"
            problem = f"does not last one round of training on a {phone.title}"
            raise ConfigError("battery_share", share, problem, fix)

    def _phones(self) -> list[Phone]:
        return [PHONES[name] for name in self.devices]
