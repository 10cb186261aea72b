"""What devices are like: drawn from distributions, named classes, or read from files.

A table has a line a client; all of it is a function of the settings and the run's seed.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.lazy import stats
from hansa.base.streams import Streams
from hansa.engine.settings import Settings


@dataclass(frozen=True)
class Devices:
    """A line a client, float64 [clients] each.

    Attributes:
        sample_ms: ms of compute an example (see ``passes`` of the clock).
        up_kbps: kbit/s that the device can send.
        down_kbps: kbit/s that it can receive; inf: no limit.
        latency: seconds that a message takes over its own link.
        watts: power drawn while training.
        battery_wh: capacity of its battery in Wh.
    """

    sample_ms: np.ndarray
    up_kbps: np.ndarray
    down_kbps: np.ndarray
    latency: np.ndarray
    watts: np.ndarray
    battery_wh: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_ms)


class Profiles(Component, kind="profiles"):
    """A device for each client.

    Settings must be hashable (tuples, not lists): the table is remembered.
    """

    def check(self, clients: int) -> None:
        """Refuse settings that cannot work for so many clients, files that make no sense too.

        Raises:
            ConfigError: naming field, value and fix.
            DataError: a file of devices makes no sense.
        """
        self.deal(Streams(0), clients)

    @abstractmethod
    def deal(self, streams: Streams, clients: int) -> Devices:
        """The table of a run."""


class Common(Profiles):
    """What a source does not tell of its devices."""

    latency: float = Field(0.02, ge=0, description="seconds a message takes over a node's own link")
    watts: float = Field(5.0, ge=0, description="power drawn while training, W")
    battery_wh: float = Field(15.0, gt=0, description="capacity of a battery, Wh")

    def table(self, sample_ms: np.ndarray, up: np.ndarray, down: np.ndarray) -> Devices:
        """Devices of which speed and links are known."""
        n = len(sample_ms)
        return Devices(
            sample_ms,
            up,
            down,
            np.broadcast_to(self.latency, n),
            np.broadcast_to(self.watts, n),
            np.broadcast_to(self.battery_wh, n),
        )


@register("lognormal")
class Lognormal(Common):
    """Compute times and links log-normal around medians, drawn apart from each other."""

    sample_ms: float = Field(60.0, ge=0, description="median compute an example, ms")
    sample_sigma: float = Field(0.8, ge=0, description="spread of the logarithm of compute times")
    up_kbps: float = Field(8000.0, gt=0, description="median upload, kbit/s")
    down_kbps: float | None = Field(
        None, gt=0, description="median download, kbit/s; none: a node's upload"
    )
    link_sigma: float = Field(1.0, ge=0, description="spread of the logarithm of links")

    def deal(self, streams: Streams, clients: int) -> Devices:
        z = streams.numpy("devices").standard_normal((clients, 3))
        up = self.up_kbps * np.exp(self.link_sigma * z[:, 1])
        down = up if self.down_kbps is None else self.down_kbps * np.exp(self.link_sigma * z[:, 2])
        return self.table(self.sample_ms * np.exp(self.sample_sigma * z[:, 0]), up, down)


# Two remarks on the trace in public scripts, neither checked here: the median link has 6.1 Mbit/s
# and 26 % of them less than 3; compute times lie between about 15 and 199 ms an example.
_FASTEST, _SLOWEST = 15.0, 199.0


@register("fedscale_like", paper="Lai et al.", year=2022, url="https://arxiv.org/abs/2105.11367")
class FedScaleLike(Common):
    """Devices somewhat like those of FedScale's capacity trace, for those who do not have it.

    Not the trace, nor fitted to it: its file was not at hand. Known of it for certain are its form
    (one number for compute in ms an example, one for both directions of the link in kbit/s, for
    500,000 devices: issue 6 of the FedScale repository; from AI Benchmark and MobiPerf: Lai et al.,
    ICML 2022) and one device, 432802, with 162.0 ms and 5,648 kbit/s, which lies well inside what
    is drawn here. Second hand, from remarks in public scripts that read it: a median link of 6.1
    Mbit/s with 26 % below 3, and compute times from 15 to 199 ms in a sample.

    Ours are the rest: links log-normal through those two points (sigma 1.10); compute times
    log-normal around the geometric middle of the range, 54.6 ms, and cut off at its ends, two
    sigmas away (0.65); the two drawn apart from each other; latency, power and battery.
    """

    def deal(self, streams: Streams, clients: int) -> Devices:
        u = streams.numpy("devices").random((clients, 2))
        middle, half = np.sqrt(_FASTEST * _SLOWEST), np.log(_SLOWEST / _FASTEST) / 2
        sample_ms = middle * np.exp(half / 2 * stats.truncnorm.ppf(u[:, 0], -2, 2))
        link_sigma = float(np.log(6.1 / 3) / -stats.norm.ppf(0.26))
        link = 6100.0 * np.exp(link_sigma * stats.norm.ppf(np.clip(u[:, 1], 1e-9, 1 - 1e-9)))
        return self.table(sample_ms, link, link)


class DeviceClass(Settings):
    """Devices of one sort."""

    title: str = Field(description="what they are called")
    share: float = Field(gt=0, description="part of the clients, relative to the other classes'")
    sample_ms: float = Field(ge=0, description="median compute an example, ms")
    up_kbps: float = Field(gt=0, description="upload, kbit/s")
    down_kbps: float | None = Field(None, gt=0, description="download, kbit/s; none: no limit")
    latency: float = Field(0.02, ge=0, description="seconds over the device's own link")
    watts: float = Field(5.0, ge=0, description="power drawn while training, W")
    battery_wh: float = Field(15.0, gt=0, description="capacity of the battery, Wh")
    sigma: float = Field(0.0, ge=0, description="spread of the logarithm of compute times")


HOUSEHOLD = (
    DeviceClass(title="phone", share=6, sample_ms=60, up_kbps=8e3, down_kbps=32e3),
    DeviceClass(title="tablet", share=2, sample_ms=45, up_kbps=16e3, down_kbps=64e3, battery_wh=30),
    DeviceClass(
        title="laptop", share=1, sample_ms=12, up_kbps=2e4, down_kbps=1e5, watts=28, battery_wh=56
    ),
    DeviceClass(title="pi", share=1, sample_ms=150, up_kbps=2e4, down_kbps=1e5, watts=7),
)
"""A mixture to start from. The figures are ours: plausible, not measured."""


@register("classes")
class DeviceClasses(Profiles):
    """Named classes of devices in given shares, which are met as exactly as whole clients allow.

    Which clients are of which class is drawn by the run's seed.
    """

    classes: tuple[DeviceClass, ...] = Field(
        HOUSEHOLD, min_length=1, description="the classes: title, share, sample_ms, up_kbps ..."
    )

    def check(self, clients: int) -> None:
        titles = [each.title for each in self.classes]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ConfigError("classes", twice[0], "is there twice", "one title a class")
        super().check(clients)

    def members(self, streams: Streams, clients: int) -> np.ndarray:
        """The class of each client, int64 [clients]: largest remainders, then shuffled."""
        shares = np.array([each.share for each in self.classes])
        quota = clients * shares / shares.sum()
        counts = np.floor(quota).astype(np.int64)
        order = np.argsort(counts - quota, kind="stable")
        counts[order[: clients - counts.sum()]] += 1
        members = np.repeat(np.arange(len(self.classes)), counts)
        return streams.numpy("device classes").permutation(members)

    def deal(self, streams: Streams, clients: int) -> Devices:
        members = self.members(streams, clients)

        def column(name: str) -> np.ndarray:
            values = [getattr(each, name) for each in self.classes]
            return np.array([np.inf if v is None else v for v in values], dtype=np.float64)[members]

        z = streams.numpy("devices").standard_normal(clients)
        return Devices(
            column("sample_ms") * np.exp(column("sigma") * z),
            column("up_kbps"),
            column("down_kbps"),
            column("latency"),
            column("watts"),
            column("battery_wh"),
        )
