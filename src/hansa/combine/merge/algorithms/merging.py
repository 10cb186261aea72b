"""The seam of all merging algorithms: task vectors of one block go in, one vector comes out.

A task vector is what fine-tuning changed, ``theta_i - theta_base``, one block of it laid flat. An
algorithm is a component with its settings; it never reads files and never sees sizes. Some first
change each vector by itself (:meth:`MergingAlgorithm.prepare`: TIES trims, DARE drops): the order
of merges is made of those, and they are made once however many groups are tried.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams

if TYPE_CHECKING:
    from torch import Tensor

    Rows = Sequence[Tensor]


_COLUMNS = 1 << 15


@dataclass(frozen=True)
class Piece:
    """A tensor, or some of its rows, within a block's flat vector.

    Attributes:
        name: the tensor's.
        shape: of the piece.
        start: where its numbers begin in the vector.
        first_row: the tensor's row with which it begins.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    first_row: int = 0

    @property
    def stop(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return self.start + size

    def of(self, vectors: Tensor) -> Tensor:
        """Its numbers [..., *shape] in vectors [..., d]: a view."""
        part = vectors[..., self.start : self.stop]
        return part.reshape(*vectors.shape[:-1], *self.shape)


@dataclass(frozen=True)
class BlockFacts:
    """What an algorithm may know of a block beside the task vectors [n, d].

    Attributes:
        name: names the random streams.
        pieces: the block's tensors in the order of the vector; empty: one tensor.
        members: which of the models each row is; empty: 0 to n - 1.
        cutoffs: [n, k], what ranks model-wide: see :meth:`MergingAlgorithm.cutoff_ranks`. None:
            the block is the whole model.
        statistics: of each row's model, by tensor: diagonal Fisher information (the tensor's
            shape) or Gram matrices of inputs [in, in].
        base: [d], the pre-trained numbers, for what merges weights and not differences.
        streams: of random choices.
    """

    name: str = "block"
    pieces: tuple[Piece, ...] = ()
    members: tuple[int, ...] = ()
    cutoffs: Tensor | None = None
    statistics: Sequence[Mapping[str, Tensor]] | None = None
    base: Tensor | None = None
    streams: Streams = field(default_factory=lambda: Streams(0))

    def whole(self, taus: Tensor) -> BlockFacts:
        """The same with pieces and members written out."""
        count, size = taus.shape
        pieces = self.pieces or (Piece(self.name, (size,), 0),)
        return replace(self, pieces=pieces, members=self.members or tuple(range(count)))

    def rows(self, which: Sequence[int]) -> BlockFacts:
        """The facts of some of the rows; members must be written out."""
        return replace(
            self,
            members=tuple(self.members[i] for i in which),
            cutoffs=None if self.cutoffs is None else self.cutoffs[list(which)],
            statistics=None if self.statistics is None else [self.statistics[i] for i in which],
        )


@dataclass(frozen=True)
class Merged:
    """What became of a group's task vectors.

    Attributes:
        vector: [d], shared by all members.
        masks: bool [n, d], which of its numbers are a member's; None: all are everybody's.
        scalers: [n], what a member multiplies it with; None: 1.
    """

    vector: Tensor
    masks: Tensor | None = None
    scalers: Tensor | None = None

    def of(self, row: int, span: slice = slice(None)) -> Tensor:
        """The task vector [d] that a member gets back, or a span of it."""
        if self.masks is None:
            return self.vector[span]
        mine = self.vector[span] * self.masks[row, span]
        return mine if self.scalers is None else mine.mul_(self.scalers[row])

    def error(self, row: int, tau: Tensor) -> float:
        """The squared distance of what a member gets back from its own task vector [d]."""
        total = 0.0
        for span in spans(len(tau)):
            left = self.of(row, span) - tau[span]
            total += float(left @ left)
        return total


class MergingAlgorithm(Component, kind="merging"):
    """Makes one task vector of several.

    The laws, to which the tests hold every algorithm: the order of the members does not matter but
    for rounding, task vectors that are scaled by c give a result scaled by c (not ``pcb``), the
    base does not matter (not ``slerp`` of weights).
    """

    @property
    def masked(self) -> bool:
        """Whether a member takes a part of its own of the result: the task must be named."""
        return False

    @property
    def scaled(self) -> bool:
        """Whether a member also has a number that it multiplies its part with."""
        return False

    @property
    def compares(self) -> bool:
        """Whether it also looks at the task vectors as they were before they were prepared."""
        return False

    @property
    def wants_base(self) -> bool:
        """Whether it merges weights, and so needs the base's."""
        return False

    @property
    def statistics(self) -> tuple[str, ...]:
        """Files of statistics, one a model, for what needs them."""
        return ()

    def check(self, models: int) -> None:
        """Refuse what cannot work with so many models.

        Raises:
            ConfigError: names the setting.
        """

    def cutoff_ranks(self, numbers: int) -> tuple[int, ...]:
        """Which absolute values, counted from the largest as 0, it must know of each task vector.

        Args:
            numbers: how many a whole model has.
        """
        return ()

    def ranked(self, taus: Tensor, about: BlockFacts) -> Tensor:
        """The vectors [n, d] whose numbers are ranked model-wide."""
        return taus

    def prepare(self, taus: Tensor, about: BlockFacts) -> Tensor:
        """Task vectors [n, d] after what is done to each alone; may be ``taus`` itself."""
        return taus

    @abstractmethod
    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        """Merge n task vectors, as they are n x [d] and prepared n x [d]; changes neither.

        It goes row by row where it can, so that little more than the rows is in memory.
        """

    def merge(self, taus: Tensor, about: BlockFacts | None = None) -> Merged:
        """Merge task vectors [n, d] in float32; without facts they are one tensor and a model."""
        about = (about or BlockFacts()).whole(taus)
        return self.combine(list(taus), list(self.prepare(taus, about)), about)

    def merge_weights(self, rows: Rows, base: Tensor, about: BlockFacts | None = None) -> Tensor:
        """One model's numbers of several's: the base's and what :meth:`merge` makes of the rest.

        Args:
            rows: n vectors float32 [d], of the models.
            base: float32 [d].
            about: without it they are one tensor.

        Returns:
            Tensor: float32 [d]. Of an algorithm with masks it is what no mask was laid on.
        """
        taus = torch.empty(len(rows), len(base))
        for tau, row in zip(taus, rows, strict=True):
            torch.sub(row, base, out=tau)
        about = replace((about or BlockFacts()).whole(taus), base=base)
        return self.merge(taus, about).vector.add_(base)


class LinearMerging(MergingAlgorithm):
    """A weighted sum of the task vectors."""

    weights: tuple[float, ...] = Field((), description="of each model, in their order; none: alike")

    def check(self, models: int) -> None:
        check_weights(self.weights, models)

    def member_weights(self, about: BlockFacts) -> Tensor:
        """The weights [n] of the rows."""
        return weights_of(self.weights, about)

    @abstractmethod
    def coefficients(self, about: BlockFacts) -> Tensor:
        """What each row is multiplied with, [n]."""

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        return Merged(weighted_sum(prepared, self.coefficients(about)))

    def merge_weights(self, rows: Rows, base: Tensor, about: BlockFacts | None = None) -> Tensor:
        """As all, but for rounding: a weighted sum of models needs no task vectors."""
        facts = about or BlockFacts()
        facts = replace(facts, members=facts.members or tuple(range(len(rows))))
        weights = [float(weight) for weight in self.coefficients(facts)]
        of_base, merged = 1 - sum(weights), torch.empty_like(base)
        for span in spans(len(base)):
            total = torch.mul(rows[0][span], weights[0], out=merged[span])
            for row, weight in zip(rows[1:], weights[1:], strict=True):
                total.add_(row[span], alpha=weight)
            if abs(of_base) > 1e-6:  # not a mean
                total.add_(base[span], alpha=of_base)
        return merged


def check_weights(weights: tuple[float, ...], models: int, signed: bool = False) -> None:
    """Refuse weights that are not one a model.

    Args:
        signed: whether a weight may be below 0, and all of them 0.

    Raises:
        ConfigError: there are others, or they sum to nothing.
    """
    if weights and len(weights) != models:
        problem = f"are {len(weights)} weights, and there are {models} models"
        raise ConfigError("weights", list(weights), problem, "one a model, in their order")
    if not weights or signed:
        return
    if min(weights) < 0:
        raise ConfigError("weights", list(weights), "hold one below 0", "0 or more")
    if not sum(weights):
        raise ConfigError("weights", list(weights), "are all 0", "at least one above 0")


def spans(size: int) -> Iterator[slice]:
    """A vector's numbers, some at a time: they fit the cache, and nothing as long is made."""
    for start in range(0, size, _COLUMNS):
        yield slice(start, min(start + _COLUMNS, size))


def weights_of(weights: tuple[float, ...], about: BlockFacts) -> Tensor:
    """The weights float32 [n] of a block's rows; 1 each where none were set."""
    if not weights:
        return torch.ones(len(about.members))
    return torch.tensor([weights[member] for member in about.members])


def weighted_sum(rows: Rows, weights: Tensor) -> Tensor:
    """The sum [d] of n rows [d], added one after another: the same bits wherever they lie."""
    total = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total.add_(row, alpha=float(weight))
    return total
