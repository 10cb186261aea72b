"""Which stage of each block: the least loss within a budget, exact, with a certificate.

A multiple-choice knapsack (Sinha and Zoltners, 1979). Lagrange multipliers give a lower bound that
holds whatever is chosen, and a first choice; states (bytes, loss) are then followed block by block,
without those that another beats or whose bound is above the best choice so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError

_STATES = 200_000
"""States that are followed at a time; where there would be more, the result may not be exact."""


@dataclass(frozen=True)
class Selection:
    """A choice of stages.

    Attributes:
        stages: of each block.
        bytes: of all.
        loss: of all.
        bound: no choice within the budget loses less.
        exact: whether none loses less than this one.
    """

    stages: tuple[int, ...]
    bytes: int
    loss: float
    bound: float
    exact: bool


def select(
    costs: Sequence[Sequence[int]],
    losses: Sequence[Sequence[float]],
    budget: int,
    states: int = _STATES,
) -> Selection:
    """The stages with the least loss that take at most ``budget`` bytes.

    Args:
        costs: of each block and stage.
        losses: of each block and stage, finite.
        states: how many are followed at a time.

    Raises:
        ConfigError: the budget is out of reach; names the least.
    """
    least = sum(min(c) for c in costs)
    if budget < least:
        problem = f"is out of reach: the least is {least} bytes"
        raise ConfigError("budget", budget, problem, f"{least} bytes or more")
    bytes_of = [np.asarray(c, dtype=np.int64) for c in costs]
    loss_of = [np.asarray(row, dtype=np.float64) for row in losses]
    multiplier, bound, first = _lagrange(bytes_of, loss_of, budget)
    chosen, exact = _follow(bytes_of, loss_of, budget, multiplier, first, states)
    loss = float(sum(row[k] for row, k in zip(loss_of, chosen, strict=True)))
    size = int(sum(row[k] for row, k in zip(bytes_of, chosen, strict=True)))
    return Selection(chosen, size, loss, loss if exact else min(bound, loss), exact)


def _lagrange(
    costs: list[np.ndarray], losses: list[np.ndarray], budget: int
) -> tuple[float, float, tuple[int, ...]]:
    """The best multiplier, its bound, and the best choice within the budget on the way to it."""

    def at(price: float) -> tuple[float, tuple[int, ...]]:
        whole, chosen = -price * budget, []
        for c, row in zip(costs, losses, strict=True):
            priced = row + price * c
            k = int(np.lexsort((c, priced))[0])
            whole += float(priced[k])
            chosen.append(k)
        return whole, tuple(chosen)

    def size(stages: tuple[int, ...]) -> int:
        return sum(int(c[k]) for c, k in zip(costs, stages, strict=True))

    bound, stages = at(0.0)
    if size(stages) <= budget:
        return 0.0, bound, stages
    smallest = tuple(int(np.lexsort((row, c))[0]) for c, row in zip(costs, losses, strict=True))
    low, high, best, best_price = 0.0, 1.0, smallest, 0.0
    while size(at(high)[1]) > budget and high < 1e300:
        high *= 16
    for _ in range(200):
        price = (low + high) / 2
        value, stages = at(price)
        if value > bound:
            bound, best_price = value, price
        if size(stages) <= budget:
            high = price
            best = min(best, stages, key=lambda s: _total(losses, s))
        else:
            low = price
    return best_price, bound, _filled(costs, losses, budget, best)


def _total(losses: list[np.ndarray], stages: tuple[int, ...]) -> float:
    return float(sum(row[k] for row, k in zip(losses, stages, strict=True)))


def _filled(
    costs: list[np.ndarray], losses: list[np.ndarray], budget: int, stages: tuple[int, ...]
) -> tuple[int, ...]:
    """What is left of the budget is spent where it helps most."""
    chosen = list(stages)
    left = budget - sum(int(c[k]) for c, k in zip(costs, chosen, strict=True))
    while True:
        gain, where = 0.0, None
        for block, (c, row) in enumerate(zip(costs, losses, strict=True)):
            fits = np.flatnonzero(c - c[chosen[block]] <= left)
            k = int(fits[row[fits].argmin()])
            if (better := float(row[chosen[block]] - row[k])) > gain:
                gain, where = better, (block, k)
        if where is None:
            return tuple(chosen)
        block, k = where
        left -= int(costs[block][k] - costs[block][chosen[block]])
        chosen[block] = k


def _follow(
    costs: list[np.ndarray],
    losses: list[np.ndarray],
    budget: int,
    price: float,
    first: tuple[int, ...],
    most: int,
) -> tuple[tuple[int, ...], bool]:
    """The best choice, and whether no state was left out on the way."""
    best, exact = _total(losses, first), True
    after = np.zeros(len(costs) + 1, dtype=np.int64)  # the least bytes of the blocks that follow
    priced = np.zeros(len(costs) + 1)  # and their least priced loss
    for block in range(len(costs) - 1, -1, -1):
        after[block] = after[block + 1] + costs[block].min()
        priced[block] = priced[block + 1] + (losses[block] + price * costs[block]).min()
    size, loss = np.zeros(1, dtype=np.int64), np.zeros(1)
    trail: list[tuple[np.ndarray, np.ndarray]] = []
    for block, (c, row) in enumerate(zip(costs, losses, strict=True)):
        sizes, totals = (size[:, None] + c).ravel(), (loss[:, None] + row).ravel()
        bounds = totals + priced[block + 1] - price * (budget - sizes)
        slack = 1e-12 * (abs(best) + price * budget)  # rounding of the bounds
        alive = np.flatnonzero((sizes + after[block + 1] <= budget) & (bounds <= best + slack))
        alive = alive[np.lexsort((totals[alive], sizes[alive]))]
        lowest = np.minimum.accumulate(totals[alive])
        better = np.ones(len(alive), dtype=bool)
        better[1:] = totals[alive][1:] < lowest[:-1]
        alive = alive[better]
        if len(alive) > most:
            alive = np.sort(alive[np.argsort(bounds[alive], kind="stable")[:most]])
            exact = False
        if not len(alive):
            return first, exact
        trail.append((alive // len(c), alive % len(c)))
        size, loss = sizes[alive], totals[alive]
    at = int(loss.argmin())
    if loss[at] >= best:
        return first, exact
    chosen: list[int] = []
    for parents, stages in reversed(trail):
        chosen.append(int(stages[at]))
        at = int(parents[at])
    return tuple(reversed(chosen)), exact
