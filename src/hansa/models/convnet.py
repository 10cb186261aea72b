"""The network on which dataset condensation is studied (Gidaris and Komodakis 2018)."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model, chain


@register(
    "convnet", paper="Gidaris and Komodakis", year=2018, url="https://arxiv.org/abs/1804.09458"
)
class ConvNet(Model):
    """Blocks of convolution, instance normalization, ReLU and average pooling, one linear layer.

    As in Dataset Condensation (Zhao et al., ICLR 2021): 320,010 parameters on CIFAR-10 and
    317,706 on MNIST, whose 28 pixels the first convolution pads to 32.
    """

    depth: int = Field(3, ge=1, description="blocks; each halves the sides of the image")
    width: int = Field(128, ge=1, description="channels of each block")

    def build(self, spec: DataSpec) -> nn.Module:
        """The blocks, then one linear layer on what is left."""
        self.takes(spec, "image")
        channels, height, width = spec.shape
        first = 3 if (height, width) == (28, 28) else 1
        height, width = height + 2 * (first - 1), width + 2 * (first - 1)
        if min(height, width) < 2**self.depth:
            raise ConfigError(
                "depth",
                self.depth,
                f"halves images of {spec.shape[1]} x {spec.shape[2]} pixels too often",
                "fewer blocks",
            )
        layers: dict[str, nn.Module] = {}
        for k in range(1, self.depth + 1):
            inputs, padding = (channels, first) if k == 1 else (self.width, 1)
            layers[f"conv{k}"] = nn.Conv2d(inputs, self.width, 3, padding=padding)
            # Instance normalization with scales, without running statistics.
            layers[f"norm{k}"] = nn.GroupNorm(self.width, self.width)
            layers[f"relu{k}"] = nn.ReLU()
            layers[f"pool{k}"] = nn.AvgPool2d(2)
            height, width = height // 2, width // 2
        out = nn.Linear(self.width * height * width, spec.outputs)
        return chain(**layers, flat=nn.Flatten(), out=out)
