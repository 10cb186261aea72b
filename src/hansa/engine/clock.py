"""Modelled time and energy: what a run would have cost on devices and links that are not here.

The wall clock of a run is always recorded. A modelled clock is kept beside it, in simulated
seconds of each node, and is never mixed up with it. A node's round takes its compute time and
then waits for the slowest message that it needs; nodes wait for their neighbours only.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
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

    def check(self, nodes: int, parameters: int, samples: int) -> None:
        """Refuse settings that cannot work with this model and so many examples a round.

        Raises:
            ConfigError: naming field, value and fix.
        """

    def start(self, block: Block) -> None:
        """Put the clock's own state into ``block.state`` before the first round."""

    def awake(self, block: Block) -> np.ndarray | None:
        """Which nodes have the energy to train in the coming round, bool [n]; None: all."""
        return None

    @abstractmethod
    def compute(self, block: Block, samples: np.ndarray) -> None:
        """Let each node work on ``samples`` [n] training examples."""

    def finish(self, block: Block, samples: np.ndarray) -> np.ndarray:
        """The modelled time [n] at which each node would be done with ``samples`` [n] examples."""
        small = {name: value.clone() for name, value in block.state.items() if value.ndim == 1}
        trial = replace(block, state=small)
        self.compute(trial, samples)
        return small["modelled_time"].numpy()

    @abstractmethod
    def send(self, block: Block, load: np.ndarray) -> np.ndarray:
        """When all that each node sends now, ``load`` [n] bytes, has arrived: seconds [n]."""

    def receive(
        self, block: Block, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        """Let each node wait for its messages, ``heard`` [n] bytes at ``arrivals`` [messages]."""
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

    def send(self, block: Block, load: np.ndarray) -> np.ndarray:
        return np.zeros(len(block.ids))


class DeviceClock(Clock):
    """Devices that take time and power to train, on links of one bandwidth and latency."""

    bandwidth: float = Field(
        12.5e6, gt=0, description="bytes a second that a node can send, shared by its receivers"
    )
    latency: float = Field(0.02, ge=0, description="seconds that a message is on its way")

    @abstractmethod
    def work(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of training an example and power meanwhile in W, of each node, [n] and [n]."""

    @abstractmethod
    def radio(self) -> tuple[float, float]:
        """Energy of sending and of receiving a byte, J."""

    def compute(self, block: Block, samples: np.ndarray) -> None:
        pace, watts = self.work(block)
        seconds = samples * pace
        block.state["modelled_time"] += torch.from_numpy(seconds)
        self.spend(block, "training_energy", seconds * watts)

    def send(self, block: Block, load: np.ndarray) -> np.ndarray:
        self.spend(block, "radio_energy", load * self.radio()[0])
        return block.state["modelled_time"].numpy() + load / self.bandwidth + self.latency

    def receive(
        self, block: Block, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        super().receive(block, heard, indptr, arrivals)
        self.spend(block, "radio_energy", heard * self.radio()[1])

    def spend(self, block: Block, kind: str, joules: np.ndarray) -> None:
        """Count energy of a kind, ``training_energy`` or ``radio_energy``; ``energy`` is both."""
        state = block.state
        state[kind] += torch.from_numpy(joules)
        torch.add(state["training_energy"], state["radio_energy"], out=state["energy"])


@register("modelled")
class ModelledClock(DeviceClock):
    """Devices of one make with a spread of speeds, on links of one bandwidth and latency."""

    sample_seconds: float = Field(
        1e-3, ge=0, description="seconds of local training an example, for the median node"
    )
    spread: float = Field(
        0.0, ge=0, description="sigma of the log-normal spread of the nodes' compute times"
    )
    compute_watts: float = Field(5.0, ge=0, description="power drawn while training, W")
    radio_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of sending or receiving a byte, J"
    )

    def work(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        if "pace" not in block.state:
            draws = [block.streams.numpy("device", i).standard_normal() for i in block.ids]
            block.state["pace"] = torch.exp(self.spread * torch.tensor(draws, dtype=torch.float64))
        seconds = self.sample_seconds * block.state["pace"].numpy()
        return seconds, np.full(len(block), self.compute_watts)

    def radio(self) -> tuple[float, float]:
        return self.radio_joules_per_byte, self.radio_joules_per_byte
