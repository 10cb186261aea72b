"""The designs of the paper's released code, its flaws included: what the mended ones are held to.

Agents draw independently of each other even when they plan together, so that two may ask the same
row; ``floor(R / number of cells)`` a cell leaves part of a budget unspent; Neyman's shares minimise
the sum of deviations for an agent alone, and of squared variances for all together. The allocation
by integer program is the same here without its commercial solver.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.audit import designs
from hansa.audit.allocation import optimal, with_overflow
from hansa.audit.designs import Design
from hansa.audit.population import Attribute, Population, Strata
from hansa.base.errors import ConfigError


def own(
    attribute: Attribute, budget: int, rates: np.ndarray | None, random: np.random.Generator
) -> Design:
    """An agent's design of its groups: as many of each, or by ``rates`` n ~ sigma^(2/3)."""
    sizes = attribute.sizes
    count = len(sizes)
    if rates is None:
        wanted = np.full(count, budget // count)
    else:
        parts = np.maximum(rates * (1 - rates), 1e-12) ** (1 / 3)
        wanted = np.round(budget * parts / parts.sum()).astype(np.int64)
        wanted[-1] += budget - wanted.sum()
    return Design(attribute.codes.astype(np.int64), sizes, with_overflow(wanted, sizes, random))


def together(
    cells: Strata,
    attributes: Sequence[Attribute],
    budget: int,
    rates: np.ndarray | None,
    random: np.random.Generator,
) -> list[Design]:
    """The agents' designs of all cells: as many of each, or by ``rates`` the integer program.

    Args:
        cells: of all the attributes.
        attributes: of the agents.
        budget: of each agent.
        rates: [C] of each cell, or None.
        random: for what the overflow leaves.

    Raises:
        ConfigError: there are more cells than questions.
    """
    agents = len(attributes)
    if rates is not None:
        weights = designs.importance(cells, attributes) * (rates * (1 - rates)) ** 2
        total = optimal(weights, agents * budget, cells.sizes, 1)
        base, extra = np.divmod(total, agents)
        shares = [base + (place < extra) for place in range(agents)]
        return [Design(cells.ids, cells.sizes, share.astype(np.int64)) for share in shares]
    combinations = int(np.prod([len(attribute.values) for attribute in attributes]))
    if budget < combinations:
        raise ConfigError(
            "strategy.reference",
            True,
            f"gives floor({budget} / {combinations}) = 0 questions to a stratum",
            "reference: false, or fewer agents",
        )
    each = budget // combinations
    # Cells in which nobody is want their share too; the overflow gives it to the others.
    wanted = np.full(combinations, each)
    sizes = np.zeros(combinations, np.int64)
    sizes[: len(cells)] = cells.sizes
    plans = []
    for _ in attributes:
        counts = with_overflow(wanted, sizes, random)[: len(cells)]
        plans.append(Design(cells.ids, cells.sizes, counts))
    return plans


def true_rates(population: Population, strata: np.ndarray, count: int) -> np.ndarray:
    """[S]: the true rate of each stratum, as only a study knows it."""
    assert population.answers is not None
    inside = strata >= 0
    sizes = np.bincount(strata[inside], minlength=count)
    favoured = np.bincount(strata[inside], population.answers[inside], minlength=count)
    return favoured / np.maximum(sizes, 1)
