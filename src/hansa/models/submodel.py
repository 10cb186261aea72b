"""Narrow models within a model: which numbers of its row a part of every layer's width holds.

A sub-model of width w keeps the first ceil(w n) of the n units or channels of every hidden layer,
all inputs of the first layer and all outputs of the last, as in HeteroFL (Diao et al., ICLR 2021).
With the other numbers of the row at 0, the whole network computes what the narrow one would:
an absent unit is 0 after its layer, whatever follows keeps it at 0, and nobody hears it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import nn
from hansa.models.layout import ParameterLayout


def held_numbers(module: nn.Module, layout: ParameterLayout, width: float) -> np.ndarray:
    """The numbers of a row that the sub-model of a width holds, int64, ascending.

    Raises:
        ConfigError: the model is no plain chain of layers, or one of them mixes channels so that
            its sub-model would not be a part of it; the problem names the layer.
    """
    if width == 1:
        return np.arange(layout.size)
    entries = {entry.name: entry for entry in layout.entries}
    held = np.zeros(layout.size, dtype=bool)
    placed: set[str] = set()

    def keep(name: str, layer: nn.Module, part: str, mask: np.ndarray) -> None:
        """Hold part of a layer's tensor, whose first axes are those of ``mask``."""
        if getattr(layer, part) is None:
            return
        entry = entries.get(f"{name}.{part}" if name else part)
        if entry is None:  # it is in the row under another layer's name
            raise _refused(name, "shares its numbers with another layer")
        placed.add(entry.name)
        each = entry.size // mask.size
        held[entry.offset : entry.offset + entry.size] = np.repeat(mask.ravel(), each)

    layers = list(_chain("", module))
    last = max((k for k, (_, x) in enumerate(layers) if _weighs(x)), default=-1)
    live: np.ndarray | None = None  # which units or channels are there; None: what comes in
    flat = True
    for k, (name, layer) in enumerate(layers):
        if isinstance(layer, nn.Linear | nn.Conv2d) and _weighs(layer):
            inputs, outputs = layer.weight.shape[:2][::-1]
            image = isinstance(layer, nn.Conv2d)
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                raise _refused(name, "convolves groups of channels")
            if not image and not flat:
                raise _refused(name, "takes channels that are not flattened")
            came = _live(live, inputs, name)
            stays = math.ceil(width * outputs - 1e-9)
            live = np.arange(outputs) < (outputs if k == last else stays)
            keep(name, layer, "weight", live[:, None] & came)
            keep(name, layer, "bias", live)
            flat = not image
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            live = _live(live, layer.num_features, name)
            for part in ("weight", "bias", "running_mean", "running_var"):
                keep(name, layer, part, live)
        elif isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels:
            live = _live(live, layer.num_channels, name)
            for part in ("weight", "bias"):
                keep(name, layer, part, live)
        elif type(layer) is nn.Flatten:
            if (layer.start_dim, layer.end_dim) != (1, -1):
                raise _refused(name, "flattens other axes than those of an example")
            flat = True
        elif type(layer) not in _keep_zero() and (k < last or list(layer.parameters())):
            raise _refused(name, "may mix channels, or make something of those that are absent")
    for entry in layout.entries:
        if entry.name not in placed:
            raise _refused(entry.name, "is of no layer whose widths are known")
    return np.flatnonzero(held)


def _chain(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a chain in order, those of chains within it too."""
    if type(module) is not nn.Sequential:
        yield name, module
        return
    for child, layer in module._modules.items():
        assert layer is not None
        yield from _chain(f"{name}.{child}" if name else child, layer)


def _live(live: np.ndarray | None, inputs: int, layer: str) -> np.ndarray:
    """Which of a layer's inputs are there, given the channels before it: flattened or as such."""
    if live is None:
        return np.ones(inputs, dtype=bool)
    if inputs % len(live):
        raise _refused(layer, f"its {inputs} inputs are not those {len(live)} channels before it")
    return np.repeat(live, inputs // len(live))


def _refused(layer: str, problem: str) -> ConfigError:
    return ConfigError(
        "model",
        layer or "the model",
        f"cannot be cut to a width: {problem}",
        "a chain of linear, convolution, batch normalization, pooling and activation layers, "
        "such as mlp, femnist_cnn or celeba_cnn",
    )


def _weighs(layer: nn.Module) -> bool:
    """Whether a layer's weights join channels, and nothing is known of it beyond that."""
    return type(layer) in (nn.Linear, nn.Conv2d)


@cache
def _keep_zero() -> tuple[type[nn.Module], ...]:
    """Layers without parameters that treat channels alike and alone, and map 0 to 0."""
    return (
        nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
        nn.Mish, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Softsign, nn.Dropout, nn.Dropout2d,
        nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    )  # fmt: skip
