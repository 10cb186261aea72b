"""What is known of an ensemble's members, and the form in which their scores reach a rule."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.ensemble.combine import Combiner

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Panel:
    """M models that score the same C outputs.

    A rule gets rows [m, M * C], each example's scores member by member; where it also looks at
    the input, that rides along behind them, flat: [m, M * C + F].

    Attributes:
        members: M.
        outputs: C, the numbers that each member gives; 1 where one score tells two classes apart.
        counts: [M, classes] training examples of each class of each member, or None.
        shape: of one input.
    """

    members: int
    outputs: int
    counts: Tensor | None = field(default=None, compare=False)
    shape: tuple[int, ...] = ()

    @property
    def binary(self) -> bool:
        """Whether one score tells two classes apart."""
        return self.outputs == 1

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return 2 if self.binary else self.outputs

    @property
    def width(self) -> int:
        """M * C."""
        return self.members * self.outputs

    def scores(self, rows: Tensor) -> Tensor:
        """The members' scores in rows [..., M * C (+ F)]: [..., M, C]."""
        return rows[..., : self.width].unflatten(-1, (self.members, self.outputs))

    def inputs(self, rows: Tensor) -> Tensor:
        """The inputs that ride along in rows [..., M * C + F]: [..., *shape]."""
        return rows[..., self.width :].unflatten(-1, self.shape)

    def without(self, member: int) -> Panel:
        """The others."""
        keep = [i for i in range(self.members) if i != member]
        counts = None if self.counts is None else self.counts[keep]
        return replace(self, members=len(keep), counts=counts)


def rows_of(logits: Tensor, inputs: Tensor | None = None) -> Tensor:
    """What a rule gets of logits [M, m, C], and of inputs [m, ...] if it looks: see Panel."""
    rows = logits.transpose(0, 1).flatten(1)
    return rows if inputs is None else torch.cat([rows, inputs.flatten(1).to(rows)], dim=1)


def as_combiner(rule: nn.Module) -> Combiner:
    """A rule over rows as an :class:`Combiner` of logits [M, m, C], in evaluation mode."""

    def combine(logits: Tensor) -> Tensor:
        rule.eval()
        with torch.no_grad():
            return rule(rows_of(logits))

    return combine
