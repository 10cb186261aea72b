"""A model as one flat row of numbers."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """One tensor's place in a row: numbers ``offset`` to ``offset + size``."""

    name: str
    shape: tuple[int, ...]
    offset: int
    trainable: bool
    buffer: bool = False

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class IntegerBuffer:
    """A counter or a mask: part of a model's state, never of its row, so never averaged."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class FrozenTensor:
    """A parameter that nobody trains: the same at all nodes, so it is held once and never sent."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ParameterLayout:
    """Where what differs between nodes of a module's float32 state lies in one flat row of D.

    First the P numbers of the trainable parameters in the order of their declaration, then those
    of float buffers. A parameter that several submodules share appears once, under its first
    name. Buffers that the state dict leaves out (``persistent=False``) are not part of the row.

    Frozen parameters (``requires_grad=False``) are not in it either. They stay in the module, of
    any float type, and its copies share them (:func:`shared_copy`). A module may name some that
    its rows hold all the same, after what is trained: ``in_rows``, names of its own parameters.

    Attributes:
        entries: the tensors of the row, in order.
        integer_buffers: integer and boolean buffers, which are not in the row.
        frozen: the parameters that are not in the row.
    """

    entries: tuple[Entry, ...]
    integer_buffers: tuple[IntegerBuffer, ...] = ()
    frozen: tuple[FrozenTensor, ...] = ()

    @classmethod
    def of(cls, module: nn.Module) -> ParameterLayout:
        """The layout of a module.

        Raises:
            ConfigError: a parameter that is trained or a float buffer is not float32, or a
                parameter has no shape yet.
        """
        parameters = list(module.named_parameters())
        for name, parameter in parameters:
            if nn.parameter.is_lazy(parameter):
                raise ConfigError(
                    "model", name, "has no shape yet", "run the module once before it is used"
                )
        saved = set(module.state_dict())
        buffers = [(name, b) for name, b in module.named_buffers() if name in saved]
        floating = [(name, b) for name, b in buffers if b.is_floating_point() or b.is_complex()]
        held = frozenset(getattr(module, "in_rows", ()))
        trained = [(name, p) for name, p in parameters if p.requires_grad]
        still = [(name, p) for name, p in parameters if not p.requires_grad]
        kept = [(name, p) for name, p in still if name in held]
        frozen = tuple(FrozenTensor(name, tuple(p.shape)) for name, p in still if name not in held)
        entries: list[Entry] = []
        offset = 0
        for name, tensor in [*trained, *kept, *floating]:
            if tensor.dtype != torch.float32:
                raise ConfigError(
                    "model",
                    name,
                    f"is {tensor.dtype}; rows hold float32 only",
                    "call .float() on the module",
                )
            trainable = len(entries) < len(trained)
            buffer = len(entries) >= len(trained) + len(kept)
            entries.append(Entry(name, tuple(tensor.shape), offset, trainable, buffer))
            offset += tensor.numel()
        integers = tuple(
            IntegerBuffer(name, tuple(b.shape), b.dtype)
            for name, b in buffers
            if not (b.is_floating_point() or b.is_complex())
        )
        return cls(tuple(entries), integers, frozen)

    @cached_property
    def size(self) -> int:
        """D: how many numbers a row holds."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def trainable(self) -> int:
        """P: how many numbers at a row's start are trained."""
        return sum(entry.size for entry in self.entries if entry.trainable)

    @cached_property
    def passed(self) -> int:
        """How many parameters, trained and frozen, an example goes through: its compute."""
        return self.trainable + self.frozen_numbers

    @cached_property
    def frozen_numbers(self) -> int:
        """How many numbers are frozen and not in the row."""
        return sum(prod(tensor.shape) for tensor in self.frozen)

    @cached_property
    def statistics(self) -> int:
        """How many numbers at a row's end are buffers: no gradient moves them, batches do."""
        return sum(entry.size for entry in self.entries if entry.buffer)

    @cached_property
    def variances(self) -> tuple[Entry, ...]:
        """The running variances of normalization layers, which are never below zero."""
        last = (e for e in self.entries if e.name.rpartition(".")[2] == "running_var")
        return tuple(entry for entry in last if entry.buffer)

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return 4 * self.size

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the row's tensors, in order."""
        return tuple(entry.name for entry in self.entries)

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """Row(s) [..., D] -> name to view [..., *shape] on the same memory."""
        self._fits(row, self.size)
        lead = row.shape[:-1]
        return {e.name: row.narrow(-1, e.offset, e.size).view(lead + e.shape) for e in self.entries}

    def flatten(self, module: nn.Module) -> Tensor:
        """A new row [D] with the module's present state."""
        tensors = self.tensors(module)
        if not tensors:
            return torch.empty(0)
        with torch.no_grad():
            return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    def load_(self, module: nn.Module, row: Tensor) -> None:
        """Copy a row [D] into the module's own tensors."""
        views = self.views(row).values()
        with torch.no_grad():
            for tensor, view in zip(self.tensors(module), views, strict=True):
                tensor.copy_(view)

    def bind(self, module: nn.Module, row: Tensor) -> None:
        """Make the module's tensors views of a row [D]: what one changes, the other sees."""
        self.bind_tensors(self.tensors(module), row)

    def bind_tensors(self, tensors: list[Tensor], row: Tensor) -> None:
        """:meth:`bind` for tensors that :meth:`tensors` found before, without the search."""
        for tensor, view in zip(tensors, self.views(row.detach()).values(), strict=True):
            tensor.data = view

    def bind_grads(self, module: nn.Module, flat: Tensor) -> None:
        """Make the gradients of the trainable parameters views of ``flat`` [P]."""
        self._fits(flat, self.trainable)
        trained = [entry for entry in self.entries if entry.trainable]
        for entry, parameter in zip(trained, self.tensors(module), strict=False):
            parameter.grad = flat.narrow(0, entry.offset, entry.size).view(entry.shape)

    def tensors(self, module: nn.Module) -> list[Tensor]:
        """The module's own tensors in the row's order."""
        named: dict[str, Tensor] = dict(module.named_parameters())
        named.update(module.named_buffers())
        return [named[entry.name] for entry in self.entries]

    @staticmethod
    def _fits(row: Tensor, size: int) -> None:
        if row.dtype != torch.float32 or row.ndim == 0 or row.shape[-1] != size:
            shape = list(row.shape)
            raise ValueError(f"a row is float32 [..., {size}], not {row.dtype} {shape}")


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters by name that no row holds, as :class:`ParameterLayout` tells them."""
    held = frozenset(getattr(module, "in_rows", ()))
    named = module.named_parameters()
    return {n: p for n, p in named if not p.requires_grad and n not in held}


def shared_copy(module: nn.Module) -> nn.Module:
    """A deep copy that has its own of all but the frozen parameters, which are the module's."""
    return copy.deepcopy(module, {id(p): p for p in frozen_tensors(module).values()})


def frozen_digest(module: nn.Module) -> str:
    """SHA-256 of the frozen parameters with their names; empty where there are none."""
    frozen = frozen_tensors(module)
    digest = hashlib.sha256()
    for name, tensor in frozen.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest() if frozen else ""
