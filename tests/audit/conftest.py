"""What tests of audits share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hansa.audit.population import Agent, Asked, Population
from hansa.audit.strategies import Strategy
from hansa.base.streams import Streams


def _ask(
    strategy: Strategy, population: Population, agents: Sequence[Agent], seed: int = 0
) -> list[Asked]:
    """Play a strategy's script against the population's own answers."""
    assert population.answers is not None
    script = strategy.queries(population, agents, Streams(seed))
    rows: list[list[np.ndarray]] = [[] for _ in agents]
    step = next(script)
    while True:
        for own, more in zip(rows, step, strict=True):
            own.append(more)
        try:
            step = script.send([population.answers[more] for more in step])
        except StopIteration:
            break
    whole = [np.concatenate(own) for own in rows]
    return [Asked(own, population.answers[own]) for own in whole]


@pytest.fixture
def ask() -> Callable[..., list[Asked]]:
    """``ask(strategy, population, agents, seed)``: what every agent asked and heard."""
    return _ask
