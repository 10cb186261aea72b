"""All adapters of a pool for one base in a few tensors, by name.

PEFT wraps every layer once for each adapter, so that 1,500 of them cannot be held. Here an adapter
is a few rows in two tensors a layer; one is added, removed or replaced without touching others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.route.factor_rows import FactorRows
from hansa.route.mixture_cost import MixtureCosts

if TYPE_CHECKING:
    from torch import Tensor, nn

Sizes = tuple[int, int]
"""(inputs, outputs) of a linear layer."""


class AdapterSlab:
    """LoRA adapters for one base.

    An index is never given twice: a mixture that names an adapter which is gone is refused, and
    does not meet the next one. A replaced adapter keeps its index, and its stamp changes.

    Args:
        linears: the base's linear layers that adapters may change.
        dtype: of the stored factors: ``float32`` or ``bfloat16``.
        base: a fingerprint of the base; adapters that state another are refused.

    Attributes:
        costs: by which the kernel of a batch is chosen.
    """

    def __init__(
        self, linears: Mapping[str, Sizes], dtype: str = "float32", base: str | None = None
    ) -> None:
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ConfigError("dtype", dtype, "is none that a slab holds", "float32 or bfloat16")
        self.linears = dict(linears)
        self.base = base
        self.costs = MixtureCosts()
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.layers = {
            name: FactorRows(inputs, outputs, self.dtype)
            for name, (inputs, outputs) in self.linears.items()
        }
        self._index: dict[str, int] = {}
        self._name: dict[int, str] = {}
        self._stamps: dict[int, int] = {}
        self._next = itertools.count()
        self._next_stamp = itertools.count()

    @classmethod
    def over(
        cls, module: nn.Module, dtype: str = "float32", base: str | None = None
    ) -> AdapterSlab:
        """A slab for all linear layers of a model."""
        return cls(linears_of(module), dtype, base)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all adapters, in the order in which they came."""
        return tuple(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes of the adapters' factors, without the room that is kept for more."""
        size = torch.empty((), dtype=self.dtype).element_size()
        return size * sum(
            layer.used * sum(self.linears[name]) for name, layer in self.layers.items()
        )

    def index(self, name: str) -> int:
        """What mixtures call an adapter.

        Raises:
            ConfigError: there is none of this name; the message lists those that are.
        """
        if name not in self._index:
            raise ConfigError("adapter", name, "is not in the pool", f"one of {self._listed()}")
        return self._index[name]

    def name(self, index: int) -> str:
        """The adapter of an index.

        Raises:
            ConfigError: there is none, or it is gone.
        """
        self.check((index,))
        return self._name[index]

    def check(self, indices: Iterable[int]) -> None:
        """Hold indices against the pool.

        Raises:
            ConfigError: one is no adapter's.
        """
        for index in indices:
            if index not in self._name:
                fix = f"the index of one of {self._listed()}"
                raise ConfigError("adapters", index, "is no adapter of the pool", fix)

    def stamp(self, index: int) -> int:
        """A number that changes whenever the adapter's factors do: for the keys of caches."""
        return self._stamps[index]

    def rank(self, index: int) -> int:
        """An adapter's largest rank over the layers."""
        return max(layer.rank(index) for layer in self.layers.values())

    def reserve(self, rows: Mapping[str, int]) -> None:
        """Make room for so many more rows a layer before many adapters are added."""
        for name, more in rows.items():
            self.layers[name].reserve(more)

    def add(
        self, name: str, factors: Mapping[str, tuple[Tensor, Tensor]], base: str | None = None
    ) -> int:
        """Add an adapter; returns its index.

        Args:
            factors: layer -> (A [r, inputs], B [outputs, r] with the scale folded in).
            base: the fingerprint of the base that it was trained on, where it is known.

        Raises:
            ConfigError: the name is taken, the base is another, a layer is none of the base's, a
                shape does not fit, a rank is 0, or a number is not finite. Nothing is added then.
        """
        if name in self._index:
            raise ConfigError(
                "adapter", name, "is in the pool already", "replace it, or a new name"
            )
        self._check_factors(name, factors, base)
        index = next(self._next)
        self._index[name], self._name[index] = index, name
        self._lay(index, factors)
        return index

    def replace(
        self, name: str, factors: Mapping[str, tuple[Tensor, Tensor]], base: str | None = None
    ) -> int:
        """Put other factors in an adapter's place, under the same index.

        Raises:
            ConfigError: as :meth:`add`, or there is none of this name. The old one stays then.
        """
        index = self.index(name)
        self._check_factors(name, factors, base)
        for layer in self.layers.values():
            layer.drop(index)
        self._lay(index, factors)
        return index

    def remove(self, name: str) -> None:
        """Take an adapter out.

        Raises:
            ConfigError: there is none of this name.
        """
        index = self.index(name)
        for layer in self.layers.values():
            layer.drop(index)
        del self._index[name], self._name[index], self._stamps[index]

    def factors(self, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        """What an adapter holds, as :meth:`add` takes it; A and B are views."""
        index, held = self.index(name), {}
        for layer, rows in self.layers.items():
            start, rank = rows.extents.get(index, (0, 0))
            if rank:
                held[layer] = (rows.a[start : start + rank], rows.b[start : start + rank].T)
        return held

    def _lay(self, index: int, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        for layer, (a, b) in factors.items():
            self.layers[layer].put(index, a, b)
        self._stamps[index] = next(self._next_stamp)

    def _check_factors(
        self, name: str, factors: Mapping[str, tuple[Tensor, Tensor]], base: str | None
    ) -> None:
        if base is not None and self.base is not None and base != self.base:
            problem = f"was trained on another base ({base}, not {self.base})"
            raise ConfigError("adapter", name, problem, "an adapter of the served base")
        if not factors:
            raise ConfigError("adapter", name, "changes no layer", "an adapter with factors")
        for layer, (a, b) in factors.items():
            if layer not in self.linears:
                problem = f"changes {layer}, which the base does not have"
                raise ConfigError("adapter", name, problem, "an adapter of this base")
            inputs, outputs = self.linears[layer]
            rank = a.shape[0] if a.ndim == 2 else 0
            if not rank or tuple(a.shape) != (rank, inputs) or tuple(b.shape) != (outputs, rank):
                problem = (
                    f"has A {tuple(a.shape)} and B {tuple(b.shape)} on {layer}, a layer from "
                    f"{inputs} to {outputs}"
                )
                raise ConfigError(
                    "adapter", name, problem, "an adapter of this base, rank 1 or more"
                )
            for factor in (a, b):
                # A sum is finite only where all are, but for numbers beyond any adapter's.
                stored = factor.to(self.dtype)
                if not math.isfinite(float(stored.sum())) and not bool(stored.isfinite().all()):
                    problem = f"holds a number on {layer} that is not finite"
                    raise ConfigError(
                        "adapter", name, problem, "an adapter whose training went well"
                    )

    def _listed(self) -> str:
        first = ", ".join(itertools.islice(self._index, 20))
        more = f" and {len(self._index) - 20} more" if len(self._index) > 20 else ""
        return f"{first or '(the pool is empty)'}{more}"


def linears_of(module: nn.Module) -> dict[str, Sizes]:
    """The linear layers of a model by name: ``nn.Linear`` and GPT-2's transposed ``Conv1D``.

    Without the projection inside ``nn.MultiheadAttention``, which never runs as a layer of its own:
    nothing could be added to what it gives, so adapters for it are refused.
    """
    sizes: dict[str, Sizes] = {}
    for name, layer in module.named_modules():
        if type(layer).__name__ == "NonDynamicallyQuantizableLinear":
            continue
        if isinstance(layer, torch.nn.Linear):
            sizes[name] = (layer.in_features, layer.out_features)
        elif type(layer).__name__ == "Conv1D" and getattr(layer, "nx", None):
            sizes[name] = tuple(layer.weight.shape)
    return sizes
