"""The kind of component that builds a network for a data set."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.models.draws import drawing


class Model(Component, kind="model"):
    """A network's form; its numbers are made by :func:`initial_model`.

    What it builds maps a batch [B, \\*spec.shape] to [B, spec.outputs]: scores before the softmax
    for classification, values for regression.
    """

    stackable: ClassVar[bool] = True
    """Whether the networks of many nodes can run as one, under ``torch.func.vmap``."""
    pretrained: ClassVar[bool] = False
    """Whether frozen numbers come from files that are there wherever it is built: then they are
    not sent along."""

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """A fresh network, its numbers drawn from torch's global generator.

        Raises:
            ConfigError: the model does not fit the data; its field is relative to the model,
                and empty where the choice of the model itself is at fault.
        """

    def check(self) -> None:
        """Refuse settings that cannot work whatever the data are, without importing torch.

        Raises:
            ConfigError: the field is relative to the model.
        """

    def tokenized_as(self) -> str | None:
        """The tokenizer whose ids it takes, as a folder or a name; None: it has none of its own."""
        return None

    @property
    def own_folder(self) -> bool:
        """Whether :meth:`write_folder` knows a form of its own for such networks."""
        return type(self).write_folder is not Model.write_folder

    def write_folder(self, network: nn.Module, place: Path, merged: bool = False) -> None:
        """Write a trained network of this form as a folder, as its own library does.

        Args:
            place: the folder, which is not there yet.
            merged: adapters are added to what they adapt.

        Raises:
            ConfigError: there is no such form for it.
        """
        problem = "a model of this kind is written as a file of tensors"
        raise ConfigError("out", str(place), problem, "a name such as model.safetensors")

    def takes(self, spec: DataSpec, *kinds: str) -> None:
        """Refuse data of any other kind.

        Raises:
            ConfigError: names the models that take such data.
        """
        if spec.kind not in kinds:
            raise ConfigError(
                "",
                type(self).name,
                f"takes data of kind {' or '.join(kinds)}, not {spec.kind}",
                f"model: {SUITED[spec.kind]}",
            )

    def image(self, spec: DataSpec, halvings: int) -> tuple[int, int, int]:
        """(channels, height, width) left of an image whose sides are halved some times.

        Raises:
            ConfigError: the data are no images, or too small ones.
        """
        self.takes(spec, "image")
        channels, height, width = spec.shape
        least = 2**halvings
        if min(height, width) < least:
            raise ConfigError(
                "",
                type(self).name,
                f"halves images {halvings} times and cannot take {height} x {width} pixels",
                f"images of {least} x {least} or more, or model: mlp",
            )
        return channels, height // least, width // least


SUITED = {
    "image": "gn_lenet, resnet20_gn, mlp or logistic",
    "table": "mlp or logistic",
    "tokens": "lstm or transformers",
    "pairs": "matrix_factorization",
}
"""Models to name to someone whose model does not take their kind of data."""


def initial_model(model: Model, spec: DataSpec, streams: Streams) -> nn.Module:
    """The network on the CPU that all nodes of a run start from.

    It depends on the settings and the run's seed alone, and leaves generators as they were.
    """
    with drawing(streams.integer("model")), torch.device("cpu"):
        return built(model, spec)


def built(model: Model, spec: DataSpec) -> nn.Module:
    """The network of a form, which answers in the unit of the data's targets."""
    network = model.build(spec)
    if not spec.amounts:
        return network
    from hansa.models.amount_networks import AmountNetwork

    return AmountNetwork(network, *spec.amounts)


def chain(**layers: nn.Module) -> nn.Sequential:
    """Named layers, one after the other."""
    return nn.Sequential(OrderedDict(layers))
