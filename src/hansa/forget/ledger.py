"""What forgetting cost: counted where it can be counted, timed where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any


@dataclass
class Cost:
    """Of one phase.

    Attributes:
        sample_gradients: examples, real or synthetic, whose gradient was computed, each time.
        sample_checks: examples whose loss was looked at, which takes a third of a gradient.
        rounds: exchanges between server and clients.
        bytes: models sent, down and up.
        seconds: wall time.
    """

    sample_gradients: int = 0
    sample_checks: int = 0
    rounds: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class Ledger:
    """The phases of a request, by name, and how many rounds there have been (``turn``)."""

    phases: dict[str, Cost] = field(default_factory=dict)
    turn: int = 0
    _open: str = "other"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile under a name."""
        outer, self._open = self._open, name
        began = perf_counter()
        try:
            yield
        finally:
            self.now.seconds += perf_counter() - began
            self._open = outer

    @property
    def now(self) -> Cost:
        """The phase that is open."""
        return self.phases.setdefault(self._open, Cost())

    @property
    def total(self) -> Cost:
        """All phases together."""
        whole = Cost()
        for cost in self.phases.values():
            for name, value in asdict(cost).items():
                setattr(whole, name, getattr(whole, name) + value)
        return whole

    def dump(self) -> dict[str, Any]:
        """Plain data, with the total."""
        costs = {name: asdict(cost) for name, cost in self.phases.items()}
        return {**costs, "total": asdict(self.total)}
