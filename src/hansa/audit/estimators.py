"""From answers a cell to rates of groups, with what they may be off by.

Within a cell of all the attributes audited together, every row is as likely to be asked as any
other, whatever the design: the cells are where answers may be averaged without a thought. Above
them the population's own counts say how much each cell weighs. All functions take any number of
audits at once: counts are [..., C].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    return rates, ratio(rates * (1 - rates), count)


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
    spread = rates * (1 - rates)
    variances = spread * ratio((asked * weights**2 * (1 - inclusion)) @ matrix, total**2)
    return rates, variances


def poststratified(
    cells: Cells, asked: np.ndarray, positives: np.ndarray, inclusion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of cells weighed by the population; a cell nobody asked counts as its group does."""
    rates, spread_of_rest = weighted(cells, asked, positives, inclusion)
    matrix = cells.matrix
    shares = matrix * cells.sizes[:, None]
    shares = shares / shares.sum(0)  # [C, k]
    fallback = np.where(cells.groups >= 0, rates[..., cells.groups], np.nan)
    means = np.where(asked > 0, positives / np.maximum(asked, 1), np.nan_to_num(fallback))
    estimates = np.where(np.isnan(rates), np.nan, means @ shares)
    # A cell of few answers says little of its own spread: half way to its group's.
    smooth = (positives + np.nan_to_num(fallback, nan=0.5)) / (asked + 1)
    unseen = (np.where(asked > 0, 0.0, 1.0)) @ shares
    rest = 1 - asked / cells.sizes
    inside = np.where(asked > 0, smooth * (1 - smooth) * rest / np.maximum(asked, 1), 0.0)
    variances = inside @ shares**2 + unseen**2 * spread_of_rest
    return estimates, np.where(np.isnan(rates), np.nan, variances)


def group_rates(
    weights: str,
    cells: Cells,
    asked: np.ndarray,
    positives: np.ndarray,
    inclusion: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates and variances [..., k] by the estimator of a name."""
    if weights == "pooled":
        return pooled(cells, asked, positives)
    if weights == "stratum_means":
        return stratum_means(cells, asked, positives)
    weigh = weighted if weights == "balance" else poststratified
    return weigh(cells, asked, positives, inclusion)


def foreseen(cells: Cells, inclusion: np.ndarray) -> np.ndarray:
    """float64 [k]: variances of groups' rates to expect, per unit of an answer's variance.

    Args:
        cells: of one agent.
        inclusion: float64 [C], the chance that a row of each cell is asked.
    """
    matrix = cells.matrix
    expected = cells.sizes * inclusion
    weights = np.where(inclusion > 0, 1 / np.where(inclusion > 0, inclusion, 1), 0.0)
    total = (expected * weights) @ matrix
    plain = ratio((expected * weights**2 * (1 - inclusion)) @ matrix, total**2)
    shares = matrix * cells.sizes[:, None]
    shares = shares / shares.sum(0)
    inside = np.where(expected > 0, (1 - inclusion) / np.maximum(expected, 1e-12), np.inf)
    return np.minimum(plain, inside @ shares**2)
