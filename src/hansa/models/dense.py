"""Models that see an input as a plain list of numbers."""

from __future__ import annotations

from math import prod
from typing import Annotated

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model, chain


@register("logistic")
class Logistic(Model):
    """Multinomial logistic regression, or linear regression: one affine layer."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Flatten, then one linear layer."""
        self.takes(spec, "image", "table")
        return chain(flat=nn.Flatten(), out=nn.Linear(prod(spec.shape), spec.outputs))


@register("mlp")
class MLP(Model):
    """A multilayer perceptron with ReLU."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64,), description="widths of the hidden layers"
    )

    def build(self, spec: DataSpec) -> nn.Module:
        """Flatten, then linear layers with ReLU between them."""
        self.takes(spec, "image", "table")
        layers: dict[str, nn.Module] = {"flat": nn.Flatten()}
        width = prod(spec.shape)
        for k, next_width in enumerate(self.hidden, start=1):
            layers[f"fc{k}"] = nn.Linear(width, next_width)
            layers[f"relu{k}"] = nn.ReLU()
            width = next_width
        return chain(**layers, out=nn.Linear(width, spec.outputs))
