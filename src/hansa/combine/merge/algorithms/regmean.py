"""RegMean: the matrix whose outputs are nearest to every model's on that model's inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.fisher import WithStatistics
from hansa.combine.merge.algorithms.merging import BlockFacts, Merged, Piece, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


@register("regmean", paper="Jin et al.", year=2023, url="https://arxiv.org/abs/2212.09849")
class RegMean(WithStatistics):
    """Least squares on the models' own outputs (Jin et al., ICLR 2023, equation 2).

    Of a matrix [out, in] with Gram matrices X'X [in, in] of what came into it in every model: the
    sum of W_i G_i times the inverse of the sum of G_i. Off-diagonal entries are first made smaller
    by ``shrink``. In directions that no input had, the base stays. All else is averaged.
    """

    shrink: float = Field(0.9, ge=0, le=1, description="factor of the off-diagonal entries")

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        merged = weighted_sum(taus, torch.full((len(taus),), 1 / len(taus)))
        for piece in about.pieces:
            grams = [self._gram(about, row, piece) for row in range(len(taus))]
            have = [gram for gram in grams if gram is not None]
            if not have:
                continue
            if len(have) != len(taus):
                raise ConfigError("files", piece.name, "some models have no Gram matrix of it")
            total = torch.stack(have).sum(0)
            weighted = torch.zeros(piece.shape, dtype=torch.float64)
            for tau, gram in zip(taus, have, strict=True):
                weighted += piece.of(tau).double() @ gram
            matrix = weighted @ torch.linalg.pinv(total, hermitian=True)
            merged[piece.start : piece.stop] = matrix.flatten()
        return Merged(merged)

    def _gram(self, about: BlockFacts, row: int, piece: Piece) -> Tensor | None:
        """float64 [in, in], off the diagonal made smaller; None for what has none."""
        gram = self.of_piece(about, row, piece)
        if gram is None or len(piece.shape) != 2:
            return None
        if tuple(gram.shape) != (piece.shape[1],) * 2:
            problem = f"its Gram matrix is {list(gram.shape)}, and {piece.shape[1]} numbers come in"
            raise ConfigError("files", piece.name, problem)
        gram = gram.double()
        return gram * self.shrink + torch.diag(gram.diagonal()) * (1 - self.shrink)
