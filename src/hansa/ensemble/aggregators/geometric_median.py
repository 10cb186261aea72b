"""The geometric median: the point with the smallest sum of distances to the rows.

Weiszfeld's iteration, safe at the rows themselves by the rule of Vardi and Zhang (PNAS 2000), with
Newton's steps where they lead further down, on all sets at once, in double precision: a few rounds
where the plain iteration takes hundreds. Long rows are first turned into as many coordinates as
there are rows, which changes no distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.coordinate_wise import Median
from hansa.ensemble.aggregators.whole_rows import WholeRows, squared_distances

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-8
"""Of the length of the weighted mean of unit vectors to the rows, which is 0 at the median."""
_ROUNDS = 200
_CACHED = 1 << 19
"""Numbers that are worked on at a time."""
_NEAR = 1e-12
"""Rows so near to each other, against how long they are, count as one: rounding made them two."""


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
    if rows.shape[2] <= rows.shape[1]:
        return _Search(x, mass).run()
    x = x - Median().many(rows).double().nan_to_num_(0, 0, 0).unsqueeze(1)
    turned = torch.linalg.qr(x.transpose(1, 2), mode="r").R.transpose(1, 2)
    middle, at = _Search(turned, mass).run()
    # The median is a mean of the rows, each by its weight over its distance.
    near = torch.linalg.vector_norm(turned - middle.unsqueeze(1), dim=2)
    pull = mass / near.clamp(min=torch.finfo(near.dtype).tiny)
    pull = torch.where(at.unsqueeze(1) >= 0, mass, pull)  # a row is taken as it is
    pull = (pull / pull.sum(1, keepdim=True)).unsqueeze(1)
    return (pull @ rows.double().masked_fill(bad.unsqueeze(2), 0))[:, 0], at


@dataclass
class _Search:
    """Rows float64 [m, n, D] and weights [m, n] that sum to 1; those of 0 do not count."""

    x: Tensor
    mass: Tensor

    def run(self) -> tuple[Tensor, Tensor]:
        """The medians [m, D], and which row each is, -1 for none."""
        y, at = self.best_rows()
        active = torch.nonzero(at < 0)[:, 0]
        searched = y[active]
        search = _Search(self.x[active], self.mass[active])
        for _ in range(_ROUNDS):
            if not len(active):
                break
            searched, going = search.step(searched)
            y[active] = searched
            if not going.all():
                active, searched = active[going], searched[going]
                search = _Search(search.x[going], search.mass[going])
        return y, at

    def best_rows(self) -> tuple[Tensor, Tensor]:
        """The best row of each set; where that is not the median, a better point and -1."""
        apart = squared_distances(self.x).sqrt_()
        sums = (apart * self.mass.unsqueeze(1)).sum(2).masked_fill(self.mass == 0, float("inf"))
        best = sums.argmin(1)
        size = self.x.shape[2]
        y = self.x.gather(1, best.view(-1, 1, 1).expand(-1, 1, size))[:, 0]
        ways = self.x - y.unsqueeze(1)
        far = apart.gather(1, best.view(-1, 1, 1).expand(-1, 1, apart.shape[2]))[:, 0]
        lengths = torch.linalg.vector_norm(self.x, dim=2)
        here = far <= _NEAR * (lengths + lengths.gather(1, best.unsqueeze(1)))
        own = (self.mass * here).sum(1)
        pull = (self.mass / far).masked_fill(here, 0)
        total = (ways * pull.unsqueeze(2)).sum(1)
        force = torch.linalg.vector_norm(total, dim=1)
        is_median = ~(force > own * (1 + 1e-12))  # NaN, where no row counts, stays
        reach = ((1 - own / force) / pull.sum(1)).masked_fill(is_median, 0)
        return y + total * reach.unsqueeze(1), best.masked_fill(~is_median, -1)

    def step(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Points further down, and which have to go on."""
        ways, far = self.seen_from(y)
        pull = self.mass / far
        sums = pull.sum(1)
        total = (ways * pull.unsqueeze(2)).sum(1)
        going = torch.linalg.vector_norm(total, dim=1) > TOLERANCE
        plain = y + total / sums.unsqueeze(1)
        scaled = ways * (pull.sqrt() / far).unsqueeze(2)
        curve = -(scaled.transpose(1, 2) @ scaled)
        curve.diagonal(dim1=1, dim2=2).add_((sums * (1 + 1e-10)).unsqueeze(1))
        newton, failed = torch.linalg.solve_ex(curve, total)
        newton = y + newton
        height = (far * self.mass).sum(1)
        lower = (self.seen_from(newton)[1] * self.mass).sum(1) <= height
        lower &= failed == 0
        stepped = torch.where(lower.unsqueeze(1), newton, plain)
        return torch.where(going.unsqueeze(1), stepped, y), going

    def seen_from(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The ways from points [m, D] to their rows, and how long they are, never 0."""
        ways = self.x - y.unsqueeze(1)
        return ways, torch.linalg.vector_norm(ways, dim=2).clamp(min=1e-300)


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
