"""The geometric median: the point with the smallest sum of distances to the rows.

Long rows are first turned into as many coordinates as there are rows, which changes no distance;
``lowest_points.py`` then searches on all sets at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.coordinate_wise import Median
from hansa.ensemble.aggregators.lowest_points import lowest_points
from hansa.ensemble.aggregators.whole_rows import WholeRows

if TYPE_CHECKING:
    from torch import Tensor

_CACHED = 1 << 18
"""Numbers that are worked on at a time."""


@register(
    "geometric_median", paper="Vardi and Zhang", year=2000,
    url="https://doi.org/10.1073/pnas.97.4.1423",
)  # fmt: skip
class GeometricMedian(WholeRows):
    """The point whose weighted distances to the rows sum to the least (Vardi and Zhang, 2000).

    Right while the bad weigh less than half. On a line, where many points may be right, it is one
    of the rows. Rows that are not finite do not count.
    """

    def kappa(self, n: int, f: int) -> float | None:
        """4 (1 + f / (n - 2f))² (Allouah et al., AISTATS 2023)."""
        return 4 * (1 + f / (n - 2 * f)) ** 2 if n > 2 * f else None

    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        _, n, size = rows.shape
        sets = max(1, _CACHED // (n * (size + n)))
        with torch.no_grad():
            parts = [
                _middle(r, w)
                for r, w in zip(rows.detach().split(sets), weights.split(sets), strict=True)
            ]
        middle = torch.cat([part[0] for part in parts])
        at = torch.cat([part[1] for part in parts])
        if rows.requires_grad and torch.is_grad_enabled():
            return _with_gradient(rows, weights, middle, at)
        taken = rows.gather(1, at.clamp(min=0).view(-1, 1, 1).expand(-1, 1, size))[:, 0]
        return torch.where(at.unsqueeze(1) >= 0, taken, middle.to(rows.dtype))


def _middle(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The medians float64 [m, D] of rows [m, n, D], and which row each is, -1 for none."""
    bad = ~rows.isfinite().all(2)
    mass = weights.masked_fill(bad, 0)
    mass = mass / mass.sum(1, keepdim=True)
    x = rows.double().masked_fill(bad.unsqueeze(2), 0)
    long = rows.shape[2] > rows.shape[1]
    near = x
    if long:
        centre = Median().many(rows).double().nan_to_num_(0, 0, 0)
        turned = (x - centre.unsqueeze(1)).transpose(1, 2)
        near = torch.linalg.qr(turned, mode="r").R.transpose(1, 2)
    parts = lowest_points(_lanes(near), _lanes(mass))
    middle, at = (torch.from_numpy(part.T.copy()).to(rows.device) for part in parts)
    if not long:
        return middle, at
    # The median is a mean of the rows, each by its weight over its distance.
    far = torch.linalg.vector_norm(near - middle.unsqueeze(1), dim=2)
    pull = mass / far.clamp(min=torch.finfo(far.dtype).tiny)
    pull = torch.where(at.unsqueeze(1) >= 0, mass, pull)  # there the row is taken as it is
    return ((pull / pull.sum(1, keepdim=True)).unsqueeze(1) @ x)[:, 0], at


def _lanes(tensor: Tensor) -> np.ndarray:
    """The sets last, so that an operation goes over all of them: [m, ...] -> [..., m]."""
    return np.ascontiguousarray(np.moveaxis(tensor.cpu().numpy(), 0, -1))


def _with_gradient(rows: Tensor, weights: Tensor, middle: Tensor, at: Tensor) -> Tensor:
    """The medians [m, D], with the gradient of what defines them.

    The weighted unit vectors sum to 0 at the median, whose derivative by the rows is solved for. A
    median that is a row moves with it.
    """
    x, size = rows.double(), rows.shape[2]
    taken = x.gather(1, at.clamp(min=0).view(-1, 1, 1).expand(-1, 1, size))[:, 0]
    free = at < 0
    counts = weights.masked_fill(~rows.detach().isfinite().all(2), 0)
    clean = torch.where((counts > 0).unsqueeze(2), x, middle.unsqueeze(1) + 1)
    ways = torch.where(free.view(-1, 1, 1), clean - middle.unsqueeze(1), 1.0)
    far = torch.linalg.vector_norm(ways, dim=2)
    pull = counts / far
    total = (ways * pull.unsqueeze(2)).sum(1)
    with torch.no_grad():
        scaled = ways * (pull.sqrt() / far).unsqueeze(2)
        curve = -(scaled.transpose(1, 2) @ scaled)
        curve.diagonal(dim1=1, dim2=2).add_((pull.sum(1) * (1 + 1e-10)).unsqueeze(1))
    moved = middle + torch.linalg.solve(curve, total)
    return torch.where(free.unsqueeze(1), moved, taken).to(rows.dtype)
