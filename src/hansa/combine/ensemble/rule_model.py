"""A learned rule as a model, so that its job can be saved for workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from hansa.base.lazy import nn, torch
from hansa.base.spec import DataSpec
from hansa.ensemble import Panel, PerClass, Rule
from hansa.models import Model

if TYPE_CHECKING:
    from torch.nn import Module


class PanelModel(Model):
    """A model of the scores of a panel of members."""

    members: int
    outputs: int
    counts: tuple[tuple[int | float, ...], ...] | None = None
    shape: tuple[int, ...] = ()

    @staticmethod
    def settings_of(panel: Panel) -> dict[str, Any]:
        """What is to be said of a panel."""
        counts = None if panel.counts is None else panel.counts.tolist()
        return {
            "members": panel.members,
            "outputs": panel.outputs,
            "counts": None if counts is None else tuple(map(tuple, counts)),
            "shape": panel.shape,
        }

    @property
    def panel(self) -> Panel:
        """The members."""
        counts = None if self.counts is None else torch.tensor(self.counts)
        return Panel(self.members, self.outputs, counts, self.shape)


class RuleModel(PanelModel):
    """The module of a learned rule for a panel of members."""

    rule: Rule

    @classmethod
    def of(cls, rule: Rule, panel: Panel) -> Self:
        """For a panel, whose settings it takes."""
        return cls(rule=rule, **cls.settings_of(panel))

    def build(self, spec: DataSpec) -> Module:
        return self.rule.build(self.panel, None)  # rules that are learned count no votes


class Carrier(PanelModel):
    """A rule whose numbers stay the first, which carries numbers of rules besides, end to end."""

    numbers: int

    @classmethod
    def of(cls, panel: Panel, numbers: int = 1) -> Self:
        """For a panel, whose settings it takes, and so many numbers."""
        return cls(numbers=numbers, **cls.settings_of(panel))

    def build(self, spec: DataSpec) -> Module:
        module = PerClass().build(self.panel)
        module.register_parameter("numbers", nn.Parameter(torch.zeros(self.numbers)))
        return module
