"""The table that a device clock goes by: what each node of a run takes and draws, in SI units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np

from hansa.base import many


class Drawn:
    """A column of very many nodes, worked out for those that it is asked for; to NumPy an array.

    Args:
        nodes: how many nodes there are.
        of: the figures of nodes [k], float64 [k]; the same whoever else is asked for.
    """

    def __init__(self, nodes: int, of: Callable[[np.ndarray], np.ndarray]) -> None:
        self.nodes, self.of = nodes, of

    def __len__(self) -> int:
        return self.nodes

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        return self.of(ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self.of(np.arange(self.nodes))
        return whole if dtype is None else whole.astype(dtype)


Column: TypeAlias = "np.ndarray | Drawn"


@dataclass(frozen=True)
class Fleet:
    """A line a node, float64 [k] each; of very many nodes what :class:`Drawn` gives of some.

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

    seconds: Any
    watts: Any
    up: Any
    down: Any
    leaving: Any
    coming: Any
    battery_wh: Any
    server_leaving: float = 0.0

    @classmethod
    def flat(
        cls,
        seconds: Column,
        watts: Column,
        battery_wh: Column,
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
            up=np.broadcast_to(bandwidth, k),
            down=np.broadcast_to(np.inf, k),
            leaving=np.broadcast_to(latency, k),
            coming=np.broadcast_to(0.0, k),
            battery_wh=battery_wh,
            server_leaving=latency,
        )

    def with_servers(self, servers: int) -> Fleet:
        """The table of clients, and servers behind them."""
        if not servers:
            return self

        def and_servers(column: Column, value: float) -> Column:
            k = len(column)
            if k < many.MANY:
                return np.concatenate([column, np.full(servers, value)])

            def of(ids: np.ndarray) -> np.ndarray:
                return np.where(ids < k, column[np.minimum(ids, k - 1)], value)

            return Drawn(k + servers, of)

        behind = {"up": np.inf, "down": np.inf, "leaving": self.server_leaving}
        return self._with(lambda name, column: and_servers(column, behind.get(name, 0.0)))

    def take(self, ids: np.ndarray) -> Fleet:
        """The lines of some nodes [k]."""
        if len(ids) == len(self.seconds) and _all_in_order(ids):
            return self
        return self._with(lambda name, column: column[ids])

    def whole(self) -> Fleet:
        """The same lines as arrays."""
        return self._with(lambda name, column: np.asarray(column))

    def _with(self, change: Callable[[str, Column], Column]) -> Fleet:
        names = [each.name for each in fields(self) if each.name != "server_leaving"]
        columns: dict[str, Any] = {name: change(name, getattr(self, name)) for name in names}
        return replace(self, **columns)


def _all_in_order(ids: np.ndarray) -> bool:
    """Whether these are 0, 1, 2 ..."""
    return not len(ids) or bool(ids[0] == 0 and (ids[1:] - ids[:-1] == 1).all())
