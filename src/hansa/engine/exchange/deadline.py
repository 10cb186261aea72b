"""How long a silence may last."""

from __future__ import annotations

import time


class Deadline:
    """How long a silence may last: the one time limit of a run."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.touch()

    def touch(self) -> None:
        """Something was heard."""
        self._last = time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether the silence has lasted too long."""
        return time.monotonic() - self._last > self.seconds
