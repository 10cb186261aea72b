"""From rows and answers to an :class:`Estimate` of one agent's groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.audit.estimators import Cells, group_rates, poststrata, spread
from hansa.audit.intervals import Interval, wilson
from hansa.audit.population import Asked, Attribute, Population, Strata

FEWER = 0.8
"""Below so many of the answers planned, cells are joined as if the fewer had been planned."""
ENDLESS = 2**40
"""Rows of a group of which a sample is all there is."""


@dataclass(frozen=True)
class Estimate:
    """What an audit says about the groups of one agent's attribute.

    Attributes:
        agent: whose.
        attribute: its name.
        values: the groups' names; the first is the one that others are compared with.
        population: int64 [k], rows of each group.
        asked: int64 [k], different rows asked of each by anybody whose answers were used.
        answered: int64 [k], those that were answered.
        positives: float64 [k], the favourable of them (a row answered in two ways counts half).
        rates: [k], the estimated rate of each group, nan where nothing is known.
        variances: [k], of those rates.
        unknown: rows of the population whose group is not known.
    """

    agent: str
    attribute: str
    values: tuple[str, ...]
    population: np.ndarray
    asked: np.ndarray
    answered: np.ndarray
    positives: np.ndarray
    rates: np.ndarray
    variances: np.ndarray
    unknown: int = 0

    @property
    def refused(self) -> np.ndarray:
        """int64 [k]."""
        return self.asked - self.answered

    @property
    def effective(self) -> np.ndarray:
        """[k]: how many plain answers with replacement would say as much; inf = a whole group."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(
                self.answered == self.population,
                np.inf,
                spread(self.rates, self.answered) / self.variances,
            )

    @classmethod
    def of_counts(
        cls,
        attribute: str,
        values: Sequence[str],
        positives: Sequence[float],
        answered: Sequence[int],
    ) -> Estimate:
        """Of plain counts by group, a sample of a population without end."""
        count, favoured = np.asarray(answered, np.int64), np.asarray(positives, float)
        rates = np.where(count > 0, favoured / np.maximum(count, 1), np.nan)
        variances = spread(rates, count) / np.where(count > 0, count, np.nan)
        endless = np.full(len(count), ENDLESS)
        whole = (attribute, tuple(values), endless, count, count, favoured, rates, variances)
        return cls("", *whole)

    def interval(self, group: int, confidence: float) -> Interval:
        """Of a group's rate (Wilson, on the effective number of answers)."""
        return wilson(float(self.rates[group]), float(self.effective[group]), confidence)

    def difference(self, value: int = 1, reference: int = 0) -> float:
        """The signed demographic parity difference of a group against another."""
        return float(self.rates[value] - self.rates[reference])


def own_inclusion(
    attributes: Sequence[Attribute], asked: Sequence[Asked], uniform: bool
) -> np.ndarray:
    """float64 [N]: the chance that a row is asked by at least one of agents with own designs."""
    rows = len(attributes[0].codes)
    missed = np.ones(rows)
    for attribute, one in zip(attributes, asked, strict=True):
        if uniform:
            missed *= 1 - len(one.rows) / rows
            continue
        codes = attribute.codes[one.rows]
        counts = np.bincount(codes[codes >= 0], minlength=len(attribute.values))
        shares = counts / np.maximum(attribute.sizes, 1)
        missed *= 1 - np.where(attribute.codes >= 0, shares[attribute.codes], 0.0)
    return 1 - missed


def joint_inclusion(strata: Strata, asked: Sequence[Asked]) -> np.ndarray:
    """float64 [N]: the same of a joint design: its strata's rows asked over those there are."""
    counts = sum(strata.count(one.rows) for one in asked)
    return (counts / strata.sizes)[strata.ids]


