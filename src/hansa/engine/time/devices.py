"""The clock of a run on devices of a table: drawn at random, of classes, or from a file."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.streams import Streams
from hansa.engine.time.device_clock import DeviceClock, within
from hansa.engine.time.fleet import Fleet
from hansa.engine.time.profiles import Lognormal, Profiles


@register("devices")
class DevicesClock(DeviceClock):
    """Each client a device of its own: compute, links, power, battery, and when it is there.

    Training takes ``passes`` times sample_ms an example: FedScale's convention, in which sample_ms
    is an inference and a training step costs three (one forward, two backward). A message meets
    the latency of the sender's link and of the receiver's; servers have none.
    """

    profiles: Profiles = Field(Lognormal(), description="what the devices are like")
    passes: float = Field(
        3.0, gt=0, description="compute of a training example in sample_ms; 1: it is all of it"
    )
    kilobit: Literal[1000, 1024] = Field(1000, description="bits in the kbit of kbit/s")
    reference_parameters: int | None = Field(
        None,
        ge=1,
        description="size of the model that sample_ms is for: compute scales with the run's model; "
        "none: sample_ms holds for any model",
    )

    def check(self, nodes: int, parameters: int, samples: int | np.ndarray) -> None:
        within("profiles", lambda: self.profiles.check(nodes))
        super().check(nodes, parameters, samples)

    def deal(self, streams: Streams, clients: int, parameters: int) -> Fleet:
        table = self.profiles.deal(streams, clients)
        scale = parameters / self.reference_parameters if self.reference_parameters else 1
        return Fleet(
            seconds=self.passes * table.sample_ms / 1000 * scale,
            watts=table.watts,
            up=table.up_kbps * (self.kilobit / 8),
            down=table.down_kbps * (self.kilobit / 8),
            leaving=table.latency,
            coming=table.latency,
            battery_wh=table.battery_wh,
        )
