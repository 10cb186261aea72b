"""Fisher merging: each number weighs by how much its model's predictions depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import (
    BlockFacts,
    Merged,
    MergingAlgorithm,
    Piece,
    weighted_sum,
)

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


class WithStatistics(MergingAlgorithm):
    """An algorithm that needs what each party measured on its own data."""

    files: tuple[str, ...] = Field(
        (), description="safetensors files of statistics by tensor, one a model, in their order"
    )

    @property
    def statistics(self) -> tuple[str, ...]:
        return self.files

    def check(self, models: int) -> None:
        if len(self.files) != models:
            problem = f"{self.name} needs a file of statistics a model, and there are {models}"
            fix = "list safetensors files, one a model in their order, or choose averaging"
            raise ConfigError("files", list(self.files), problem, fix)

    def of_piece(self, about: BlockFacts, row: int, piece: Piece) -> Tensor | None:
        """A model's statistic of a tensor, in float32, or None.

        Raises:
            ValueError: no statistics were handed in.
        """
        if about.statistics is None:
            raise ValueError(f"{self.name} needs statistics")
        values: Mapping[str, Tensor] = about.statistics[row]
        if piece.name not in values:
            return None
        value = values[piece.name].float()
        if not value.isfinite().all():
            raise ConfigError("files", piece.name, "holds a statistic that is not finite")
        return value


@register("fisher", paper="Matena and Raffel", year=2022, url="https://arxiv.org/abs/2111.09832")
class Fisher(WithStatistics):
    """The mean weighted by each model's diagonal Fisher information (Matena and Raffel, 2022).

    Numbers on which no model's predictions depend are averaged.
    """

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        merged = torch.empty_like(taus[0])
        for piece in about.pieces:
            part = [row[piece.start : piece.stop] for row in taus]
            total, mass = torch.zeros_like(part[0]), torch.zeros_like(part[0])
            for row, tau in enumerate(part):
                weight = self._information(about, row, piece)
                total.addcmul_(weight, tau)
                mass.add_(weight)
            merged[piece.start : piece.stop] = torch.where(
                mass > 0, total / mass, weighted_sum(part, torch.full((len(part),), 1 / len(part)))
            )
        return Merged(merged)

    def _information(self, about: BlockFacts, row: int, piece: Piece) -> Tensor:
        value = self.of_piece(about, row, piece)
        if value is None:
            raise ConfigError("files", piece.name, "no Fisher information of this tensor is given")
        if piece.shape:
            value = value[piece.first_row : piece.first_row + piece.shape[0]]
        if tuple(value.shape) != piece.shape or (value < 0).any():
            problem = f"its Fisher information is not {list(piece.shape)} numbers of 0 or more"
            raise ConfigError("files", piece.name, problem)
        return value.flatten()
