"""What cannot be compiled, named with its layer and the way out."""

from __future__ import annotations

from typing import Any

from hansa.base.errors import ConfigError

WAYS_OUT: dict[str, tuple[str, str]] = {
    "GroupNorm": (
        "divides by the deviation of what it sees of each input, across channels",
        "BatchNorm2d, which is folded into the layer before it; hansa's resnet20_bn has it",
    ),
    "LayerNorm": (
        "divides by the deviation of each input",
        "BatchNorm, which is folded into the layer before it",
    ),
    "InstanceNorm2d": (
        "divides by the deviation of each input",
        "BatchNorm2d, which is folded into the layer before it",
    ),
    "LocalResponseNorm": ("divides by what it sees in other channels", "BatchNorm2d"),
    "RMSNorm": ("divides by the size of each input", "BatchNorm, folded into the layer before it"),
    "MultiheadAttention": (
        "multiplies inputs with each other, which no server can do without their keys",
        "a convolutional network or a perceptron",
    ),
    "LSTM": ("multiplies inputs with each other", "a convolutional network or a perceptron"),
    "GRU": ("multiplies inputs with each other", "a convolutional network or a perceptron"),
    "RNN": ("runs a round for each position", "a convolutional network or a perceptron"),
    "Embedding": ("looks up numbers by an id", "give the network the numbers that it looks up"),
    "PReLU": ("has a slope of its own for each channel", "PReLU(1), LeakyReLU or ReLU"),
    "ConvTranspose2d": ("spreads its input", "Upsample is none either: a network that shrinks"),
    "Conv3d": ("reads volumes", "Conv2d"),
    "Upsample": ("copies pixels", "a network without it"),
    "Softmax": (
        "sees all numbers at once, and is not the last layer",
        "leave it out within the network",
    ),
}
"""By the name of a module's class: what is wrong with it, and what to use instead."""


def refused(layer: str, kind: Any, problem: str, fix: str) -> ConfigError:
    """The error that names a layer of the network."""
    return ConfigError(f"network.{layer}" if layer else "network", kind, problem, fix)


def no_layer(layer: str, kind: str, shown: str) -> ConfigError:
    """The error of a module that is of no kind that can be compiled."""
    for name, (problem, fix) in WAYS_OUT.items():
        if kind == name or kind.startswith(f"Lazy{name}"):
            return refused(layer, shown, problem, fix)
    problem = "is no layer that can be compiled"
    fix = (
        "layers of convolution, linear, batch normalization, pooling, flatten and functions of one "
        "number, or a module whose forward is made of them"
    )
    return refused(layer, shown, problem, fix)
