"""Modelled time and energy: what a run would have cost on devices and links that are not here.

The wall clock of a run is always recorded. A modelled clock is kept beside it, in simulated
seconds of each node, and is never mixed up with it. A node's round takes its compute time and
then waits for the slowest message that it needs; nodes wait for their neighbours only.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from hansa.base.component import Component, register

if TYPE_CHECKING:
    from hansa.engine.block import Block


class Clock(Component, kind="clock"):
    """Moves the nodes' modelled time, ``block.state["modelled_time"]`` in seconds, and energy."""

    @property
    def modelled(self) -> bool:
        """Whether there is a modelled time to report."""
        return True

    @abstractmethod
    def compute(self, block: Block, samples: np.ndarray) -> None:
        """Let each node work on ``samples`` [n] training examples."""

    @abstractmethod
    def departures(self, block: Block, sizes: np.ndarray, fanout: np.ndarray) -> np.ndarray:
        """When each node's message, ``sizes`` [n] bytes to ``fanout`` [n] nodes, has arrived."""

    def arrive(self, block: Block, indptr: np.ndarray, arrivals: np.ndarray) -> None:
        """Let each node wait for its messages, which arrive at ``arrivals`` [messages]."""
        waiting = np.flatnonzero(np.diff(indptr))
        if len(waiting):
            latest = np.maximum.reduceat(arrivals, indptr[waiting])
            time = block.state["modelled_time"].numpy()
            time[waiting] = np.maximum(time[waiting], latest)


@register("wall")
class WallClock(Clock):
    """Real time only: nothing is modelled."""

    @property
    def modelled(self) -> bool:
        return False

    def compute(self, block: Block, samples: np.ndarray) -> None:
        """Nothing: the wall clock runs by itself."""

    def departures(self, block: Block, sizes: np.ndarray, fanout: np.ndarray) -> np.ndarray:
        return np.zeros(len(block.ids))


@register("modelled")
class ModelledClock(Clock):
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
    radio_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of sending or receiving a byte, J"
    )

    def compute(self, block: Block, samples: np.ndarray) -> None:
        if "pace" not in block.state:
            draws = [block.streams.numpy("device", i).standard_normal() for i in block.ids]
            block.state["pace"] = torch.exp(self.spread * torch.tensor(draws, dtype=torch.float64))
        seconds = samples * self.sample_seconds * block.state["pace"].numpy()
        block.state["modelled_time"] += torch.from_numpy(seconds)
        block.state["energy"] += torch.from_numpy(seconds * self.compute_watts)

    def departures(self, block: Block, sizes: np.ndarray, fanout: np.ndarray) -> np.ndarray:
        load = sizes * fanout
        block.state["energy"] += torch.from_numpy(load * self.radio_joules_per_byte)
        return block.state["modelled_time"].numpy() + load / self.bandwidth + self.latency
