"""Adapters of strangers are looked at before they may answer anybody.

Three looks, each of which names its reason: the *norm* of the delta in a layer against those of the
pool, the *spectrum* (a planted direction stands out as one singular value), and *validation*: an
adapter that does worse than the base on some task and better on none helps nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine.settings import Settings
from hansa.route.score_matrix import wilson

if TYPE_CHECKING:
    from torch import Tensor

Factors = Mapping[str, tuple["Tensor", "Tensor"]]


class Screening(Settings):
    """What is let into a pool."""

    norm: float = Field(
        4.0, gt=1, description="times the pool's median norm of a delta, upwards, that is too far"
    )
    spectrum: float = Field(
        0.999, gt=0, le=1, description="share of a delta's energy in one direction that is too much"
    )
    harm: bool = Field(True, description="refuse what is surely below the base and helps nowhere")


@dataclass(frozen=True)
class Looked:
    """What was seen of an adapter.

    Attributes:
        norm: of all its deltas together.
        top: the mean over layers of the share of the energy that one direction has.
        refused: why it is not let in; empty: it is.
    """

    name: str
    norm: float
    top: float
    refused: tuple[str, ...]


def spectrum(factors: Factors) -> tuple[float, float]:
    """(norm of all deltas, mean share of a layer's energy in its strongest direction).

    In factor space: B A = B R' Q' with A' = Q R, so that an SVD of [out, r] is enough. A layer of
    rank 1 has no other direction and does not count; if all are, the share is 0.

    Raises:
        ConfigError: a number is not finite.
    """
    energy, shares = 0.0, []
    for layer, (a, b) in factors.items():
        small = b.double() @ torch.linalg.qr(a.double().T)[1].T
        if not bool(small.isfinite().all()):
            raise ConfigError("adapter", layer, "holds a number that is not finite", "leave it out")
        squares = torch.linalg.svdvals(small) ** 2
        total = float(squares.sum())
        energy += total
        if len(squares) > 1 and total > 0:
            shares.append(float(squares[0]) / total)
    return energy**0.5, float(np.mean(shares)) if shares else 0.0


def screened(
    pool: Mapping[str, Factors], settings: Screening,
    scores: np.ndarray | None = None, counts: np.ndarray | None = None,
    base: np.ndarray | None = None,
) -> list[Looked]:  # fmt: skip
    """Look at every adapter of a pool.

    Args:
        scores: float [T, A], means on validation examples, of 0 and 1.
        counts: int [T, A], how many they rest on; cells of 0 say nothing.
        base: float [T], the base's means on the same tasks.
    """
    seen = {name: spectrum(factors) for name, factors in pool.items()}
    median = float(np.median([norm for norm, _ in seen.values()])) if seen else 0.0
    result = []
    for place, (name, (norm, top)) in enumerate(seen.items()):
        why = []
        if median > 0 and norm > settings.norm * median:
            why.append(f"its norm is {norm / median:.1f} times the pool's median")
        if top > settings.spectrum:
            why.append(f"{100 * top:.1f} % of its energy lies in one direction")
        if settings.harm and scores is not None and counts is not None and base is not None:
            why += _harm(scores[:, place], counts[:, place], base)
        result.append(Looked(name, norm, top, tuple(why)))
    return result


def _harm(means: np.ndarray, counts: np.ndarray, base: np.ndarray) -> list[str]:
    """Why validation speaks against an adapter, or nothing."""
    asked = counts > 0
    if not asked.any():
        return []
    low, high = wilson(np.nan_to_num(means[asked]), counts[asked])
    if (high < base[asked]).any() and not (low > base[asked]).any():
        return ["it is surely worse than the base on a task, and surely better on none"]
    return []


def admitted(looked: Sequence[Looked]) -> list[str]:
    """The names of those that are let in, in order."""
    return [one.name for one in looked if not one.refused]
