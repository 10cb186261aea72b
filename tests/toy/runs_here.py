"""Runs of a sweep in this process, one after the other: what comes of them is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.experiment.sweep.worker import host


class RunsHere:
    """Where processes of a sweep live that are none."""

    def __init__(self, logs: Path, threads: int) -> None:
        pass

    def start(self, site: int, packet: dict[str, Any]) -> None:
        host(packet)

    def status(self, site: int) -> int | None:
        return 0

    def interrupt(self, site: int) -> None:
        raise AssertionError

    kill = interrupt

    def close(self) -> None:
        pass
