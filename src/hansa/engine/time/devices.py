"""The clock of a run on devices that differ: in speed, links, power, battery and availability."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.engine.time.availability import Always, Availability
from hansa.engine.time.bandwidth import flow
from hansa.engine.time.battery import BatteryClock
from hansa.engine.time.clock import Clock
from hansa.engine.time.memo import remembered
from hansa.engine.time.profiles import Devices, Lognormal, Profiles

if TYPE_CHECKING:
    from hansa.engine.time.times import Times


@register("devices")
class DevicesClock(BatteryClock):
    """Each client a device of its own: compute, links, power, battery, and when it is there.

    Training takes ``passes`` times sample_ms an example: FedScale's convention, in which sample_ms
    is an inference and a training step costs three (one forward, two backward). A message meets
    the latency of the sender's link and of the receiver's; servers have none.
    """

    profiles: Profiles = Field(Lognormal(), description="what the devices are like")
    availability: Availability = Field(Always(), description="when they are there")
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
    contention: Literal["none", "fair", "greedy"] = Field(
        "none",
        description="how transfers share links: none = store and forward; fair = max-min; greedy = "
        "first come, first served (the last two in one block only)",
    )

    def check(self, nodes: int, parameters: int, samples: int | np.ndarray) -> None:
        """Batteries are refused only where no device lasts a round: some do run out."""
        _within("profiles", lambda: self.profiles.check(nodes))
        _within("availability", lambda: self.availability.check(nodes))
        if self.battery_share is None:
            return
        table = self.profiles.deal(Streams(0), nodes)
        needed = self._seconds(table, parameters) * samples * table.watts
        shares = needed / (table.battery_wh * 3600)
        if shares.min() > self.battery_share:
            least = 1.01 * float(np.median(shares))
            fix = f"{least:.3g} is enough for half of the nodes"
            if least > 1:
                fix = "fewer local steps, smaller batches, or larger batteries"
            problem = "does not last one round of training on any device"
            raise ConfigError("battery_share", self.battery_share, problem, fix)

    def check_place(self, whole: bool) -> None:
        if self.contention != "none" and not whole:
            raise ConfigError(
                "contention",
                self.contention,
                "needs all nodes in one block, to know all transfers",
                "contention: none, or runtime: simulate",
            )

    def table(self, block: Times) -> Devices:
        """The device of every client of the run."""
        clients = block.clients
        return remembered(
            block.streams,
            (self.profiles, clients),
            lambda: self.profiles.deal(block.streams, clients),
        )

    def work(self, block: Times, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        table, which = self.table(block), block.ids if ids is None else ids
        seconds = self._seconds(table, block.trainer.layout.trainable)
        return seconds[which], table.watts[which]

    def links(self, block: Times, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table, factor = self.table(block), self.kilobit / 8
        return table.up_kbps[ids] * factor, table.down_kbps[ids] * factor, table.latency[ids]

    def batteries(self, block: Times, ids: np.ndarray) -> np.ndarray:
        return (self.battery_share or 0) * self.table(block).battery_wh[ids] * 3600

    def available(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        return self._ask(self.availability.online, block, ids, time, 1.0, 0.0).astype(bool)

    def leaves(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        return self._ask(self.availability.leaves, block, ids, time, np.inf)

    def returns(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        return self._ask(self.availability.returns, block, ids, time, time)

    def transfer(
        self, block: Times, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """With contention, both links of a message and the other messages on them at once.

        Messages of an exchange contend with each other, not with those of other exchanges.
        """
        if self.contention == "none":
            return super().transfer(block, senders, receivers, sizes)
        self._radiate(block, np.bincount(senders, weights=sizes, minlength=len(block)), 0)
        to = block.positions(receivers)
        up, down, latency = self.reach(block, block.ids)
        start = block.state["modelled_time"].numpy()[senders]
        done = flow(senders, to, sizes, start, up, down, self.contention)
        busy = np.where(block.ids < block.clients, done.busy, 0)
        block.state["transfer_time"] += torch.from_numpy(busy)
        return done.finish + latency[senders] + latency[to]

    def receive(
        self, block: Times, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        if self.contention == "none":
            super().receive(block, heard, indptr, arrivals)
            return
        Clock.receive(self, block, heard, indptr, arrivals)  # the way in is in the arrivals
        self._radiate(block, heard, 1)

    def _seconds(self, table: Devices, parameters: int) -> np.ndarray:
        """Seconds of training an example, of every client."""
        scale = parameters / self.reference_parameters if self.reference_parameters else 1
        return self.passes * table.sample_ms / 1000 * scale

    def _ask(
        self,
        question: Callable[[Streams, int, np.ndarray, np.ndarray], np.ndarray],
        block: Times,
        ids: np.ndarray,
        time: float | np.ndarray,
        servers: float | np.ndarray,
        never: float = np.inf,
    ) -> np.ndarray:
        """The answers of clients, ``never`` where the time is infinite, and of ``servers``."""
        ids = np.asarray(ids)
        moments = np.broadcast_to(np.asarray(time, dtype=np.float64), ids.shape)
        answer = np.broadcast_to(np.asarray(servers, dtype=np.float64), ids.shape).copy()
        clients = ids < block.clients
        answer[clients] = never
        clients &= np.isfinite(moments)
        answer[clients] = question(block.streams, block.clients, ids[clients], moments[clients])
        return answer


def _within(part: str, work: Callable[[], None]) -> None:
    """Run a part's check; its error names the field as the clock's settings do."""
    try:
        work()
    except ConfigError as error:
        raise error.under(part) from None
