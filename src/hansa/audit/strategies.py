"""How agents audit: each alone, pooling answers afterwards, or planning together before.

de Vos et al., "Fairness Auditing with Multi-Agent Collaboration" (ECAI 2024), with its three
samplings and three collaborations, mended where its formulas or its code fall short: agents who
plan together ask no row twice and spend their whole budgets, what is pooled is weighed by the
population, and no strategy has to know the answers before it asks (``sigma: half``).
``reference: true`` is the published behaviour instead, for comparison.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa.audit import designs, published
from hansa.audit.designs import Design, JointPlan
from hansa.audit.estimates import Estimate, Tally, joint_inclusion, own_inclusion
from hansa.audit.population import Agent, Asked, Attribute, Population, Strata, check
from hansa.audit.published import true_rates
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams

Script: TypeAlias = "Generator[list[np.ndarray], list[np.ndarray], None]"
"""Yields the rows that each agent asks, int64, and is sent their answers, int8."""

CAUTION = 16.0
"""So many answers of a pilot's mean are added to those of each stratum."""


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
            rates = _after_pilot(codes, answers[place], len(attribute.values))
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
        budgets = [agent.budget for agent in agents]
        order = streams.numpy("audit.order").permutation(population.rows)
        deal = streams.numpy("audit.deal")
        cells = population.cells([agent.attribute for agent in agents])
        plan = self.plan(population, cells, attributes, budgets)
        first = self._first(budgets)
        rows = designs.dealt(plan.design.draw(order), first, deal)
        answers = yield rows
        if self.sampling != "adaptive_neyman":
            return
        strata, before = plan.strata, plan.counts
        seen = strata.ids[np.concatenate(rows)]
        rates = _after_pilot(seen, np.concatenate(answers), len(strata))
        rest = designs.joint(strata, sum(budgets), plan.weights * rates * (1 - rates), before)
        left = [budget - len(asked) for budget, asked in zip(budgets, rows, strict=True)]
        yield designs.dealt(rest.draw(order, before), left, deal)

    def _first(self, budgets: Sequence[int]) -> list[int]:
        """Questions of the first step, by agent."""
        if self.sampling != "adaptive_neyman":
            return list(budgets)
        return [max(1, round(self.pilot * budget)) for budget in budgets]

    def plan(
        self,
        population: Population,
        cells: Strata,
        attributes: Sequence[Attribute],
        budgets: Sequence[int],
    ) -> JointPlan:
        """What agents who plan together ask first: all, or the pilot of an adaptive strategy.

        Args:
            population: who can be asked.
            cells: of the attributes.
            attributes: of the agents.
            budgets: of the same.
        """
        total, first = sum(budgets), sum(self._first(budgets))
        if self.sampling == "uniform":
            of_cell = np.zeros(len(cells), np.int64)
        else:
            equally = self.sampling == "stratified"
            of_cell = designs.joint_strata(cells, attributes, total, equally)
        strata = designs.strata_of(cells, of_cell)
        weights = np.ones(len(strata))
        if self.sampling in ("neyman", "adaptive_neyman"):
            weights = designs.joint_weights(cells, of_cell, attributes)
        rates = None
        if self.sampling == "neyman" and self.sigma == "oracle" and population.answers is not None:
            rates = true_rates(population, strata.ids, len(strata))
        spread = designs.spread(rates, len(strata))
        floors = (weights > 0).astype(np.int64)
        return JointPlan(
            of_cell, strata, weights, designs.joint(strata, first, weights * spread, floors)
        )

    def chances(
        self,
        population: Population,
        cells: Strata,
        attributes: Sequence[Attribute],
        budgets: Sequence[int],
    ) -> np.ndarray:
        """float64 [C]: the chance that a row of each cell is asked by anybody, before any is.

        Where a pilot decides, as if it had shown nothing.

        Args:
            population: who can be asked.
            cells: of the attributes.
            attributes: of the agents whose answers are used together.
            budgets: of the same.
        """
        if self.collaboration == "a_priori":
            plan = self.plan(population, cells, attributes, budgets)
            counts = plan.counts
            if self.sampling == "adaptive_neyman":
                counts = designs.joint(plan.strata, sum(budgets), plan.weights, counts).counts
            return (counts / plan.strata.sizes)[plan.of_cell]
        missed = np.ones(len(cells))
        for place, (attribute, budget) in enumerate(zip(attributes, budgets, strict=True)):
            if self.sampling == "uniform":
                missed *= 1 - budget / population.rows
                continue
            codes = cells.codes[:, place]
            own = self._own(population, attribute, budget)
            missed *= 1 - np.where(codes >= 0, (own.counts / own.sizes)[codes], 0.0)
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
        return [
            tally.estimate(agent.name, attribute, codes, self.estimator, chances)
            for agent, attribute, tally, codes, chances in self._tallies(
                population, agents, asked, domain
            )
        ]

    def bootstrap(
        self,
        population: Population,
        agents: Sequence[Agent],
        asked: Sequence[Asked],
        times: int,
        random: np.random.Generator,
        domain: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Rates [times, k] of each agent's groups, had other rows of the strata been asked.

        Args:
            population: as in :meth:`queries`.
            agents: as in :meth:`queries`.
            asked: of each agent.
            times: how often.
            random: where draws come from.
            domain: bool [N], the rows that count; None = all.
        """
        return [
            tally.bootstrap(attribute, codes, chances, times, random)
            for _, attribute, tally, codes, chances in self._tallies(
                population, agents, asked, domain
            )
        ]

    def _tallies(
        self,
        population: Population,
        agents: Sequence[Agent],
        asked: Sequence[Asked],
        domain: np.ndarray | None,
    ) -> Iterator[tuple[Agent, Attribute, Tally, np.ndarray, np.ndarray]]:
        """Of each agent its answers by cell, the cells' groups and their chances to be asked."""
        attributes = check(population, agents)
        if self.collaboration != "none":
            cells, tally, chances = self._tally(population, agents, attributes, asked, domain)
            for place, (agent, attribute) in enumerate(zip(agents, attributes, strict=True)):
                yield agent, attribute, tally, cells.codes[:, place], chances
            return
        for agent, attribute, one in zip(agents, attributes, asked, strict=True):
            cells, tally, chances = self._tally(population, [agent], [attribute], [one], domain)
            yield agent, attribute, tally, cells.codes[:, 0], chances

    def _tally(
        self,
        population: Population,
        agents: Sequence[Agent],
        attributes: Sequence[Attribute],
        asked: Sequence[Asked],
        domain: np.ndarray | None,
    ) -> tuple[Strata, Tally, np.ndarray]:
        """Cells, answers and chances of agents whose answers are used together."""
        cells = population.cells([agent.attribute for agent in agents])
        budgets = [agent.budget for agent in agents]
        if self.collaboration == "a_priori" and not self.reference:
            strata = self.plan(population, cells, attributes, budgets).strata
            inclusion = joint_inclusion(strata, asked)
        else:
            inclusion = own_inclusion(attributes, asked, self.sampling == "uniform")
        chances = self.chances(population, cells, attributes, budgets)
        return (
            cells,
            Tally(population, cells, asked, inclusion, domain, not self.reference),
            chances,
        )


def smoothed(favoured: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[..., S]: rates after a pilot, drawn to the pilot's mean with the weight of ``CAUTION``.

    Where a few answers alike would end the questions to a stratum, its mean would stay what they
    happened to be, and the audit would be off to one side.
    """
    mean = (favoured.sum(-1, keepdims=True) + 0.5) / (asked.sum(-1, keepdims=True) + 1)
    return (favoured + CAUTION * mean) / (asked + CAUTION)


def _after_pilot(strata: np.ndarray, answers: np.ndarray, count: int) -> np.ndarray:
    """[S]: the same from the strata and the answers of the rows that were asked."""
    inside = (strata >= 0) & (answers >= 0)
    asked = np.bincount(strata[inside], minlength=count)
    favoured = np.bincount(strata[inside], answers[inside], minlength=count)
    return smoothed(favoured, asked)
