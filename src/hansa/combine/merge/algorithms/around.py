"""A merging algorithm around another: what it does not change is handed on, all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.combine.merge.algorithms.merging import BlockFacts, Merged, MergingAlgorithm

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


class Around(MergingAlgorithm):
    """Behaves as ``inner`` does, but for what a subclass says."""

    inner: MergingAlgorithm

    @property
    def masked(self) -> bool:
        return self.inner.masked

    @property
    def scaled(self) -> bool:
        return self.inner.scaled

    @property
    def compares(self) -> bool:
        return self.inner.compares

    @property
    def wants_base(self) -> bool:
        return self.inner.wants_base

    @property
    def statistics(self) -> tuple[str, ...]:
        return self.inner.statistics

    def check(self, models: int) -> None:
        self.inner.check(models)

    def cutoff_ranks(self, numbers: int) -> tuple[int, ...]:
        return self.inner.cutoff_ranks(numbers)

    def ranked(self, taus: Tensor, about: BlockFacts) -> Tensor:
        return self.inner.ranked(taus, about)

    def prepare(self, taus: Tensor, about: BlockFacts) -> Tensor:
        return self.inner.prepare(taus, about)

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        return self.inner.combine(taus, prepared, about)
