"""A small vision transformer, its tensors named as published checkpoints name them.

Dosovitskiy et al. (2021), pre-norm as ``transformers.ViTModel``: with the same numbers it gives the
same features, so that what is known of one by its tensors' names holds for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.base.spec import DataSpec
from hansa.models.model import Model

if TYPE_CHECKING:
    from torch import nn

transformer_networks = Lazy("hansa.models.transformer_networks")  # they need torch


@register("vit", paper="Dosovitskiy et al.", year=2021, url="https://arxiv.org/abs/2010.11929")
class ViT(Model):
    """A vision transformer; by default one for 8 x 8 pixels with 26,432 parameters and a head."""

    hidden: int = Field(32, ge=1, description="numbers of a token")
    layers: int = Field(3, ge=1, description="how many blocks of attention and perceptron")
    heads: int = Field(4, ge=1, description="heads of attention; they divide hidden")
    mlp: int = Field(64, ge=1, description="width of the perceptron in a block")
    patch: int = Field(4, ge=1, description="pixels of a patch's side; it divides the image's")

    def build(self, spec: DataSpec) -> nn.Module:
        """Patches and a class token, blocks, a norm, and one linear layer on the class token.

        Raises:
            ConfigError: the data are no images, or the sizes do not divide.
        """
        channels, height, width = self.image(spec, halvings=0)
        if height % self.patch or width % self.patch:
            problem = f"does not divide images of {height} x {width} pixels"
            raise ConfigError("patch", self.patch, problem, "a divisor of both sides")
        if self.hidden % self.heads:
            problem = f"does not divide {self.hidden} hidden numbers"
            raise ConfigError("heads", self.heads, problem, "a divisor of hidden")
        patches = (height // self.patch) * (width // self.patch)
        return transformer_networks.VisionTransformer(
            (channels, self.patch, patches),
            self.hidden,
            self.layers,
            self.heads,
            self.mlp,
            spec.outputs,
        )
