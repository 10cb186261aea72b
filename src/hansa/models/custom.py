"""Any network by its import path."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch
from hansa.base.modules import load_object
from hansa.base.own_code import place_of, said
from hansa.base.paths import Arguments, ObjectPath
from hansa.base.spec import DataSpec
from hansa.models.model import Model


@register("module")
class Module(Model):
    """Any ``torch.nn.Module``, by import path."""

    stackable = False  # not known beforehand
    path: ObjectPath = Field(
        description="package.module:Class or file.py:function, called to build it"
    )
    arguments: Arguments = Field({}, description="its keyword arguments")

    def build(self, spec: DataSpec) -> nn.Module:
        """The network, tried on one batch of zeros."""
        try:
            maker = load_object(self.path)
        except ConfigError as error:
            raise ConfigError("path", self.path, error.problem, error.fix) from None
        if not callable(maker):
            made = type(maker).__name__
            raise ConfigError("path", self.path, f"is a {made}", "name a class or a function")
        try:
            network = maker(**self.arguments)
        except Exception as error:
            place = place_of(error)
            if isinstance(error, TypeError) and place is None:
                raise ConfigError(
                    "arguments", self.arguments, f"do not fit: {error}", f"see {self.path}"
                ) from error
            problem = f"cannot be built: {f'{place}: ' if place else ''}{said(error)}"
            fix = "it has to build a torch.nn.Module from model.arguments"
            raise ConfigError("path", self.path, problem, fix) from error
        if not isinstance(network, nn.Module):
            made = type(network).__name__
            raise ConfigError("path", self.path, f"gives a {made}", "name a torch.nn.Module")
        self._try(network, spec)
        return network

    def _try(self, network: nn.Module, spec: DataSpec) -> None:
        """Refuse a network that does not map [2, *shape] to [2, outputs]."""
        dtype = torch.int64 if spec.kind in ("tokens", "pairs") else torch.float32
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            with torch.no_grad():
                outputs = network(torch.zeros(2, *spec.shape, dtype=dtype))
        except Exception as error:
            place = place_of(error)
            where = f"{place}: " if place else ""
            raise ConfigError(
                "path", self.path,
                f"fails on a batch [2, {_listed(spec.shape)}]: {where}{said(error)}",
                f"adapt it, or its arguments, to the data; one maps to [2, {spec.outputs}]",
            ) from error  # fmt: skip
        for module, mode in modes:
            module.training = mode
        shape = type(outputs).__name__
        if isinstance(outputs, torch.Tensor):
            shape = str(list(outputs.shape))
        if shape != str([2, spec.outputs]):
            raise ConfigError(
                "path", self.path,
                f"maps two examples, [2, {_listed(spec.shape)}], to {shape}, not to "
                f"[2, {spec.outputs}]",
                "adapt it, or its arguments, to the data",
            )  # fmt: skip


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
