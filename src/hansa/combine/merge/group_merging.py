"""One group of a block's versions, merged; and what is lost by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.combine.merge.algorithms.merging import (
    BlockFacts,
    LinearMerging,
    Merged,
    MergingAlgorithm,
)
from hansa.combine.merge.block_store import StoredBlock
from hansa.combine.merge.byte_ledger import Accounting
from hansa.combine.merge.dendrogram import Group
from hansa.combine.merge.similarity import gram_matrix

if TYPE_CHECKING:
    from torch import Tensor


def accounting(algorithm: MergingAlgorithm) -> Accounting:
    """How an algorithm's groups are counted."""
    return Accounting(algorithm.masked, algorithm.scaled)


@dataclass(frozen=True)
class MergingContext:
    """What an algorithm knows of all models.

    Attributes:
        cutoffs: float32 [models, k], what it ranks model-wide; empty where it ranks nothing.
        statistics: of each model, by tensor.
        seed: of random choices.
    """

    algorithm: MergingAlgorithm
    cutoffs: np.ndarray
    statistics: Sequence[Mapping[str, Tensor]] | None = None
    seed: int = 0


class BlockMerging:
    """A block in which groups are merged by one algorithm.

    Args:
        block: as stored.
        context: the algorithm and what it knows.
        which: the versions that are needed; None: all.
        taus: float32 [n, d] of these versions, where they have been read already.
        gram: of the task vectors as they are, where it has been made already.
        errors: whether errors are asked for; otherwise only what merging needs stays in memory.
    """

    def __init__(
        self,
        block: StoredBlock,
        context: MergingContext,
        which: Sequence[int] | None = None,
        taus: Tensor | None = None,
        gram: np.ndarray | None = None,
        errors: bool = True,
    ) -> None:
        self._block, self._context, self._plain = block, context, gram
        which = tuple(range(block.count)) if which is None else tuple(which)
        self._row = {version: row for row, version in enumerate(which)}
        self.taus = block.taus(which) if taus is None else taus
        owners = [block.owners[version] for version in which]
        if errors or context.algorithm.compares:
            self.prepared = context.algorithm.prepare(self.taus, self._facts(owners))
            return
        for row, owner in enumerate(owners):  # each in its own place: one alone is copied
            alone = self.taus[row : row + 1]
            alone.copy_(context.algorithm.prepare(alone, self._facts([owner])))
        self.prepared = self.taus

    def _facts(self, models: Sequence[int]) -> BlockFacts:
        cutoffs, statistics = self._cutoffs(models), self._context.statistics
        return BlockFacts(
            self._block.layout.name,
            self._block.layout.pieces,
            tuple(models),
            cutoffs,
            None if statistics is None else [statistics[m] for m in models],
            self._base if self._context.algorithm.wants_base else None,
            Streams(self._context.seed),
        )

    @cached_property
    def _base(self) -> Tensor:
        return self._block.base().float()

    def _cutoffs(self, models: Sequence[int]) -> Tensor | None:
        """Of each model's version: where several models have it, the lowest of theirs."""
        if not self._context.cutoffs.size:
            return None
        versions = self._block.versions
        rows = [
            self._context.cutoffs[[versions[m] == other for other in versions]].min(0)
            for m in models
        ]
        return torch.from_numpy(np.stack(rows))

    def merged(self, group: Group) -> tuple[Merged, tuple[int, ...]]:
        """A group merged, and the models that are its rows, ascending."""
        models = self._block.members(group)
        rows = [self._row[self._block.versions[m]] for m in models]
        taus, prepared = [self.taus[r] for r in rows], [self.prepared[r] for r in rows]
        return self._context.algorithm.combine(taus, prepared, self._facts(models)), models

    @cached_property
    def gram(self) -> np.ndarray:
        """Inner products of the prepared task vectors."""
        if self._plain is not None and self.prepared is self.taus:
            return self._plain
        return gram_matrix(self.prepared)

    def error(self, group: Group) -> float:
        """The squared error of a group's models, summed: what merging them loses."""
        if not accounting(self._context.algorithm).merges(group, self._block.layout.size):
            return 0.0
        algorithm = self._context.algorithm
        if isinstance(algorithm, LinearMerging) and self.prepared is self.taus:
            return self._linear_error(algorithm, group)
        merged, models = self.merged(group)
        total = 0.0
        for row, model in enumerate(models):
            total += merged.error(row, self.taus[self._row[self._block.versions[model]]])
        return total

    def _linear_error(self, algorithm: LinearMerging, group: Group) -> float:
        """The same from inner products alone, without touching the vectors."""
        models = self._block.members(group)
        rows = [self._row[self._block.versions[m]] for m in models]
        inner = self.gram[np.ix_(rows, rows)]
        share = algorithm.coefficients(self._facts(models)).double().numpy()
        error = np.trace(inner) - 2 * (inner @ share).sum() + len(models) * share @ inner @ share
        return max(0.0, float(error))
