"""A learned rule as a model, so that its job can be saved for workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.ensemble import Panel, Rule
from hansa.models import Model

if TYPE_CHECKING:
    from torch import nn


class RuleModel(Model):
    """The module of a learned rule for a panel of members."""

    rule: Rule
    members: int
    outputs: int
    counts: tuple[tuple[int | float, ...], ...] | None = None
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, rule: Rule, panel: Panel) -> Self:
        """For a panel, whose settings it takes."""
        counts = None if panel.counts is None else panel.counts.tolist()
        return cls(
            rule=rule,
            members=panel.members,
            outputs=panel.outputs,
            counts=None if counts is None else tuple(map(tuple, counts)),
            shape=panel.shape,
        )

    def build(self, spec: DataSpec) -> nn.Module:
        counts = None if self.counts is None else torch.tensor(self.counts)
        panel = Panel(self.members, self.outputs, counts, self.shape)
        return self.rule.build(panel, None)  # rules that are learned count no votes
