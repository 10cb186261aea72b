"""Residual networks for small images, most with group normalization in place of batch's.

He et al. (2016), section 4.2: three stages of 16, 32 and 64 channels, shortcuts without
parameters (every second pixel, new channels zero). Batch statistics do not average well over nodes
with different data (Hsieh et al., 2020). Two networks have them: FENS's, whose models are never
averaged, and ``resnet20_bn``, since what private inference compiles has fixed statistics.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model, chain

networks = Lazy("hansa.models.networks")  # they need torch


class ResNet(Model):
    """A residual network of 6 * blocks + 2 layers."""

    blocks: ClassVar[int]

    @abstractmethod
    def norm(self, channels: int) -> nn.Module:
        """The normalization of so many channels."""

    def build(self, spec: DataSpec) -> nn.Module:
        """A convolution, three stages of blocks, the mean over pixels, one linear layer."""
        channels, _, _ = self.image(spec, halvings=2)
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            "norm": self.norm(16),
            "relu": nn.ReLU(),
        }
        width = 16
        for stage, next_width in enumerate((16, 32, 64), start=1):
            for block in range(1, self.blocks + 1):
                form = networks.ResidualBlock(width, next_width, self.norm)
                layers[f"block{stage}_{block}"] = form
                width = next_width
        network = chain(
            **layers,
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            out=nn.Linear(64, spec.outputs),
        )
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network


class GroupNormalized(ResNet):
    """With group normalization, which keeps no statistics."""

    groups: int = Field(2, ge=1, description="groups of channels normalized together")

    def norm(self, channels: int) -> nn.Module:
        return nn.GroupNorm(self.groups, channels)

    def build(self, spec: DataSpec) -> nn.Module:
        if 16 % self.groups:
            raise ConfigError(
                "groups", self.groups, "does not divide 16 channels", "groups: 1, 2, 4, 8 or 16"
            )
        return super().build(spec)


@register("resnet8_gn", paper="He et al.", year=2016, url="https://arxiv.org/abs/1512.03385")
class ResNet8(GroupNormalized):
    """ResNet-8 with group normalization; 75,290 parameters on CIFAR-10."""

    blocks = 1


@register("resnet20_gn", paper="He et al.", year=2016, url="https://arxiv.org/abs/1512.03385")
class ResNet20(GroupNormalized):
    """ResNet-20 with group normalization; 269,722 parameters on CIFAR-10."""

    blocks = 3


@register("resnet20_bn", paper="He et al.", year=2016, url="https://arxiv.org/abs/1512.03385")
class ResNet20BN(ResNet):
    """ResNet-20 as published, with batch normalization; 269,722 parameters on CIFAR-10.

    Its statistics travel with the model and are averaged with it. For private inference, which
    compiles no group normalization.
    """

    blocks = 3
    stackable = False  # its normalization counts batches in place

    def norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels)


@register("resnet8_bn", paper="He et al.", year=2016, url="https://arxiv.org/abs/1512.03385")
class ResNet8BN(Model):
    """The wide ResNet-8 with batch normalization of FedKD and FENS.

    Gong et al. (AAAI 2022), Allouah et al. (NeurIPS 2024): 128, 256 and 512 channels, shortcuts
    of 1 x 1 convolutions where the shape changes; 4,911,754 parameters on CIFAR-10, 5,096,164
    on CIFAR-100.
    """

    stackable = False  # its normalization counts batches in place

    def build(self, spec: DataSpec) -> nn.Module:
        """A convolution, three blocks, 4 x 4 mean pooling, one linear layer."""
        channels, height, width = self.image(spec, halvings=4)
        return chain(
            conv=nn.Conv2d(channels, 128, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(128),
            relu=nn.ReLU(),
            block1=networks.WideBlock(128, 128, 1),
            block2=networks.WideBlock(128, 256, 2),
            block3=networks.WideBlock(256, 512, 2),
            pool=nn.AvgPool2d(4),
            flat=nn.Flatten(),
            out=nn.Linear(512 * height * width, spec.outputs),
        )
