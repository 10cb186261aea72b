"""The clients' reports of a round, put together: most of them were not asked in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hansa.engine.runtimes.collect import overlaid
from hansa.engine.runtimes.host import Report


class Roll:
    """What the clients have told of themselves; a silent one's counters stay as they were."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self._counters: dict[str, np.ndarray] = {}

    def report(self, servers: Report, told: dict[int, Report]) -> Report:
        """The report of all clients, beside that of the servers."""
        for name, array in servers["counters"].items():
            self._counters.setdefault(name, np.zeros(self.clients, dtype=array.dtype))
        for client, name, value in _items(told, "counters"):
            self._counters[name][client] = value[0]
        measured: dict[str, Any] | None = servers["measured"]
        if measured is not None:
            # Clients keep no model that could be measured.
            nothing = np.zeros_like(measured["mean"])
            measured = {"values": {}, "mean": nothing, "spread": 0.0, "models": 0}
        return {
            "round": servers["round"],
            "ids": np.arange(self.clients),
            "seconds": 0.0,
            "at": servers["at"],
            "values": self._spread(told, "values"),
            "log": overlaid([told[k]["log"] for k in sorted(told)]),
            "events": [event for k in sorted(told) for event in told[k]["events"]],
            "counters": {name: array.copy() for name, array in self._counters.items()},
            "measured": measured,
            "extra": servers["extra"],
        }

    def _spread(self, told: dict[int, Report], part: str) -> dict[str, np.ndarray]:
        """Arrays over all clients, NaN where one said nothing."""
        spread: dict[str, np.ndarray] = {}
        for client, name, value in _items(told, part):
            spread.setdefault(name, np.full(self.clients, np.nan))[client] = value[0]
        return spread


def _items(told: dict[int, Report], part: str) -> Iterator[tuple[int, str, np.ndarray]]:
    for client in sorted(told):
        for name, value in told[client][part].items():
            yield client, name, value
