"""What a run folder says of what happened when, for a run that shall do the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hansa.base.errors import CheckpointError
from hansa.engine.exchange.recorded import Recorded
from hansa.engine.runtimes.arrivals import Order
from hansa.engine.runtimes.arrivals_file import read_arrivals
from hansa.report import RunFolder
from hansa.report.fault_log import standing

_SITES = ("lost", "rejoined")


@dataclass(frozen=True)
class Recording:
    """What a run has recorded.

    Attributes:
        done: of how many rounds.
        faults: what went wrong besides what its run file asks for.
        sites: the events of sites that were lost and came back, in their order.
        own_pace: whether the order of arrivals is recorded too, since there are no rounds.
    """

    folder: RunFolder
    done: int
    faults: Recorded
    sites: tuple[Mapping[str, Any], ...]
    own_pace: bool

    @classmethod
    def read(cls, folder: RunFolder, own_pace: bool) -> Recording:
        """The recording in a run's folder.

        Raises:
            CheckpointError: it is damaged.
        """
        done = read_arrivals(folder.path)[1] if own_pace else _rounds(folder)
        try:
            events = folder.events()
            faults = Recorded.of(events)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"an event of what went wrong is none ({error!r})"
            raise CheckpointError(f"{folder.path / 'events.jsonl'}: {problem}") from error
        sites = tuple(event for event in standing(events) if event["kind"] in _SITES)
        return cls(folder, done, faults.until(done), sites, own_pace)

    def happened(self, begin: int, end: int) -> list[dict[str, Any]]:
        """What befell sites in rounds ``begin`` (left out) to ``end``, for another run's diary; at
        the recording's end all that is left."""
        last = math.inf if end >= self.done else end
        return [
            {key: value for key, value in event.items() if key != "time"}
            for event in self.sites
            if begin < event["round"] <= last
        ]

    def order(self, nodes: int, start: int) -> Order | None:
        """The order of arrivals from round ``start`` on, where it matters."""
        if not self.own_pace:
            return None
        return Order(read_arrivals(self.folder.path)[0], nodes, start)


def _rounds(folder: RunFolder) -> int:
    """Of how many rounds, from the first on, something was measured."""
    import polars

    whole = folder.metrics().filter(polars.col("name") == "round_seconds")
    rounds = set(whole["round"].to_list())
    return next((done for done in range(len(rounds) + 1) if done + 1 not in rounds), 0)