class Tally:
    """Answers counted by cell, each row once, however many asked it.

    Args:
        population: who could be asked.
        cells: of the attributes of all whose answers are used.
        asked: the rows and answers of each of them.
        inclusion: float64 [N], the chance that a row is asked by anybody.
        domain: bool [N], the rows that count; None = all.
        once: a row that several asked counts once; else as often as it was asked, as published.
    """

    def __init__(
        self,
        population: Population,
        cells: Strata,
        asked: Sequence[Asked],
        inclusion: np.ndarray,
        domain: np.ndarray | None = None,
        once: bool = True,
    ) -> None:
        count = len(cells)
        inside = np.ones(population.rows, bool) if domain is None else domain
        rows = np.concatenate([one.rows for one in asked])
        answers = np.concatenate([one.answers for one in asked])
        if domain is not None:
            rows, answers = rows[domain[rows]], answers[domain[rows]]
        unique, places = rows, np.arange(len(rows))
        if once:
            unique, places = np.unique(rows, return_inverse=True)
        said = np.bincount(places[answers >= 0], minlength=len(unique))
        yes = np.bincount(places[answers > 0], minlength=len(unique))
        answered = said > 0
        of_row = cells.ids[unique]
        self.sizes = np.bincount(cells.ids[inside], minlength=count)
        self.asked = np.bincount(of_row, minlength=count)
        self.answered = np.bincount(of_row[answered], minlength=count)
        means = yes[answered] / said[answered]
        self.positives = np.bincount(of_row[answered], means, minlength=count)
        chances = np.bincount(cells.ids, inclusion, minlength=count)
        self.inclusion = chances / cells.sizes

    def estimate(
        self,
        agent: str,
        attribute: Attribute,
        codes: np.ndarray,
        estimator: str,
        chances: np.ndarray,
    ) -> Estimate:
        """An agent's groups.

        Args:
            agent: its name.
            attribute: its own.
            codes: int [C], the group of each cell.
            estimator: poststratified or balance, or as published pooled or stratum_means.
            chances: float64 [C], that a row of each cell is asked, as planned.
        """
        cells = Cells(codes, self.sizes, len(attribute.values))
        strata = self._strata(cells, chances)
        rates, variances = group_rates(
            estimator, cells, self.answered, self.positives, self.inclusion, strata
        )
        matrix = cells.matrix
        return Estimate(
            agent,
            attribute.name,
            attribute.values,
            (self.sizes @ matrix).astype(np.int64),
            (self.asked @ matrix).astype(np.int64),
            (self.answered @ matrix).astype(np.int64),
            self.positives @ matrix,
            rates,
            variances,
            int(self.sizes[codes < 0].sum()),
        )

    def _strata(self, cells: Cells, chances: np.ndarray) -> np.ndarray:
        expected = chances * self.sizes
        share = self.answered.sum() / max(1e-9, expected.sum())
        if share < FEWER:  # many refused, or the answers are one agent's of many
            expected = expected * share
        return poststrata(cells, expected)

    def bootstrap(
        self,
        attribute: Attribute,
        codes: np.ndarray,
        chances: np.ndarray,
        times: int,
        random: np.random.Generator,
    ) -> np.ndarray:
        """Rates [times, k] if other rows had been asked, drawn by post-stratum.

        Each post-stratum's answers are drawn anew at its own rate, with one answer at its group's
        rate added; deviations shrink by the share of its rows that are not asked.

        Args:
            attribute: of the agent.
            codes: int [C], the group of each cell.
            chances: float64 [C], that a row of each cell is asked, as planned.
            times: how often.
            random: where draws come from.
        """
        cells = Cells(codes, self.sizes, len(attribute.values))
        strata = self._strata(cells, chances)
        inside = np.flatnonzero((strata >= 0) & (self.answered > 0))
        rates, _ = group_rates(
            "poststratified", cells, self.answered, self.positives, self.inclusion, strata
        )
        count = int(strata.max()) + 1
        asked = np.bincount(strata[inside], self.answered[inside], minlength=count)
        yes = np.bincount(strata[inside], self.positives[inside], minlength=count)
        target = np.nan_to_num(rates)[codes[inside]]
        alike = (yes[strata[inside]] + target) / (asked[strata[inside]] + 1)
        drawn = random.binomial(self.answered[inside], alike, (times, len(inside)))
        rest = np.sqrt(1 - self.answered[inside] / self.sizes[inside])
        moved = self.positives[inside] + rest * (drawn - self.answered[inside] * alike)
        positives = np.zeros((times, len(self.sizes)))
        positives[:, inside] = moved
        again, _ = group_rates(
            "poststratified", cells, self.answered, positives, self.inclusion, strata
        )
        return np.clip(again, 0, 1)
