"""A server that protects its clients: it clips their updates and adds noise to their sum.

Server-side differential privacy as :class:`~hansa.privacy.central.CentralPrivacy` says.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.engine.accounts import COST, NOISE, RATE
from hansa.ensemble.aggregators import Mean, ModelAggregator
from hansa.learn.federated.sums import Sums
from hansa.privacy.accounting import ORDERS, epsilon
from hansa.privacy.central import CentralPrivacy

if TYPE_CHECKING:
    from torch import Tensor

CLIP = "privacy.clip"
"""In what servers keep: the clip of each, float64 [r]."""
_TINY = 1e-12


def unprotected(aggregator: ModelAggregator, uniform: bool, more: bool) -> str:
    """Why a server cannot protect its clients; empty: it can.

    Args:
        uniform: whether all updates have the same weight, and all numbers of one.
        more: whether clients send more than updates.
    """
    if more:
        return "has clients send more than updates, which no noise of the server hides"
    if not isinstance(aggregator, Mean):
        return (
            "does not add updates up with this aggregator, so that no clip bounds what one client "
            "does (algorithm.aggregator: mean; or privacy: local, which goes with any)"
        )
    if not uniform:
        return "does not weigh updates alike (algorithm.weighting: uniform does, in whole models)"
    return ""


def begin(block: Block) -> None:
    """Keep each server's clip, where there is one, and room for its accounts."""
    privacy = block.privacy
    if isinstance(privacy, CentralPrivacy):
        r = len(block.residents)
        block.kept[CLIP] = torch.full((r,), privacy.bound, dtype=torch.float64)
        for name in (NOISE, RATE):
            block.facts[name] = np.full(r, np.nan)
        block.facts[COST] = np.zeros((r, len(ORDERS)))


def account(block: Block, row: int, rate: float, expected: float) -> None:
    """Find the noise of the server at a row, and what a round of it costs.

    Args:
        rate: chance of each of its clients to be in a round, by itself; 1 where that is not so.
        expected: how many clients' updates are asked for.

    Raises:
        ConfigError: noise that cannot be divided between sum and count, or is too little for the
            first round already.
    """
    privacy = block.privacy
    if not isinstance(privacy, CentralPrivacy):
        return
    try:
        noise = privacy.multiplier(rate, block.rounds)
        privacy.in_sum(noise, expected)
    except ConfigError as error:
        raise error.under("privacy") from None
    cost = privacy.cost(noise, rate)
    spent = epsilon(cost, privacy.risk)
    if privacy.budget is not None and spent > privacy.budget:
        problem, fix = "is passed by the first round", f"at least {spent:.3g}, or more noise"
        raise ConfigError("privacy.budget", privacy.budget, problem, fix)
    block.facts[NOISE][row], block.facts[RATE][row] = noise, rate
    block.facts[COST][row] = cost


def bounded(block: Block, row: int, updates: Tensor, sums: Sums) -> Tensor:
    """Updates [k, K] of which none is longer than the clip of the server at a row."""
    if not isinstance(block.privacy, CentralPrivacy):
        return updates
    clip = float(block.kept[CLIP][row])
    updates = torch.nan_to_num(updates, nan=0.0, posinf=0.0, neginf=0.0)
    norms = updates.double().norm(dim=1)
    # Shifted by a half, so that a client moves the count by no more than that.
    sums.below[row] += float((norms <= clip).double().sum()) - len(norms) / 2
    scale = (clip / norms.clamp(min=_TINY)).clamp(max=1)
    return updates * scale.to(updates.dtype).unsqueeze(1)


def protect(block: Block, row: int, sums: Sums, expected: float, t: int) -> None:
    """Make the mean of bounded updates a noised sum over the number that was expected."""
    privacy = block.privacy
    if not isinstance(privacy, CentralPrivacy):
        return
    noise = float(block.facts[NOISE][row])
    clip, server = float(block.kept[CLIP][row]), int(block.ids[block.residents[row]])
    deviation = privacy.in_sum(noise, expected) * clip / expected
    random = block.streams.own.numpy("privacy", server, t)
    for part in (sums.update[row], sums.rest[row]):
        part.mul_(sums.came[row] / expected)
        if noise and len(part):
            drawn = torch.from_numpy(random.standard_normal(len(part)))
            part.add_(drawn.to(part), alpha=deviation)
    block.kept[COST][row] += torch.from_numpy(block.facts[COST][row])
    if privacy.quantile is not None:
        spread = privacy.spread(expected) if noise else 0.0
        below = float(sums.below[row]) + spread * random.standard_normal()
        share = below / expected + 0.5
        block.kept[CLIP][row] = clip * math.exp(-privacy.clip_rate * (share - privacy.quantile))
        block.note("clip", block.residents[row], clip)
