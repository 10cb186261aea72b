"""What students learn from: the ensemble with its rule, and the form of inputs to make up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.combine.ensemble.aggregate import Fit
from hansa.data import Dataset
from hansa.ensemble import Ensemble, InputForm, Scale, rows_of
from hansa.ensemble.ensemble import on_scale

if TYPE_CHECKING:
    from torch import Tensor, nn


def input_form(dataset: Dataset) -> InputForm:
    """What a model of the data set takes: all that a server without data has to know."""
    shape = tuple(dataset.spec.shape)
    if dataset.spec.kind == "table":
        return InputForm(shape)
    stored = dataset.train.inputs
    low, high = float(stored.min()), float(stored.max())  # the format's range shows in its pixels
    scale = torch.ones(()) if dataset.scale is None else dataset.scale.cpu()
    shift = torch.zeros(()) if dataset.shift is None else dataset.shift.cpu()
    ends = [(end * scale + shift).expand(shape[0]) for end in (low, high)]
    return InputForm(shape, *ends)


class Kept:
    """The ensemble with its rule, as a teacher."""

    def __init__(self, modules: Sequence[nn.Module], kept: Fit) -> None:
        self.ensemble, self.kept = Ensemble(modules), kept

    def __call__(self, x: Tensor, scale: Scale, /) -> Tensor:
        """Scores [b, C]."""
        logits = self.ensemble.logits(x)
        rows = rows_of(logits, x if self.kept.rule.sees_input else None)
        return on_scale(self.kept.answers(rows), scale)
