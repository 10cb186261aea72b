"""What a site records where nobody gathers the reports of all: those of its own nodes.

Its folder has the usual schema. What the whole run says of a round (means, message sizes) is here
said of these nodes alone, and what it is made of is kept by node in every round, so that folders of
several sites can be put together (:mod:`hansa.report.joining`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.engine.exchange.exchange import MESSAGE_BYTES
from hansa.engine.job import Job
from hansa.engine.runtimes.collect import Collector, Progress
from hansa.engine.runtimes.host import Report
from hansa.engine.time.battery import BATTERY_EMPTY
from hansa.report import RunFolder


class PartialCollector(Collector):
    """Records what the nodes of one site report.

    Args:
        nodes: how many they are.
    """

    def __init__(
        self, job: Job, folder: RunFolder, nodes: int, progress: Progress | None = None
    ) -> None:
        super().__init__(job, folder, progress)
        self.expected = nodes

    def _record(self, done: int, parts: list[Report]) -> None:
        super()._record(done, parts)
        for part in parts:
            whole = part["measured"] is not None
            for name, array in part["values"].items():
                if name == BATTERY_EMPTY or (whole and name != MESSAGE_BYTES):
                    continue  # those are recorded by node anyhow
                self._by_node(done, part, name, array)

    def _by_node(self, done: int, part: dict[str, Any], name: str, array: np.ndarray) -> None:
        seen = ~np.isnan(array)
        if seen.any():
            where = {"node": part["ids"][seen], "time": part["at"] - self.began}
            counters = part["counters"]
            figures = {"step": counters["steps"][seen], "bytes": counters["bytes_sent"][seen]}
            self.folder.record(done, name, array[seen], **where, **figures)
