"""The table that a device clock goes by: what each node of a run takes and draws, in SI units."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Fleet:
    """A line a node, float64 [k] each.

    Attributes:
        seconds: of training an example.
        watts: power drawn meanwhile.
        up: bytes a second that the node can send; inf: no limit.
        down: bytes a second that it can receive.
        leaving: seconds of latency that a message meets where it is sent.
        coming: seconds of latency that it meets where it is received.
        battery_wh: capacity of its battery in Wh.
        server_leaving: ``leaving`` of a server, s; all else of a server is free and unlimited.
    """

    seconds: np.ndarray
    watts: np.ndarray
    up: np.ndarray
    down: np.ndarray
    leaving: np.ndarray
    coming: np.ndarray
    battery_wh: np.ndarray
    server_leaving: float = 0.0

    @classmethod
    def flat(
        cls,
        seconds: np.ndarray,
        watts: np.ndarray,
        battery_wh: np.ndarray,
        bandwidth: float,
        latency: float,
    ) -> Fleet:
        """Devices on links of one upload bandwidth, unlimited downloads, and one latency.

        The latency is that of the whole way, so a message meets it once: where it is sent.
        """
        k = len(seconds)
        return cls(
            seconds=seconds,
            watts=watts,
            up=np.full(k, bandwidth),
            down=np.full(k, np.inf),
            leaving=np.full(k, latency),
            coming=np.zeros(k),
            battery_wh=battery_wh,
            server_leaving=latency,
        )

    def with_servers(self, servers: int) -> Fleet:
        """The table of clients, and servers behind them."""
        if not servers:
            return self

        def and_servers(column: np.ndarray, value: float) -> np.ndarray:
            return np.concatenate([column, np.full(servers, value)])

        return replace(
            self,
            seconds=and_servers(self.seconds, 0.0),
            watts=and_servers(self.watts, 0.0),
            up=and_servers(self.up, np.inf),
            down=and_servers(self.down, np.inf),
            leaving=and_servers(self.leaving, self.server_leaving),
            coming=and_servers(self.coming, 0.0),
            battery_wh=and_servers(self.battery_wh, 0.0),
        )

    def take(self, ids: np.ndarray) -> Fleet:
        """The lines of some nodes [k]."""
        if len(ids) == len(self.seconds) and np.array_equal(ids, np.arange(len(ids))):
            return self
        return replace(
            self,
            seconds=self.seconds[ids],
            watts=self.watts[ids],
            up=self.up[ids],
            down=self.down[ids],
            leaving=self.leaving[ids],
            coming=self.coming[ids],
            battery_wh=self.battery_wh[ids],
        )
