"""The small convolutional networks of the decentralized and federated learning literature.

Where nothing else is said, layers and their order follow DecentralizePy (Dhasade et al., 2023);
the parameter counts are those of its data sets.
"""

from __future__ import annotations

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model, chain


@register("gn_lenet", paper="Hsieh et al.", year=2020, url="https://arxiv.org/abs/1910.00189")
class GNLeNet(Model):
    """LeNet with group normalization (Hsieh et al., 2020).

    89,834 parameters on CIFAR-10 (3 x 32 x 32, 10 classes).
    """

    def build(self, spec: DataSpec) -> nn.Module:
        """Three times convolution, normalization, ReLU and pooling, then one linear layer."""
        channels, height, width = self.image(spec, halvings=3)
        layers: dict[str, nn.Module] = {}
        for k, (inputs, outputs) in enumerate(((channels, 32), (32, 32), (32, 64)), start=1):
            layers[f"conv{k}"] = nn.Conv2d(inputs, outputs, 5, padding=2)
            layers[f"norm{k}"] = nn.GroupNorm(2, outputs)
            layers[f"relu{k}"] = nn.ReLU()
            layers[f"pool{k}"] = nn.MaxPool2d(2)
        out = nn.Linear(64 * height * width, spec.outputs)
        return chain(**layers, flat=nn.Flatten(), out=out)


@register(
    "gn_lenet_cpfl", paper="Dhasade et al.", year=2024, url="https://arxiv.org/abs/2405.15644"
)
class CpflGNLeNet(Model):
    """The GN-LeNet of CPFL's code: overlapping pooling, first before the normalization.

    85,354 parameters on CIFAR-10. Its code ends in a log-softmax, which the loss here already has.
    """

    def build(self, spec: DataSpec) -> nn.Module:
        """As GN-LeNet, with 3 x 3 pooling of stride 2."""
        self.image(spec, halvings=0)
        channels, height, width = spec.shape
        for _ in range(3):
            height, width = (height - 1) // 2, (width - 1) // 2
        if min(height, width) < 1:
            sides = f"{spec.shape[1]} x {spec.shape[2]}"
            problem = f"pools images three times and cannot take {sides} pixels"
            fix = "images of 15 x 15 or more, or model: mlp"
            raise ConfigError("", type(self).name, problem, fix)
        layers: dict[str, nn.Module] = {}
        for k, (inputs, outputs) in enumerate(((channels, 32), (32, 32), (32, 64)), start=1):
            layers[f"conv{k}"] = nn.Conv2d(inputs, outputs, 5, padding=2)
            pool, norm = nn.MaxPool2d(3, 2), nn.GroupNorm(2, outputs)
            pair = {f"pool{k}": pool, f"norm{k}": norm}
            layers |= pair if k == 1 else dict(reversed(pair.items()))
            layers[f"relu{k}"] = nn.ReLU()
        out = nn.Linear(64 * height * width, spec.outputs)
        return chain(**layers, flat=nn.Flatten(), out=out)


@register("femnist_cnn", paper="Caldas et al.", year=2018, url="https://arxiv.org/abs/1812.01097")
class FemnistCNN(Model):
    """The convolutional network of LEAF for handwritten characters (Caldas et al., 2018).

    1,690,046 parameters on FEMNIST (1 x 28 x 28, 62 classes).
    """

    def build(self, spec: DataSpec) -> nn.Module:
        """Twice convolution, ReLU and pooling, then two linear layers."""
        channels, height, width = self.image(spec, halvings=2)
        return chain(
            conv1=nn.Conv2d(channels, 32, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            fc=nn.Linear(64 * height * width, 512),
            relu3=nn.ReLU(),
            out=nn.Linear(512, spec.outputs),
        )


@register("celeba_cnn", paper="Caldas et al.", year=2018, url="https://arxiv.org/abs/1812.01097")
class CelebaCNN(Model):
    """The convolutional network of LEAF for faces, without normalization (Caldas et al., 2018).

    30,242 parameters on CelebA (3 x 84 x 84, 2 classes).
    """

    def build(self, spec: DataSpec) -> nn.Module:
        """Four times convolution, pooling and ReLU, then one linear layer."""
        channels, height, width = self.image(spec, halvings=4)
        layers: dict[str, nn.Module] = {}
        for k in range(1, 5):
            layers[f"conv{k}"] = nn.Conv2d(channels if k == 1 else 32, 32, 3, padding=1)
            layers[f"pool{k}"] = nn.MaxPool2d(2)
            layers[f"relu{k}"] = nn.ReLU()
        out = nn.Linear(32 * height * width, spec.outputs)
        return chain(**layers, flat=nn.Flatten(), out=out)


@register("pfl_cnn", paper="Granqvist et al.", year=2024, url="https://arxiv.org/abs/2404.06430")
class PflCNN(Model):
    """The convolutional network of pfl-research's CIFAR-10 work (Granqvist et al., 2024).

    1,626,442 parameters on CIFAR-10 (3 x 32 x 32, 10 classes).
    """

    stackable = False  # its dropout draws random numbers

    def build(self, spec: DataSpec) -> nn.Module:
        """Two convolutions without padding, one pooling, two linear layers, dropout between."""
        channels, height, width = self.image(spec, halvings=0)
        if min(height, width) < 6:
            raise ConfigError(
                "",
                "pfl_cnn",
                f"trims 4 pixels, halves the rest and cannot take {height} x {width} pixels",
                "images of 6 x 6 or more, or model: mlp",
            )
        left = ((height - 4) // 2) * ((width - 4) // 2)
        network = chain(
            conv1=nn.Conv2d(channels, 32, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            drop1=nn.Dropout(0.25),
            flat=nn.Flatten(),
            fc=nn.Linear(64 * left, 128),
            relu3=nn.ReLU(),
            drop2=nn.Dropout(0.5),
            out=nn.Linear(128, spec.outputs),
        )
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        return network
