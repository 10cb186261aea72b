"""The clock of a run on devices of one make, some slower than others."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base import many
from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.engine.time.device_clock import DeviceClock
from hansa.engine.time.fleet import Drawn, Fleet
from hansa.engine.time.memo import remembered


@register("modelled")
class ModelledClock(DeviceClock):
    """Devices of one make with a spread of speeds, on links of one bandwidth and latency."""

    sample_seconds: float = Field(
        1e-3, ge=0, description="seconds of local training an example, for the median node"
    )
    spread: float = Field(
        0.0, ge=0, description="sigma of the log-normal spread of the nodes' compute times"
    )
    bandwidth: float = Field(
        12.5e6, gt=0, description="bytes a second that a node can send, shared by its receivers"
    )
    latency: float = Field(0.02, ge=0, description="seconds that a message is on its way")
    compute_watts: float = Field(5.0, ge=0, description="power drawn while training, W")
    battery_wh: float = Field(15.0, gt=0, description="capacity of a battery, Wh")
    radio_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of a byte, J, sent or received, beside that of either way"
    )

    def deal(self, streams: Streams, clients: int, parameters: int) -> Fleet:
        def seconds(ids: np.ndarray) -> np.ndarray:
            return self.sample_seconds * self._slowness(streams, ids).numpy()

        few = clients < many.MANY
        return Fleet.flat(
            seconds=seconds(np.arange(clients)) if few else Drawn(clients, seconds),
            watts=np.broadcast_to(self.compute_watts, clients),
            battery_wh=np.broadcast_to(self.battery_wh, clients),
            bandwidth=self.bandwidth,
            latency=self.latency,
        )

    def radio(self) -> tuple[float, float]:
        each = self.radio_joules_per_byte
        return self.send_joules_per_byte + each, self.receive_joules_per_byte + each

    def _slowness(self, streams: Streams, ids: np.ndarray) -> torch.Tensor:
        if not self.spread:
            return torch.ones(len(ids), dtype=torch.float64)
        drawn: dict[int, float] = remembered(streams, "device", dict)
        for i in ids.tolist():
            if i not in drawn:
                drawn[i] = streams.numpy("device", i).standard_normal()
        draws = torch.tensor([drawn[i] for i in ids.tolist()], dtype=torch.float64)
        return torch.exp(self.spread * draws)
