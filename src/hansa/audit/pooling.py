"""Pooling where some agents may lie: a robust rule over rates, an interval that f cannot move.

Each agent's answers alone give rates of every attribute's groups. One rate of the m of them is
made by a robust aggregator (coordinate-wise: a trimmed mean, a median, ...). The interval is
Marzullo's (1984): every agent has an interval of its own at the confidence 1 - (1 - c) / m, so
that all honest ones hold the truth at once with confidence c (Bonferroni); where at least m - f
intervals overlap is where the truth can be, whoever the f are. Where no m - f overlap, more than f
lie, or the platform answers agents differently; that is said, and nothing is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hansa.audit import intervals
from hansa.audit.estimates import Estimate
from hansa.audit.population import Agent, Asked, Population
from hansa.audit.strategies import Strategy
from hansa.audit.verdicts import Domain
from hansa.base.lazy import torch
from hansa.ensemble.aggregators import Aggregator


def _nobody() -> Asked:
    return Asked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int8))


@dataclass(frozen=True)
class Agreed(Estimate):
    """A pool's estimate: rates by a robust rule, intervals by Marzullo's.

    Attributes:
        agents: the names of those who pool.
        alone: what each says alone.
        f: how many of them may lie.
    """

    agents: tuple[str, ...] = ()
    alone: tuple[Estimate, ...] = ()
    f: int = 0

    def spans(self, group: int, confidence: float) -> dict[str, intervals.Interval]:
        """The intervals of those who say something of a group, which all hold at once."""
        each = 1 - (1 - confidence) / len(self.alone)
        return {
            name: one.interval(group, each)
            for name, one in zip(self.agents, self.alone, strict=True)
            if not np.isnan(one.rates[group])
        }

    def interval(self, group: int, confidence: float) -> intervals.Interval:
        """Where all but ``f`` can agree; everything where the rate is unknown."""
        spans = list(self.spans(group, confidence).values())
        agreed = overlap(spans, len(spans) - self.f)
        rate = float(self.rates[group])
        if agreed is None or np.isnan(rate):
            return 0.0, 1.0
        return min(agreed[0], rate), max(agreed[1], rate)

    def outside(self, confidence: float) -> tuple[str, ...]:
        """Agents whose interval of some group has nothing in common with where all but f agree."""
        names: dict[str, None] = {}
        for group in range(len(self.values)):
            spans = self.spans(group, confidence)
            agreed = overlap(list(spans.values()), len(spans) - self.f)
            for name, (low, high) in spans.items():
                if agreed is not None and (low > agreed[1] or high < agreed[0]):
                    names[name] = None
        return tuple(names)

    def torn(self, confidence: float) -> tuple[str, ...]:
        """Groups of which no ``m - f`` intervals overlap, or too few agents say something."""
        groups = []
        for group, value in enumerate(self.values):
            spans = list(self.spans(group, confidence).values())
            few = len(spans) < 2 * self.f + 1
            if few or overlap(spans, len(spans) - self.f) is None:
                groups.append(value)
        return tuple(groups)


def lied(asked: Asked, attack: str) -> Asked:
    """What a liar reports: ``flip``, all ``yes`` or all ``no``; what was refused stays so."""
    answers = asked.answers
    reports = {"flip": 1 - answers, "yes": np.ones_like(answers), "no": np.zeros_like(answers)}
    return Asked(asked.rows, np.where(answers >= 0, reports[attack], answers).astype(np.int8))


def overlap(spans: Sequence[intervals.Interval], least: int) -> intervals.Interval | None:
    """From the first to the last point that lies in at least ``least`` spans (Marzullo)."""
    ends = sorted([(low, 0) for low, _ in spans] + [(high, 1) for _, high in spans])
    inside, first, last = 0, None, None
    for place, closes in ends:
        if closes:
            last = place if inside >= least else last
            inside -= 1
        else:
            inside += 1
            first = place if inside >= least and first is None else first
    return None if first is None or last is None else (first, last)


def pooled(
    strategy: Strategy,
    population: Population,
    agents: Sequence[Agent],
    asked: Sequence[Asked],
    together: Sequence[Estimate],
    rule: Aggregator,
    f: int,
    confidence: float,
    domain: np.ndarray | None = None,
) -> list[Agreed]:
    """What agents of whom ``f`` may lie say, an estimate for each agent's attribute.

    Args:
        strategy: by which they asked; they asked together or pool afterwards.
        population: who could be asked.
        agents: all of them.
        asked: what each reports.
        together: the estimates if all were believed, whose counts stay.
        rule: makes one rate of many.
        f: how many may lie.
        confidence: at which a group is given up as torn.
        domain: bool [N], the rows that count; None = all.
    """
    alone = [
        strategy.estimate(
            population,
            agents,
            [one if k == place else _nobody() for k, one in enumerate(asked)],
            domain,
        )
        for place in range(len(agents))
    ]
    names = tuple(agent.name for agent in agents)
    estimates = []
    for place, believed in enumerate(together):
        parts = tuple(one[place] for one in alone)
        pool = Agreed(**vars(believed), agents=names, alone=parts, f=f)
        torn = pool.torn(confidence)
        rates = [
            np.nan if value in torn else _robust(rule, [one.rates[group] for one in parts])
            for group, value in enumerate(believed.values)
        ]
        estimates.append(replace(pool, rates=np.array(rates)))
    return estimates


def _robust(rule: Aggregator, rates: Sequence[float]) -> float:
    """One rate of those that are known; nan where the rule needs more."""
    known = [[float(rate)] for rate in rates if not np.isnan(rate)]
    if len(known) < rule.least:
        return np.nan
    return float(rule.of(torch.tensor(known, dtype=torch.float64), np.ones(len(known)))[0])


def domain_rows(population: Population, name: Domain) -> np.ndarray | None:
    """The rows of a domain, bool [N]; None = all."""
    if name == "all":
        return None
    assert population.labels is not None  # refused before anything is asked
    return np.asarray(population.labels == (name == "label 1"))
