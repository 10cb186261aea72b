"""SLERP: from one model to another along the sphere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import BlockFacts, Merged, MergingAlgorithm, spans

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows

_PARALLEL = 0.9995
"""Cosine from which the straight line is taken: the sphere's formula divides by a small sine."""


@register("slerp", paper="Shoemake", year=1985, url="https://doi.org/10.1145/325165.325242")
class Slerp(MergingAlgorithm):
    """Between two models along the sphere, tensor by tensor (Shoemake, 1985); t = 0 is the first.

    As in mergekit it goes between weights; ``of: deltas`` goes between task vectors.
    """

    t: float = Field(0.5, ge=0, le=1, description="how far from the first model to the second")
    of: Literal["weights", "deltas"] = Field("weights", description="what lies on the sphere")

    @property
    def wants_base(self) -> bool:
        return self.of == "weights"

    def check(self, models: int) -> None:
        if models != 2:
            problem = f"goes between two models, and there are {models}"
            raise ConfigError("algorithms", self.name, problem, "two models, or averaging")

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        self.check(len(taus))
        ends = list(prepared)
        if self.of == "weights":
            if about.base is None:
                raise ValueError("slerp of weights needs the base's")
            ends = [row + about.base for row in prepared]
        between = torch.empty_like(prepared[0])
        for piece in about.pieces:
            span = slice(piece.start, piece.stop)
            self._between(ends[0][span], ends[1][span], between[span])
        return Merged(
            between if about.base is None or self.of == "deltas" else between - about.base
        )

    def merge_weights(self, rows: Rows, base: Tensor, about: BlockFacts | None = None) -> Tensor:
        """As all; between weights no task vector is made."""
        if self.of == "deltas":
            return super().merge_weights(rows, base, about)
        self.check(len(rows))
        merged = torch.empty_like(base)
        pieces = about.pieces if about is not None else ()
        ends = [(piece.start, piece.stop) for piece in pieces] or [(0, len(base))]
        for start, stop in ends:
            self._between(rows[0][start:stop], rows[1][start:stop], merged[start:stop])
        return merged

    def _between(self, first: Tensor, second: Tensor, out: Tensor) -> None:
        own, other, both = _products(first, second)
        cosine = both / math.sqrt(own * other) if own * other > 0 else 0.0  # as mergekit
        near, far = 1 - self.t, self.t
        if abs(cosine) <= _PARALLEL:
            angle = math.acos(cosine)
            near, far = (math.sin(part * angle) / math.sin(angle) for part in (near, far))
        torch.mul(first, near, out=out).add_(second, alpha=far)


def _products(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """The first's inner product with itself, the second's, and theirs, summed in float64."""
    total = torch.zeros(3, dtype=torch.float64)
    for span in spans(len(first)):
        a, b = first[span].double(), second[span].double()
        total += torch.stack((a @ a, b @ b, a @ b))
    own, other, both = total.tolist()
    return own, other, both
