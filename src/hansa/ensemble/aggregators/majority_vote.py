"""The majority vote: each row counts for the class that it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Buffered

if TYPE_CHECKING:
    from torch import Tensor


@register("majority_vote", paper="Lam and Suen", year=1997)
class MajorityVote(Buffered):
    """Each class's share of the votes, weighted; a row votes for its largest score.

    Of a row's equal scores the first counts, and of classes with as many votes the first is
    answered. One score that tells two classes apart votes for the second where it is above 0: then
    the result is the votes for it less those against.
    """

    @property
    def scores_only(self) -> bool:
        """A model's numbers cast no votes."""
        return True

    def combine(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        return self.many(rows[None], weights)[0]

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        weights = np.ones(rows.shape[1]) if weights is None else weights
        shares = torch.from_numpy(weights / weights.sum()).to(rows)
        if rows.shape[2] == 1:
            return ((rows > 0).to(rows) * 2 - 1).mul(shares[:, None]).sum(1)
        return (votes(rows).to(rows) * shares[:, None]).sum(1)


def votes(rows: Tensor) -> Tensor:
    """For which class each of rows [m, n, K] votes, K > 1: bool [m, n, K]."""
    chosen = rows.argmax(2, keepdim=True)  # of equal ones the first
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(2, chosen, True)
