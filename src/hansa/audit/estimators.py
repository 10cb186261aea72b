"""From answers a cell to rates of groups, with what they may be off by.

Within a cell of all the attributes audited together, every row is as likely to be asked as any
other, whatever the design: the cells are where answers may be averaged without a thought. Above
them the population's own counts say how much each cell weighs. All functions take any number of
audits at once: counts are [..., C].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ENOUGH = 5.0
"""Answers to expect of a post-stratum: fewer make its mean a matter of chance."""


@dataclass(frozen=True)
class Cells:
    """The population's cells as one agent sees them.

    Attributes:
        groups: int [C], the agent's group of each cell, -1 = in none.
        sizes: int [C], rows of the population in it.
        count: k, how many groups there are.
    """

    groups: np.ndarray
    sizes: np.ndarray
    count: int

    @property
    def matrix(self) -> np.ndarray:
        """float64 [C, k]: which cell is in which group."""
        return (self.groups[:, None] == np.arange(self.count)).astype(float)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, nan where there is nothing below."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def pooled(cells: Cells, asked: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plain means of all answers of a group, as published: biased where designs differ.

    Returns:
        rates and their variances, [..., k]; nan where a group was not asked.
    """
    matrix = cells.matrix
    count = asked @ matrix
    rates = ratio(positives @ matrix, count)
    return rates, ratio(spread(rates, count), count)


