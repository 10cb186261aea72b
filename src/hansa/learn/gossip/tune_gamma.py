"""The consensus experiment: which gamma lets CHOCO agree fastest (Koloskova et al., 2019).

Nodes start at random vectors and gossip without training. The best step size depends on the
graph, the compressor and its share, and hardly on the numbers, so this takes seconds and serves
for a run that takes hours. Training keeps pushing the nodes apart: start a little below the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hansa.base.errors import Diverged
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.engine import Block, Network, WallClock
from hansa.engine.block import COUNTERS, MODELLED
from hansa.engine.exchange.asked import Exchange
from hansa.engine.roster import Roster
from hansa.learn.gossip.choco import Choco

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tuned:
    """What the experiment found.

    Attributes:
        gamma: the best of the grid.
        errors: for every gamma, the squared distance from the mean after the last round over that
            at the start; infinite where it diverged.
    """

    gamma: float
    errors: dict[float, float]


def consensus(choco: Choco, network: Network, rows: Tensor, rounds: int) -> Tensor:
    """The rows [n, P] after so many rounds of CHOCO without training; ``rows`` are kept.

    Raises:
        Diverged: the alarm of ``choco`` went off.
    """
    n = len(rows)
    block = Block(
        ids=np.arange(n),
        rows=rows.clone(),
        parts=[],
        streams=network.streams,
        network=network,
        trainer=cast(Any, None),  # nobody trains
        residents=np.arange(n),
        roster=Roster(n),
        state={name: torch.zeros(n, dtype=torch.int64) for name in COUNTERS}
        | {name: torch.zeros(n, dtype=torch.float64) for name in MODELLED},
    )
    choco.start(block)
    exchange = Exchange(WallClock())
    for t in range(rounds):
        send = choco.outgoing(block, t)
        choco.incoming(block, exchange(block, send, t, 0), t)
    return block.rows


def spread(rows: Tensor) -> float:
    """Mean squared distance of the rows' numbers from the mean row's."""
    return float((rows - rows.mean(0)).square().mean())


def tune_gamma(
    choco: Choco,
    network: Network,
    size: int = 2000,
    rounds: int = 200,
    grid: tuple[float, ...] | None = None,
    tell: Callable[[float, float], None] = lambda gamma, error: None,
) -> Tuned:
    """Try every gamma of a grid on random vectors of ``size`` numbers.

    Args:
        choco: its compressor, share and codec are used, its gamma is not.
        grid: what is tried; None: 16 from 0.001 to 1, each as many times the one before.
        tell: is given each gamma and its error.
    """
    shape = network.nodes, size
    drawn = Streams(network.streams.seed).numpy("tune gamma").standard_normal(shape)
    rows = torch.from_numpy(drawn)
    before = spread(rows)
    errors: dict[float, float] = {}
    for gamma in np.logspace(-3, 0, 16).tolist() if grid is None else grid:
        tried = choco.model_copy(update={"gamma": gamma, "alarm": choco.alarm or 10.0})
        try:
            after = spread(consensus(tried, network, rows, rounds)) / before
        except Diverged:
            after = np.inf
        errors[gamma] = after if np.isfinite(after) else np.inf
        tell(gamma, errors[gamma])
    return Tuned(min(errors, key=lambda gamma: errors[gamma]), errors)
