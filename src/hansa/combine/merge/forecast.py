"""What a size will cost in accuracy, from what merging changed in the blocks.

Every step of merging has a loss of its own: how far the members' task vectors are from what they
become. Their sum is known for every size before anything is evaluated; a curve through the sizes
that were measured turns it into accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Forecast:
    """1 - normalised accuracy = a loss^b, fitted to measured sizes.

    Attributes:
        scale, power: a and b; a is 0 where nothing was lost.
        off: mean absolute error of each measured point as the others forecast it; None where
            fewer than three were measured.
        off_by_size: the same of straight lines over the size alone, which know of no block: a
            forecast that is no better has added nothing.
    """

    scale: float
    power: float
    off: float | None = None
    off_by_size: float | None = None

    def lost(self, loss: float) -> float:
        """The share of the fine-tuned accuracy that a block-wise loss costs."""
        return self.scale * max(loss, 0.0) ** self.power if loss > 0 else 0.0


def calibrated(
    losses: Sequence[float], lost: Sequence[float], sizes: Sequence[float]
) -> Forecast | None:
    """A forecast from measured sizes; None where all losses are 0.

    Args:
        losses: block-wise, of each measured size.
        lost: 1 - normalised accuracy at each.
        sizes: in models.
    """
    x, y, at = (np.asarray(values, dtype=np.float64) for values in (losses, lost, sizes))
    if not (x > 0).any():
        return None
    fitted = _fit(x, y)
    inner = [k for k in range(len(x)) if x[k] > 0]
    if len(inner) < 3:
        return Forecast(*fitted)
    errors, straight = [], []
    for k in inner:
        rest = np.arange(len(x)) != k
        errors.append(abs(Forecast(*_fit(x[rest], y[rest])).lost(float(x[k])) - y[k]))
        straight.append(abs(_line(at[rest], y[rest], float(at[k])) - y[k]))
    return Forecast(*fitted, float(np.mean(errors)), float(np.mean(straight)))


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(a, b) with the least squared error; b between a quarter and four, on a grid."""
    if not (x > 0).any():
        return 0.0, 1.0
    best, chosen = np.inf, (0.0, 1.0)
    for power in np.geomspace(0.25, 4, 65):
        basis = np.where(x > 0, x, 0) ** power
        scale = max(0.0, float(basis @ y / (basis @ basis)))
        error = float(((scale * basis - y) ** 2).sum())
        if error < best - 1e-15:
            best, chosen = error, (scale, float(power))
        if (x > 0).sum() < 2:
            return max(0.0, float((x @ y) / (x @ x))), 1.0
    return chosen


def _line(sizes: np.ndarray, y: np.ndarray, at: float) -> float:
    """Straight lines between points, drawn on beyond the ends."""
    order = np.argsort(sizes)
    sizes, y = sizes[order], y[order]
    k = int(np.clip(np.searchsorted(sizes, at), 1, len(sizes) - 1))
    slope = (y[k] - y[k - 1]) / (sizes[k] - sizes[k - 1])
    return float(y[k - 1] + slope * (at - sizes[k - 1]))