def spread(rates: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The variance of an answer, of rates seen over so many: also of a rate of 0 or 1."""
    smooth = (rates * count + 1) / (count + 2)
    return smooth * (1 - smooth)


def stratum_means(
    cells: Cells, asked: np.ndarray, positives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of cells weighed by the population, as published: a cell nobody asked counts 0."""
    shares = cells.matrix * cells.sizes[:, None]
    shares = shares / shares.sum(0)
    means = np.where(asked > 0, positives / np.maximum(asked, 1), 0.0)
    variances = ratio(means * (1 - means), asked)
    return means @ shares, np.nan_to_num(variances) @ shares**2


def weighted(
    cells: Cells, asked: np.ndarray, positives: np.ndarray, inclusion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Answers weighed by one over the chance that a row of the cell is asked by anybody (Hájek).

    Args:
        cells: of one agent.
        asked: [..., C], rows answered, each once.
        positives: [..., C], the favourable of them.
        inclusion: [..., C], chances in 0..1.
    """
    weights = np.where(inclusion > 0, 1 / np.where(inclusion > 0, inclusion, 1), 0.0)
    matrix = cells.matrix
    total = (asked * weights) @ matrix
    rates = ratio((positives * weights) @ matrix, total)
    noise = ratio((asked * weights**2 * (1 - inclusion)) @ matrix, total**2)
    variances = spread(rates, asked @ matrix) * noise
    return rates, variances


def poststrata(cells: Cells, expected: np.ndarray) -> np.ndarray:
    """int64 [C]: a group's cells, neighbours joined until ``ENOUGH`` answers are to be expected.

    It depends on the design alone, never on what was answered, so that it favours no answer. -1
    for cells in no group; post-strata are numbered group by group.

    Args:
        cells: of one agent, in lexicographic order.
        expected: float64 [C], how many rows of each cell a design asks on average.
    """
    strata = np.full(len(cells.groups), -1, np.int64)
    number = 0
    for group in range(cells.count):
        first, answers = number, 0.0
        for cell in np.flatnonzero(cells.groups == group):
            strata[cell] = number
            answers += expected[cell]
            if answers >= ENOUGH:
                number, answers = number + 1, 0.0
        left = strata == number  # also cells that no answer is to be expected of
        if left.any() and number > first:  # too few are left over: to the last one
            strata[left] = number - 1
        elif number == first:
            number += 1
    return strata


def poststratified(
    cells: Cells,
    asked: np.ndarray,
    positives: np.ndarray,
    inclusion: np.ndarray,
    strata: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of post-strata, which weigh as the population has it.

    A post-stratum that nobody asked counts as its group does.

    Args:
        cells: of one agent.
        asked: [..., C], rows answered, each once.
        positives: [..., C], the favourable of them.
        inclusion: [..., C], chances in 0..1.
        strata: int64 [C], see :func:`poststrata`.
    """
    overall, spread_of_all = weighted(cells, asked, positives, inclusion)
    order = np.argsort(strata, kind="stable")
    order = order[strata[order] >= 0]
    starts = np.flatnonzero(np.diff(strata[order], prepend=-1))

    def summed(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[..., order], starts, axis=-1)

    weights = np.where(inclusion > 0, 1 / np.where(inclusion > 0, inclusion, 1), 0.0)
    group = cells.groups[order][starts]
    into = (group[:, None] == np.arange(cells.count)).astype(float)
    sizes = summed(cells.sizes.astype(float))
    shares = into * sizes[:, None] / (into.T @ sizes)
    count, total = summed(asked.astype(float)), summed(asked * weights)
    some, whole = total > 0, count >= sizes
    total = np.where(some, total, 1)
    fallback = np.nan_to_num(overall)[..., group]
    means = np.where(some, summed(positives * weights) / total, fallback)
    # Where everybody was asked there is nothing to weigh.
    means = np.where(whole, summed(positives) / np.maximum(count, 1), means)
    # Few answers say little of their own spread: drawn to the group's by the weight of one.
    target = (np.nan_to_num(overall) * (asked @ cells.matrix) + 1) / (asked @ cells.matrix + 2)
    smooth = (means * count + target[..., group]) / (count + 1)
    noise = summed(asked * weights**2 * (1 - inclusion)) / total**2
    noise = np.where(some & ~whole, noise * count / np.maximum(count - 1, 1), 0.0)
    inside = smooth * (1 - smooth) * noise
    unseen = np.where(some, 0.0, 1.0) @ shares
    variances = inside @ shares**2 + np.nan_to_num(unseen**2 * spread_of_all)
    known = ~np.isnan(overall)
    return np.where(known, means @ shares, np.nan), np.where(known, variances, np.nan)


def group_rates(
    estimator: str,
    cells: Cells,
    asked: np.ndarray,
    positives: np.ndarray,
    inclusion: np.ndarray,
    strata: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates and variances [..., k] by the estimator of a name."""
    if estimator == "pooled":
        return pooled(cells, asked, positives)
    if estimator == "stratum_means":
        return stratum_means(cells, asked, positives)
    if estimator == "balance":
        return weighted(cells, asked, positives, inclusion)
    return poststratified(cells, asked, positives, inclusion, strata)


def foreseen(
    cells: Cells, chances: np.ndarray, strata: np.ndarray, fixed: bool = False
) -> np.ndarray:
    """float64 [k]: variances of groups' rates to expect, per unit of an answer's variance.

    Args:
        cells: of one agent.
        chances: float64 [C], that a row of each cell is asked.
        strata: int64 [C], see :func:`poststrata`.
        fixed: the design says how many answers each cell gives, not chance.
    """
    inside = np.flatnonzero((strata >= 0) & (chances > 0))
    count = int(strata.max()) + 1
    weights = 1 / chances[inside]
    expected = cells.sizes[inside] * chances[inside]

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(strata[inside], values, minlength=count)

    group = np.zeros(count, np.int64)
    group[strata[strata >= 0]] = cells.groups[strata >= 0]
    sizes = np.bincount(strata[strata >= 0], cells.sizes[strata >= 0], minlength=count)
    total, answers = summed(expected * weights), summed(expected)
    noise = ratio(summed(expected * weights**2 * (1 - chances[inside])), total**2)
    # The number of answers is itself drawn: one over it is more on average than one over its mean.
    if not fixed:
        noise = noise * (1 + ratio(1 - ratio(answers, sizes), answers))
    shares = sizes / np.bincount(group, sizes, minlength=cells.count)[group]
    return np.bincount(group, np.nan_to_num(noise, nan=1.0) * shares**2, minlength=cells.count)
