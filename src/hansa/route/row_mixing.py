"""A different mixture of adapters in every row of one batch, exact against the dense delta.

``with mixing(module, slab, mixtures): module(**inputs)`` adds ``sum_a w_a B_a A_a x`` to what each
linear layer gives, row by row with that row's own weights (LORAUTER's composition in output space,
for a whole batch). Only adapters with a weight are touched; the base is never changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.route.answering import Mixture
from hansa.route.mixture_cost import KERNELS, Kernel, MixtureCosts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hansa.route.factor_rows import FactorRows
    from hansa.route.mixture_kernels import Scratch
    from hansa.route.slab import AdapterSlab

Choice = Literal["auto", "union", "gathered", "segments"]


class RowMixing:
    """The mixtures of a batch, as hooks on a model's linear layers.

    Args:
        mixtures: one a row.
        kernel: how the deltas are added; ``auto``: by the costs. All give the same to rounding.
        costs: that the choice goes by; None: the slab's.

    Attributes:
        touched: (layer, kernel, factors multiplied a position) of the last forward pass.

    Raises:
        ConfigError: a mixture names an adapter that the slab does not hold.
    """

    def __init__(
        self,
        slab: AdapterSlab,
        mixtures: Sequence[Mixture],
        kernel: Choice = "auto",
        costs: MixtureCosts | None = None,
    ) -> None:
        if kernel not in ("auto", *KERNELS):
            raise ConfigError("kernel", kernel, "is no kernel", f"auto, {', '.join(KERNELS)}")
        self.slab, self.kernel, self.costs = slab, kernel, costs or slab.costs
        self.touched: dict[str, tuple[Kernel, int]] = {}
        self._scratch: Scratch | None = None
        self._patterns: dict[tuple[tuple[int, int, int], ...], _Pattern] = {}
        self.select_mixtures(mixtures)

    def select_mixtures(self, mixtures: Sequence[Mixture]) -> None:
        """From here on the batch has these rows."""
        self.mixtures = [mixture.folded() for mixture in mixtures]
        self.active = tuple(sorted({a for mixture in self.mixtures for a in mixture.adapters}))
        self.slab.check(self.active)
        self._patterns.clear()

    @contextlib.contextmanager
    def on(self, module: nn.Module) -> Iterator[RowMixing]:
        """While it lasts, the model's forward pass adds the mixtures."""
        layers = {name: layer for name, layer in module.named_modules() if name in self.slab.layers}
        handles = [
            layer.register_forward_hook(partial(self._after, name))
            for name, layer in layers.items()
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _after(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Any:
        pattern = self._pattern(self.slab.layers[name])
        if pattern is None:
            return None
        x, n = inputs[0], len(self.mixtures)
        if x.shape[0] % n or (x.ndim > 2 and x.shape[0] != n):
            problem = f"are {n}, and the batch has {x.shape[0]} rows"
            raise ConfigError("mixtures", None, problem, "one mixture for each row")
        rows = x.reshape(n, -1, x.shape[-1])
        kernel = self._kernel(pattern, rows.shape[1])
        self.touched[name] = (kernel, pattern.touches(kernel))
        # In place, unless training needs what the layer gave.
        target = out.reshape(n, -1, out.shape[-1])
        if out.requires_grad or rows.requires_grad:
            target = target.clone()
        return self._added(name, kernel, pattern, rows, target).view(out.shape)

    def _kernel(self, pattern: _Pattern, positions: int) -> Kernel:
        if self.kernel != "auto":
            return self.kernel
        n = len(self.mixtures)
        return self.costs.choose(n, positions, len(pattern.index), pattern.own.shape[1])

    def _added(
        self, name: str, kernel: Kernel, pattern: _Pattern, x: Tensor, out: Tensor
    ) -> Tensor:
        """``out`` with the deltas."""
        from hansa.route import mixture_kernels as kernels

        layer = self.slab.layers[name]
        if self._scratch is None:
            self._scratch = kernels.Scratch()
        if kernel == "union":
            weights = pattern.weights.to(x)
            return kernels.union(x, out, layer.a, layer.b, pattern.index, weights, self._scratch)
        if kernel == "gathered":
            weights = pattern.own_weights.to(x)
            return kernels.gathered(x, out, layer.a, layer.b, pattern.own, weights, self._scratch)
        parts = {e: (rows, weights.to(x)) for e, (rows, weights) in pattern.segments.items()}
        return kernels.segments(x, out, layer.a, layer.b, parts)

    def _pattern(self, layer: FactorRows) -> _Pattern | None:
        """Where the active adapters lie in a layer; layers that lie alike share it."""
        extents = tuple(
            (adapter, *layer.extents[adapter])
            for adapter in self.active
            if adapter in layer.extents
        )
        if not extents:
            return None
        if extents not in self._patterns:
            self._patterns[extents] = _Pattern.of(self.mixtures, extents)
        return self._patterns[extents]


@dataclass(frozen=True)
class _Pattern:
    """Which factors a layer's batch uses.

    Attributes:
        index: [R] rows of the slab that any row of the batch uses.
        weights: [n, R].
        own: [n, K] rows of the slab that each row uses; 0, the row of zeros, where it has fewer.
        own_weights: [n, K]; 0 there.
        segments: (first row, rank) of each adapter -> (rows of the batch, their weights).
    """

    index: Tensor
    weights: Tensor
    own: Tensor
    own_weights: Tensor
    segments: dict[tuple[int, int], tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, mixtures: Sequence[Mixture], extents: tuple[tuple[int, int, int], ...]) -> _Pattern:
        place: dict[int, tuple[int, int, int]] = {}
        index: list[int] = []
        for adapter, start, rank in extents:
            place[adapter] = (len(index), start, rank)
            index += range(start, start + rank)
        weights = torch.zeros(len(mixtures), len(index))
        own: list[list[int]] = []
        own_weights: list[list[float]] = []
        users: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for row, mixture in enumerate(mixtures):
            own.append([])
            own_weights.append([])
            for adapter, weight in zip(mixture.adapters, mixture.weights, strict=True):
                if adapter in place:
                    first, start, rank = place[adapter]
                    weights[row, first : first + rank] = weight
                    own[-1] += range(start, start + rank)
                    own_weights[-1] += [weight] * rank
                    users.setdefault((start, rank), []).append((row, weight))
        most = max(map(len, own))
        segments = {
            extent: (torch.tensor([row for row, _ in uses]), torch.tensor([w for _, w in uses]))
            for extent, uses in users.items()
        }
        return cls(
            torch.tensor(index),
            weights,
            torch.tensor([rows + [0] * (most - len(rows)) for rows in own]),
            torch.tensor([values + [0.0] * (most - len(values)) for values in own_weights]),
            segments,
        )

    def touches(self, kernel: Kernel) -> int:
        """Factors that a position of the batch is multiplied with, over all rows of it."""
        n = len(self.weights)
        if kernel == "union":
            return n * len(self.index)
        if kernel == "gathered":
            return self.own.numel()
        return sum(rank * len(rows) for (_, rank), (rows, _) in self.segments.items())


def mixing(
    module: nn.Module,
    slab: AdapterSlab,
    mixtures: Sequence[Mixture],
    kernel: Choice = "auto",
    costs: MixtureCosts | None = None,
) -> contextlib.AbstractContextManager[RowMixing]:
    """While it lasts, the model adds each row's own mixture; see :class:`RowMixing`.

    Raises:
        ConfigError: a mixture names an adapter that the slab does not hold, or in the forward
            pass: the batch has other rows than there are mixtures.
    """
    return RowMixing(slab, mixtures, kernel, costs).on(module)
