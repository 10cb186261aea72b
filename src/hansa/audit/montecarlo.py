"""What strategies come to when an audit is played many times over, all repetitions at once.

No row is drawn: within a cell every row is as likely to be asked as any other, so the favourable
answers among those asked of a cell are hypergeometric, and counts [repetitions, C] are drawn from
exactly the distribution that the rows of :meth:`~hansa.audit.strategies.Strategy.queries` have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from hansa.audit import designs
from hansa.audit.allocation import optimal
from hansa.audit.estimators import Cells, group_rates, poststrata
from hansa.audit.population import Agent, Population, check
from hansa.audit.published import true_rates
from hansa.audit.strategies import Strategy, smoothed
from hansa.base.errors import ConfigError

Rates: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""Rates of an agent's groups and their variances as estimated, each [repetitions, k]."""
Draw: TypeAlias = "tuple[np.ndarray, np.ndarray, np.ndarray]"
"""Rows asked of each cell, the favoured of them, and the chance that a row is asked, [.., C]."""


class MonteCarlo:
    """One population and its agents, audited again and again.

    Args:
        population: with the answers of all.
        agents: who audits what with which budget.
        repetitions: how many audits.
        random: where draws come from.

    Raises:
        ConfigError: the answers are not known, or an attribute or a budget cannot work.
    """

    def __init__(
        self,
        population: Population,
        agents: Sequence[Agent],
        repetitions: int,
        random: np.random.Generator,
    ) -> None:
        if population.answers is None:
            raise ConfigError("population", population.name, "has no answers", "use one that has")
        self.attributes = check(population, agents)
        self.population, self.agents = population, list(agents)
        self.repetitions, self.random = repetitions, random
        self.cells = population.cells([agent.attribute for agent in agents])
        self.sizes = self.cells.sizes
        favoured = np.bincount(self.cells.ids, population.answers, minlength=len(self.cells))
        self.favoured = favoured.astype(np.int64)

    def rates(self, strategy: Strategy) -> list[Rates]:
        """What each agent estimates, in every repetition."""
        if strategy.collaboration == "a_priori" and not (
            strategy.reference and strategy.sampling == "uniform"
        ):
            return self._together(strategy)
        alone = strategy.collaboration == "none"
        draws = [self._own(strategy, place) for place in range(len(self.agents))]
        if alone:
            return [self._estimates(strategy, place, draw) for place, draw in enumerate(draws)]
        if strategy.reference:
            both = self._added(draws)
        else:
            both = self._union(draws)
        return [self._estimates(strategy, place, both) for place in range(len(self.agents))]

    def _estimates(self, strategy: Strategy, place: int, draw: Draw) -> Rates:
        attribute = self.attributes[place]
        codes, count, sizes = self.cells.codes[:, place], len(attribute.values), self.sizes
        cells, seen = self.cells, self.attributes
        budgets = [agent.budget for agent in self.agents]
        asked, positives, inclusion = draw
        if strategy.collaboration == "none":  # an agent alone knows its own groups only
            cells = self.population.cells([self.agents[place].attribute])
            into = (codes[:, None] == cells.codes[:, 0]).astype(float)
            shares = into * sizes[:, None] / (sizes @ into)
            asked, positives, inclusion = asked @ into, positives @ into, inclusion @ shares
            codes, sizes = cells.codes[:, 0], cells.sizes
            seen, budgets = [attribute], [self.agents[place].budget]
        groups = Cells(codes, sizes, count)
        chances = strategy.chances(self.population, cells, seen, budgets)
        strata = poststrata(groups, chances * sizes)
        return group_rates(strategy.estimator, groups, asked, positives, inclusion, strata)

    def _own(self, strategy: Strategy, place: int) -> Draw:
        """An agent's own draw: rows asked and favoured [r, C], chance to be asked [r or 1, C]."""
        attribute, budget = self.attributes[place], self.agents[place].budget
        codes = self.cells.codes[:, place].astype(np.int64)
        if strategy.sampling == "uniform":
            strata = np.zeros(len(codes), np.int64)
            counts = np.array([budget])
            return self._draw(strata, np.broadcast_to(counts, (self.repetitions, 1)))
        if strategy.reference:
            plan = strategy.published_designs(
                self.population, self.agents, self.attributes, self.random
            )[place]
            return self._draw(
                codes, np.broadcast_to(plan.counts, (self.repetitions, len(plan.counts)))
            )
        count = len(attribute.values)
        first = budget
        variances = np.full(count, 0.25)
        if strategy.sampling == "neyman" and strategy.sigma == "oracle":
            rates = true_rates(self.population, attribute.codes.astype(np.int64), count)
            variances = rates * (1 - rates)
        if strategy.sampling == "adaptive_neyman":
            first = max(count, round(strategy.pilot * budget))
        counts = designs.own(attribute, first, variances, 1).counts
        counts = np.broadcast_to(counts, (self.repetitions, count))
        if strategy.sampling != "adaptive_neyman":
            return self._draw(codes, counts)
        return self._in_two_steps(codes, counts, np.ones(count), budget, attribute.sizes)

    def _together(self, strategy: Strategy) -> list[Rates]:
        if strategy.reference:
            plans = strategy.published_designs(
                self.population, self.agents, self.attributes, self.random
            )
            each = [
                self._draw(
                    np.arange(len(self.cells)),
                    np.broadcast_to(plan.counts, (self.repetitions, len(self.cells))),
                )
                for plan in plans
            ]
            draw = self._added(each)
        else:
            draw = self._joint(strategy)
        return [self._estimates(strategy, place, draw) for place in range(len(self.agents))]

    def _joint(self, strategy: Strategy) -> Draw:
        budgets = [agent.budget for agent in self.agents]
        plan = strategy.plan(self.population, self.cells, self.attributes, budgets)
        counts = np.broadcast_to(plan.counts, (self.repetitions, len(plan.counts)))
        if strategy.sampling != "adaptive_neyman":
            return self._draw(plan.of_cell, counts)
        return self._in_two_steps(
            plan.of_cell, counts, plan.weights, sum(budgets), plan.strata.sizes
        )

    def _draw(self, strata: np.ndarray, counts: np.ndarray) -> Draw:
        """Rows of strata [r, S] spread over their cells, and the favoured among them, [r, C]."""
        asked = self._spread(strata, counts, self.sizes)
        positives = self._favoured(asked, self.favoured, self.sizes)
        sizes = np.bincount(strata[strata >= 0], self.sizes[strata >= 0], minlength=counts.shape[1])
        shares = counts / np.maximum(sizes, 1)
        return asked, positives, np.where(strata >= 0, shares[:, strata], 0.0)

    def _spread(self, strata: np.ndarray, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """int64 [r, C]: how many of a stratum's rows fall on each of its cells."""
        asked = np.zeros((len(counts), len(strata)), np.int64)
        for stratum in range(counts.shape[1]):
            inside = np.flatnonzero(strata == stratum)
            left = counts[:, stratum].copy()
            rest = int(sizes[inside].sum())
            for cell in inside:
                rest -= int(sizes[cell])
                if rest:
                    drawn = self.random.hypergeometric(int(sizes[cell]), rest, left)
                else:
                    drawn = left.copy()
                asked[:, cell] = drawn
                left -= drawn
        return asked

    def _favoured(self, asked: np.ndarray, favoured: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        return self.random.hypergeometric(favoured, sizes - favoured, asked)

    def _in_two_steps(
        self,
        strata: np.ndarray,
        pilot: np.ndarray,
        weights: np.ndarray,
        budget: int,
        sizes: np.ndarray,
    ) -> Draw:
        """A pilot, and the rest by what it has shown; the favoured of both together."""
        asked, positives, _ = self._draw(strata, pilot)
        into = (strata[:, None] == np.arange(len(sizes))).astype(float)
        rates = smoothed(positives @ into, asked @ into)
        counts = optimal(weights * rates * (1 - rates), budget, sizes, pilot)
        left = self.sizes - asked
        more = np.zeros_like(asked)
        for stratum in range(len(sizes)):
            inside = np.flatnonzero(strata == stratum)
            if len(inside) == 1:
                more[:, inside[0]] = (counts - pilot)[:, stratum]
                continue
            todo = (counts - pilot)[:, stratum].copy()
            rest = left[:, inside].sum(1)
            for cell in inside:
                rest = rest - left[:, cell]
                drawn = self.random.hypergeometric(left[:, cell], rest, todo)
                more[:, cell] = drawn
                todo -= drawn
        fresh = self.random.hypergeometric(
            self.favoured - positives, left - (self.favoured - positives), more
        )
        shares = counts / np.maximum(sizes, 1)
        chance = np.where(strata >= 0, shares[:, strata], 0.0)
        return asked + more, positives + fresh, chance

    def _added(self, draws: Sequence[Draw]) -> Draw:
        """Answers of all, those of a row that two asked twice, as published."""
        asked, positives, _ = draws[0]
        for more, favoured, _ in draws[1:]:
            asked, positives = asked + more, positives + favoured
        return asked, positives, np.ones(len(self.cells))

    def _union(self, draws: Sequence[Draw]) -> Draw:
        """Rows that anybody asked, each once: of a new draw some were asked before, by chance."""
        yes = np.zeros((self.repetitions, len(self.cells)), np.int64)
        no = np.zeros_like(yes)
        missed = np.ones((self.repetitions, len(self.cells)))
        for asked, positives, chance in draws:
            yes += self.random.hypergeometric(self.favoured - yes, yes, positives)
            against = self.sizes - self.favoured
            no += self.random.hypergeometric(against - no, no, asked - positives)
            missed *= 1 - chance
        return yes + no, yes, 1 - missed

    def truth(self, place: int) -> np.ndarray:
        """[k]: the true rates of an agent's groups."""
        attribute = self.attributes[place]
        return true_rates(self.population, attribute.codes.astype(np.int64), len(attribute.values))

    def errors(self, strategy: Strategy, published: bool = False) -> np.ndarray:
        """[repetitions, agents]: how far differences against the first group are off.

        Of two groups that is one difference. A group that nobody was asked of is off by 1.

        Args:
            strategy: of the agents.
            published: the paper's error, of absolute differences; else of signed ones.
        """
        columns = []
        for place, (rates, _) in enumerate(self.rates(strategy)):
            truth = self.truth(place)
            gaps, true_gaps = rates[:, 1:] - rates[:, :1], truth[1:] - truth[0]
            if published:
                gaps, true_gaps = np.abs(gaps), np.abs(true_gaps)
            columns.append(np.nan_to_num(np.abs(gaps - true_gaps), nan=1.0).mean(axis=1))
        return np.stack(columns, axis=1)
