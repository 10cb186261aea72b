"""How agents audit: each alone, pooling answers afterwards, or planning together before.

Do Vale, de Vos, Taïani et al., "Fairness Auditing with Multi-Agent Collaboration" (ECAI 2024), with
its three samplings and three collaborations, mended where its formulas or its code fall short:
agents who plan together ask no row twice and spend their whole budgets, what is pooled is weighed
by the population, and no strategy has to know the answers before it asks (``sigma: half``).
``reference: true`` is the published behaviour instead, for comparison.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa.audit import designs, published
from hansa.audit.designs import Design
from hansa.audit.estimates import Estimate, Tally, joint_inclusion, own_inclusion
from hansa.audit.population import Agent, Asked, Attribute, Population, Strata, check
from hansa.audit.published import true_rates
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams

Script = Generator[list[np.ndarray], list[np.ndarray], None]
"""Yields the rows that each agent asks, int64, and is sent their answers, int8."""


class Strategy(BaseModel):
    """Which rows each agent asks, and what is made of the answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampling: Literal["uniform", "stratified", "neyman", "adaptive_neyman"] = Field(
        "neyman",
        description="uniform: rows at random; stratified: as many of each stratum; neyman: so "
        "that the error is least; adaptive_neyman: the same with what a pilot has shown",
    )
    collaboration: Literal["none", "a_posteriori", "a_priori"] = Field(
        "a_priori",
        description="none: each agent uses its own answers; a_posteriori: answers are pooled; "
        "a_priori: agents plan together which rows are asked, and pool the answers",
    )
    sigma: Literal["half", "oracle"] = Field(
        "half",
        description="what neyman takes an answer's deviation for: half, the most it can be, or "
        "oracle, the true one of each stratum, which only a study knows",
    )
    pilot: float = Field(
        0.25, gt=0, lt=1, description="share of the budget for adaptive_neyman's first questions"
    )
    weights: Literal["poststratified", "balance"] = Field(
        "poststratified",
        description="how pooled answers are weighed: cells by the population, or rows by one over "
        "the chance that they are asked",
    )
    reference: bool = Field(
        False, description="the published behaviour, its flaws included, instead of the mended one"
    )

    @property
    def name(self) -> str:
        """Such as ``neyman a_priori``."""
        extras: list[str] = [self.sigma] if self.sigma == "oracle" else []
        extras += ["as published"] if self.reference else []
        return f"{self.sampling} {self.collaboration}" + (f" ({', '.join(extras)})" * bool(extras))

    def queries(self, population: Population, agents: Sequence[Agent], streams: Streams) -> Script:
        """What to ask, in one step, or in two where the first answers decide the second questions.

        Nobody asks a row twice or more than its budget.

        Raises:
            ConfigError: an attribute or a budget cannot work, before anything is asked.
        """
        attributes = check(population, agents)
        knows = self.sampling == "neyman" and (self.sigma == "oracle" or self.reference)
        if knows and population.answers is None:
            raise ConfigError(
                "strategy.sigma", "oracle", "needs the answers of all", "sigma: half, or a study"
            )
        if self.reference and len({agent.budget for agent in agents}) > 1:
            raise ConfigError(
                "strategy.reference", True, "knows one budget for all agents", "reference: false"
            )
        if self.reference:
            return self._as_published(population, agents, attributes, streams)
        script = self._together if self.collaboration == "a_priori" else self._alone
        return script(population, agents, attributes, streams)

    @model_validator(mode="after")
    def _published(self) -> Strategy:
        if self.reference and self.sampling == "adaptive_neyman":
            raise ConfigError(
                "reference", True, "the paper has no adaptive_neyman", "sampling: neyman"
            )
        return self

    @property
    def estimator(self) -> str:
        """How answers are weighed; see :meth:`~hansa.audit.estimates.Tally.estimate`."""
        if not self.reference:
            return self.weights
        planned = self.collaboration == "a_priori" and self.sampling != "uniform"
        return "stratum_means" if planned else "pooled"

    def _as_published(
        self,
        population: Population,
        agents: Sequence[Agent],
        attributes: list[Attribute],
        streams: Streams,
    ) -> Script:
        random = streams.numpy("audit.overflow")
        plans = self.published_designs(population, agents, attributes, random)
        orders = [
            streams.numpy("audit.order", place).permutation(population.rows)
            for place in range(len(agents))
        ]
        yield [plan.draw(order) for plan, order in zip(plans, orders, strict=True)]

    def published_designs(
        self,
        population: Population,
        agents: Sequence[Agent],
        attributes: Sequence[Attribute],
        random: np.random.Generator,
    ) -> list[Design]:
        """Each agent's design in the released code."""
        budgets = [agent.budget for agent in agents]
        neyman = self.sampling == "neyman"
        if self.sampling == "uniform":
            return [designs.uniform(population.rows, budget) for budget in budgets]
        if self.collaboration != "a_priori":
            plans = []
            for attribute, budget in zip(attributes, budgets, strict=True):
                codes = attribute.codes.astype(np.int64)
                rates = true_rates(population, codes, len(attribute.values)) if neyman else None
                plans.append(published.own(attribute, budget, rates, random))
            return plans
        cells = population.cells([agent.attribute for agent in agents])
        rates = true_rates(population, cells.ids, len(cells)) if neyman else None
        return published.together(cells, attributes, budgets[0], rates, random)

    def _alone(
        self,
        population: Population,
        agents: Sequence[Agent],
        attributes: list[Attribute],
        streams: Streams,
    ) -> Script:
        orders = [
            streams.numpy("audit.order", place).permutation(population.rows)
            for place in range(len(agents))
        ]
        adaptive = self.sampling == "adaptive_neyman"
        plans = [
            self._own(
                population,
                attribute,
                max(len(attribute.values), round(self.pilot * agent.budget))
                if adaptive
                else agent.budget,
            )
            for agent, attribute in zip(agents, attributes, strict=True)
        ]
        rows = [plan.draw(order) for plan, order in zip(plans, orders, strict=True)]
        answers = yield rows
        if not adaptive:
            return
        later = []
        for place, (agent, attribute) in enumerate(zip(agents, attributes, strict=True)):
            codes = attribute.codes[rows[place]].astype(np.int64)
            rates = _smoothed(codes, answers[place], len(attribute.values))
            before = plans[place].counts
            plan = designs.own(attribute, agent.budget, rates * (1 - rates), before)
            later.append(plan.draw(orders[place], before))
        yield later

    def _own(self, population: Population, attribute: Attribute, budget: int) -> Design:
        if self.sampling == "uniform":
            return designs.uniform(population.rows, budget)
        rates = None
        if self.sampling == "neyman" and self.sigma == "oracle":
            rates = true_rates(population, attribute.codes.astype(np.int64), len(attribute.values))
        count = len(attribute.values)
        floors = np.ones(count, np.int64)
        return designs.own(attribute, budget, designs.spread(rates, count), floors)

    def _together(
        self,
        population: Population,
        agents: Sequence[Agent],
        attributes: list[Attribute],
        streams: Streams,
    ) -> Script:
        budgets = np.array([agent.budget for agent in agents])
        adaptive = self.sampling == "adaptive_neyman"
        first = np.maximum(1, np.round(self.pilot * budgets)).astype(int) if adaptive else budgets
        order = streams.numpy("audit.order").permutation(population.rows)
        deal = streams.numpy("audit.deal")
        cells = population.cells([agent.attribute for agent in agents])
        of_cell, strata = self._strata(population, cells, attributes, int(budgets.sum()))
        weights = np.ones(len(strata))
        if self.sampling in ("neyman", "adaptive_neyman"):
            weights = designs.joint_weights(cells, of_cell, attributes)
        rates = None
        if self.sampling == "neyman" and self.sigma == "oracle":
            rates = true_rates(population, strata.ids, len(strata))
        spread = designs.spread(rates, len(strata))
        floors = (weights > 0).astype(np.int64)
        plan = designs.joint(strata, int(first.sum()), weights * spread, floors)
        rows = designs.dealt(plan.draw(order), first.tolist(), deal)
        answers = yield rows
        if not adaptive:
            return
        rates = _smoothed(strata.ids[np.concatenate(rows)], np.concatenate(answers), len(strata))
        before = plan.counts
        plan = designs.joint(strata, int(budgets.sum()), weights * rates * (1 - rates), before)
        left = [budget - len(asked) for budget, asked in zip(budgets, rows, strict=True)]
        yield designs.dealt(plan.draw(order, before), left, deal)

    def _strata(
        self, population: Population, cells: Strata, attributes: Sequence[Attribute], budget: int
    ) -> tuple[np.ndarray, Strata]:
        if self.sampling == "uniform":
            of_cell = np.zeros(len(cells), np.int64)
            sizes = np.array([population.rows])
            return of_cell, Strata(of_cell[cells.ids], sizes, np.zeros((1, 0), np.int16))
        return designs.joint_strata(cells, attributes, budget, self.sampling == "stratified")

    def chances(
        self,
        population: Population,
        cells: Strata,
        attributes: Sequence[Attribute],
        budgets: Sequence[int],
    ) -> np.ndarray:
        """float64 [C]: the chance that a row of each cell is asked, before anything is.

        Args:
            population: who can be asked.
            cells: of the attributes.
            attributes: of the agents whose answers are used together.
            budgets: of the same.
        """
        if self.collaboration == "a_priori":
            total = sum(budgets)
            of_cell, strata = self._strata(population, cells, attributes, total)
            weights = np.ones(len(strata))
            if self.sampling in ("neyman", "adaptive_neyman"):
                weights = designs.joint_weights(cells, of_cell, attributes)
            counts = designs.joint(strata, total, weights, (weights > 0).astype(np.int64)).counts
            return (counts / strata.sizes)[of_cell]
        missed = np.ones(len(cells))
        for place, (attribute, budget) in enumerate(zip(attributes, budgets, strict=True)):
            if self.sampling == "uniform":
                missed *= 1 - budget / population.rows
                continue
            codes = cells.codes[:, place]
            plan = designs.own(attribute, budget, np.ones(len(attribute.values)), 1)
            missed *= 1 - np.where(codes >= 0, (plan.counts / plan.sizes)[codes], 0.0)
        return 1 - missed

    def estimate(
        self,
        population: Population,
        agents: Sequence[Agent],
        asked: Sequence[Asked],
        domain: np.ndarray | None = None,
    ) -> list[Estimate]:
        """What the answers say, an estimate for each agent, in their order.

        Args:
            population: as in :meth:`queries`.
            agents: as in :meth:`queries`.
            asked: of each agent.
            domain: bool [N], the rows that count (those with a certain label); None = all.

        Raises:
            ConfigError: an attribute or a budget cannot work.
        """
        attributes = check(population, agents)
        alone = self.collaboration == "none"
        estimates = []
        for place, (agent, attribute) in enumerate(zip(agents, attributes, strict=True)):
            seen = [attribute] if alone else attributes
            used = [asked[place]] if alone else list(asked)
            keys = [agent.attribute] if alone else [other.attribute for other in agents]
            cells = population.cells(keys)
            if self.collaboration == "a_priori":
                budget = sum(other.budget for other in agents)
                strata = self._strata(population, cells, seen, budget)[1]
                inclusion = joint_inclusion(strata, used)
            else:
                inclusion = own_inclusion(seen, used, self.sampling == "uniform")
            tally = Tally(population, cells, used, inclusion, domain)
            estimates.append(
                tally.estimate(
                    agent.name, attribute, cells.codes[:, 0 if alone else place], self.weights
                )
            )
        return estimates


def _smoothed(strata: np.ndarray, answers: np.ndarray, count: int) -> np.ndarray:
    """[S]: rates after a pilot, drawn to the pilot's mean with the weight of one answer."""
    inside = (strata >= 0) & (answers >= 0)
    asked = np.bincount(strata[inside], minlength=count)
    favoured = np.bincount(strata[inside], answers[inside], minlength=count)
    mean = (favoured.sum() + 0.5) / (asked.sum() + 1)
    return (favoured + mean) / (asked + 1)
