"""What each strategy's error will be, from the strata's sizes and the budgets alone.

Nothing is asked: the counts that a design will come to are known, or known on average, before the
first question, and so is the variance of what it estimates, but for the deviation of an answer,
which is at most one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.audit.estimators import Cells, foreseen, poststrata
from hansa.audit.population import Agent, Attribute, Population, check
from hansa.audit.strategies import Strategy

STRATEGIES = tuple(
    Strategy(sampling=sampling, collaboration=collaboration)
    for sampling in ("uniform", "stratified", "neyman")
    for collaboration in ("none", "a_posteriori", "a_priori")
)
"""What is compared where nothing else is asked for."""


@dataclass(frozen=True)
class Forecast:
    """What a strategy is expected to come to.

    Attributes:
        strategy: which.
        rmse: by agent, the root mean square error of the difference of two groups' rates; with
            more than two groups the mean over the others against the first.
        queries: by agent.
    """

    strategy: Strategy
    rmse: dict[str, float]
    queries: dict[str, int]

    @property
    def error(self) -> float:
        """The mean absolute error, over the agents, of errors that are normal."""
        return math.sqrt(2 / math.pi) * sum(self.rmse.values()) / len(self.rmse)


def plan(
    population: Population,
    agents: Sequence[Agent],
    rate: float | None = None,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> list[Forecast]:
    """A forecast a strategy, the best first.

    Args:
        population: its attributes; answers are not looked at.
        agents: who audits what with which budget.
        rate: what the rate of favourable answers is thought to be; None = one half, the most
            cautious.
        strategies: to compare.

    Raises:
        ConfigError: an attribute or a budget cannot work.
    """
    attributes = check(population, agents)
    forecasts = [forecast(population, agents, attributes, one, rate) for one in strategies]
    return sorted(forecasts, key=lambda one: one.error)


def forecast(
    population: Population,
    agents: Sequence[Agent],
    attributes: Sequence[Attribute],
    strategy: Strategy,
    rate: float | None = None,
) -> Forecast:
    """What one strategy will come to."""
    spread = 0.25 if rate is None else rate * (1 - rate)
    alone = strategy.collaboration == "none"
    fixed = strategy.sampling != "uniform" and strategy.collaboration != "a_posteriori"
    cells = population.cells([agent.attribute for agent in agents])
    chances = np.zeros(0)
    if not alone:
        budgets = [agent.budget for agent in agents]
        chances = strategy.chances(population, cells, attributes, budgets)
    errors = {}
    for place, (agent, attribute) in enumerate(zip(agents, attributes, strict=True)):
        own = place
        if alone:
            own, cells = 0, population.cells([agent.attribute])
            chances = strategy.chances(population, cells, [attribute], [agent.budget])
        groups = Cells(cells.codes[:, own], cells.sizes, len(attribute.values))
        strata = poststrata(groups, chances * cells.sizes)
        variances = spread * foreseen(groups, chances, strata, fixed)
        errors[agent.name] = float(np.sqrt(variances[1:] + variances[0]).mean())
    return Forecast(strategy, errors, {agent.name: agent.budget for agent in agents})
