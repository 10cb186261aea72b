"""Who is asked how many rows of which stratum: the designs of an audit.

An agent's *own* design knows its own groups alone. A *joint* design is made by all agents together
on the cells of all their attributes, and its rows are dealt to the agents afterwards, so that no
row is asked by two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.audit.allocation import optimal
from hansa.audit.population import Attribute, Strata

LEAST = 2
"""Rows that a stratum of a joint design is worth; cells that are worth fewer are joined."""


@dataclass(frozen=True)
class Design:
    """A stratified sample without replacement.

    Attributes:
        strata: int64 [N], the stratum of each row, -1 = is not asked.
        sizes: int64 [S].
        counts: int64 [S], rows to ask of each.
    """

    strata: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray

    def draw(self, order: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """The rows to ask: of each stratum the first ones in an order.

        Args:
            order: int64 [N], the population's rows in random order.
            before: int64 [S], rows of each stratum that were asked already, in the same order.
        """
        strata = self.strata[order]
        grouped = np.argsort(strata, kind="stable")
        grouped = grouped[strata[grouped] >= 0]
        starts = np.cumsum(self.sizes) - self.sizes
        rank = np.arange(len(grouped)) - np.repeat(starts, self.sizes)
        chosen = rank < np.repeat(self.counts, self.sizes)
        if before is not None:
            chosen &= rank >= np.repeat(before, self.sizes)
        return order[np.sort(grouped[chosen])]


def spread(rates: np.ndarray | None, count: int) -> np.ndarray:
    """Variances [S] of a yes or no, of known rates or, where none is known, the most there is."""
    return np.full(count, 0.25) if rates is None else rates * (1 - rates)


def uniform(rows: int, budget: int) -> Design:
    """Rows at random from all."""
    return Design(np.zeros(rows, np.int64), np.array([rows]), np.array([budget]))


def own(
    attribute: Attribute, budget: int, variances: np.ndarray, floors: np.ndarray | int
) -> Design:
    """Rows of each group, so that the sum of the groups' variances is least.

    Args:
        attribute: of the agent.
        budget: questions.
        variances: [k] of an answer in each group; all alike = as many of each.
        floors: int64 [k].
    """
    sizes = attribute.sizes
    counts = optimal(variances, budget, sizes, floors)
    return Design(attribute.codes.astype(np.int64), sizes, counts)


def importance(cells: Strata, attributes: Sequence[Attribute]) -> np.ndarray:
    """[C]: what a cell adds to the sum of the agents' variances, per unit of an answer's variance.

    That of group v of an agent holds cell c with (N_c / N_v)^2.
    """
    total = np.zeros(len(cells))
    for place, attribute in enumerate(attributes):
        codes = cells.codes[:, place]
        share = cells.sizes / attribute.sizes[codes]
        total += np.where(codes >= 0, share**2, 0.0)
    return total


def joined(cells: Strata, wanted: np.ndarray) -> np.ndarray:
    """int64 [C]: the stratum of each cell, neighbours joined until each is worth ``LEAST`` rows.

    Args:
        cells: in lexicographic order, so that neighbours differ in the last attributes.
        wanted: [C], how many rows each would be given, in fractions.
    """
    strata = np.zeros(len(cells), np.int64)
    current, worth = 0, 0.0
    for place, more in enumerate(wanted):
        strata[place] = current
        worth += more
        if worth >= LEAST:
            current, worth = current + 1, 0.0
    if worth and current:  # too few are left over: to the last one
        strata[strata == current] = current - 1
    return strata


def joint_strata(
    cells: Strata, attributes: Sequence[Attribute], budget: int, equally: bool
) -> np.ndarray:
    """int64 [C]: the stratum of each cell; small ones are joined where they are many."""
    weights = np.ones(len(cells)) if equally else np.sqrt(importance(cells, attributes))
    if LEAST * (weights > 0).sum() <= budget:
        return np.arange(len(cells))
    return joined(cells, weights / weights.sum() * budget)


def strata_of(cells: Strata, of_cell: np.ndarray) -> Strata:
    """The strata that cells are joined to; their codes are not filled."""
    sizes = np.bincount(of_cell, cells.sizes).astype(np.int64)
    return Strata(of_cell[cells.ids], sizes, np.zeros((len(sizes), 0), np.int16))


@dataclass(frozen=True)
class JointPlan:
    """What agents ask who plan together.

    Attributes:
        of_cell: int64 [C], the stratum of each cell.
        strata: cells, or several joined.
        weights: [S], what a stratum weighs in the sum of the agents' variances.
        design: how many rows of each.
    """

    of_cell: np.ndarray
    strata: Strata
    weights: np.ndarray
    design: Design

    @property
    def counts(self) -> np.ndarray:
        """int64 [S]."""
        return self.design.counts


def joint_weights(
    cells: Strata, of_cell: np.ndarray, attributes: Sequence[Attribute]
) -> np.ndarray:
    """[S]: :func:`importance` of strata that may be several cells: N_s N_sv / N_v^2 summed."""
    sizes = np.bincount(of_cell, cells.sizes)
    total = np.zeros(len(cells))
    for place, attribute in enumerate(attributes):
        codes = cells.codes[:, place]
        inside = sizes[of_cell] * cells.sizes / attribute.sizes[codes] ** 2
        total += np.where(codes >= 0, inside, 0.0)
    return np.bincount(of_cell, total)


def joint(strata: Strata, budget: int, weights: np.ndarray, floors: np.ndarray | int) -> Design:
    """Rows of each stratum for all agents together, so that the sum of ``weights / n`` is least."""
    counts = optimal(weights, budget, strata.sizes, floors)
    return Design(strata.ids, strata.sizes, counts)


def dealt(
    rows: np.ndarray, budgets: Sequence[int], random: np.random.Generator
) -> list[np.ndarray]:
    """Rows shared out at random, to each agent its budget, or its part of it if they are fewer."""
    whole = np.asarray(budgets, np.int64)
    if len(rows) < whole.sum():
        cuts = np.floor(np.cumsum(whole) * (len(rows) / whole.sum()) + 1e-9).astype(np.int64)
    else:
        cuts = np.cumsum(whole)
    mixed = random.permutation(rows)
    return np.split(mixed, cuts)[: len(whole)]
