"""A network as blocks in real numbers: linear layers apart from what a client does to their sums.

Tracing makes it of a torch module, quantization makes integers of it. As in a program, every linear
layer is a convolution, and the terms of a block are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from hansa.base.lazy import functional, torch
from hansa.infer.private.client_steps import Pair, Sides

if TYPE_CHECKING:
    from torch import Tensor

INFINITY = float("inf")
Shape: TypeAlias = tuple[int, int, int]
Function: TypeAlias = "Callable[[Tensor], Tensor]"


@dataclass(frozen=True, eq=False)
class Convolution:
    """Weights float64 [C_out, C_in / groups, kernel height, kernel width] and how they are laid.

    Attributes:
        padding: zeros above, below, left, right.
        exact: what is copied or selected rather than learned: it need not fit the bits of weights.
    """

    weight: Tensor
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    exact: bool = False

    @property
    def pointwise(self) -> bool:
        """Whether each output sees the one pixel that it replaces."""
        return tuple(self.weight.shape[2:]) == self.stride == (1, 1) and not any(self.padding)

    def dense(self) -> Tensor:
        """The weights of one group with all inputs."""
        if self.groups == 1:
            return self.weight
        outs, ins, high, wide = self.weight.shape
        each = outs // self.groups
        whole = self.weight.new_zeros(outs, ins * self.groups, high, wide)
        for group in range(self.groups):
            rows = slice(group * each, (group + 1) * each)
            whole[rows, group * ins : (group + 1) * ins] = self.weight[rows]
        return whole

    def spread(self) -> Tensor:
        """Dense weights with the zeros that a dilation stands for."""
        weight, (down, across) = self.dense(), self.dilation
        if self.dilation == (1, 1):
            return weight
        outs, ins, high, wide = weight.shape
        size = ((high - 1) * down + 1, (wide - 1) * across + 1)
        whole = weight.new_zeros(outs, ins, *size)
        whole[:, :, ::down, ::across] = weight
        return whole

    def __call__(self, numbers: Tensor) -> Tensor:
        """[n, C_in, H, W] to [n, C_out, H', W'], in the weights' type."""
        top, bottom, left, right = self.padding
        if any(self.padding):
            numbers = functional.pad(numbers, (left, right, top, bottom))
        weight = self.weight.to(numbers.dtype)
        return functional.conv2d(numbers, weight, None, self.stride, 0, self.dilation, self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        """(C_out, H', W')."""
        (outs, _, high, wide), (top, bottom, left, right) = self.weight.shape, self.padding
        tall = shape[1] + top + bottom - (high - 1) * self.dilation[0] - 1
        broad = shape[2] + left + right - (wide - 1) * self.dilation[1] - 1
        return outs, tall // self.stride[0] + 1, broad // self.stride[1] + 1


@dataclass(frozen=True, eq=False)
class RealTerm:
    """A convolution of a value, named."""

    value: str
    layer: Convolution


@dataclass(frozen=True, eq=False)
class Clip:
    """Into [low, high]: ReLU from 0 to infinity, the identity between both infinities."""

    low: float = -INFINITY
    high: float = INFINITY

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x.clamp(self.low, self.high)

    @property
    def nothing(self) -> bool:
        """Whether it changes no number."""
        return self.low == -INFINITY and self.high == INFINITY


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Any function of one number, with the layer that brought it in."""

    function: Function
    name: str = ""

    def __call__(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return self.function(x.clone())  # which may work in place


@dataclass(frozen=True, eq=False)
class Window:
    """The largest, or the mean, of each window.

    Attributes:
        divisor: of the sum; 0 where the largest is taken, which padding never is.
    """

    kernel: Pair
    stride: Pair
    padding: Sides = (0, 0, 0, 0)
    divisor: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to [n, C, H', W']."""
        top, bottom, left, right = self.padding
        fill = 0.0 if self.divisor else -INFINITY
        if any(self.padding):
            x = functional.pad(x, (left, right, top, bottom), value=fill)
        if self.divisor:
            return functional.avg_pool2d(x, self.kernel, self.stride, divisor_override=1) / (
                self.divisor
            )
        return functional.max_pool2d(x, self.kernel, self.stride)

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H', W')."""
        top, bottom, left, right = self.padding
        tall = (shape[1] + top + bottom - self.kernel[0]) // self.stride[0] + 1
        return shape[0], tall, (shape[2] + left + right - self.kernel[1]) // self.stride[1] + 1


Stage: TypeAlias = Clip | Elementwise | Window


@dataclass(frozen=True, eq=False)
class RealBlock:
    """A sum of terms and a bias float64 [C_out]."""

    name: str
    terms: tuple[RealTerm, ...]
    bias: Tensor
    shape: Shape

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        """Its sum [n, C, H, W] of the values by name."""
        total: Tensor | None = None
        for term in self.terms:
            part = term.layer(values[term.value])
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.add_(self.bias.to(total.dtype).view(1, -1, 1, 1))


@dataclass(frozen=True, eq=False)
class RealValue:
    """What a client makes of a block's sum: stages one after the other, times a gain above 0."""

    name: str
    block: str
    stages: tuple[Stage, ...]
    shape: Shape
    gain: float = 1.0

    def __call__(self, total: Tensor) -> Tensor:
        """The value of the block's sum."""
        kind = total.dtype
        for stage in self.stages:
            total = stage(total)
        total = total.to(kind)  # a comparison says true and false
        return total * self.gain if self.gain != 1 else total


@dataclass(eq=False)
class RealNet:
    """Blocks and values in an order in which they can be computed.

    Attributes:
        blocks: by name; a block reads values that stand before it.
        values: by name, but the input.
        order: names of blocks and values as they are made.
        logits: the block that is the answer.
        story: (layer, its kind, what became of it).
    """

    input_name: str
    input_shape: Shape
    blocks: dict[str, RealBlock] = field(default_factory=dict)
    values: dict[str, RealValue] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    logits: str = ""
    story: list[tuple[str, str, str]] = field(default_factory=list)

    def steps(self) -> Iterator[RealBlock | RealValue]:
        """Blocks and values as they are made."""
        for name in self.order:
            yield self.blocks[name] if name in self.blocks else self.values[name]

    def add(self, item: RealBlock | RealValue) -> None:
        """Put a block or a value behind the others."""
        home: dict[str, RealBlock] | dict[str, RealValue]
        home = self.blocks if isinstance(item, RealBlock) else self.values
        home[item.name] = item  # type: ignore[assignment]
        self.order.append(item.name)

    def pruned(self) -> None:
        """Leave out what the logits do not need."""
        needed: set[str] = {self.logits}
        for name in reversed(self.order):
            if name in needed:
                if name in self.blocks:
                    needed |= {term.value for term in self.blocks[name].terms}
                else:
                    needed.add(self.values[name].block)
        self.order = [name for name in self.order if name in needed]
        self.blocks = {name: one for name, one in self.blocks.items() if name in needed}
        self.values = {name: one for name, one in self.values.items() if name in needed}

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [n, outputs] of inputs [n, C, H, W], in the inputs' type."""
        at = {self.input_name: x}
        totals: dict[str, Tensor] = {}
        for item in self.steps():
            if isinstance(item, RealBlock):
                totals[item.name] = item(at)
            else:
                at[item.name] = item(totals[item.block])
        return totals[self.logits].flatten(1)


def composed(second: Convolution, first: Convolution) -> Convolution:
    """The one convolution that ``second`` after ``first`` is, where :func:`composable` says so.

    y[p] = sum of W2[u] W1[v] x[s1 s2 p + s1 d2 u + d1 v]: a full convolution of the kernels, the
    second spread by the first's stride.
    """
    if first.pointwise and first.weight.shape[:2] == (first.groups, 1):
        column = first.weight.reshape(-1)
        outs, ins = second.weight.shape[:2]
        each = outs // second.groups
        at = torch.arange(outs) // each
        columns = column.view(second.groups, ins)[at].view(outs, ins, 1, 1)
        return replace(second, weight=second.weight * columns, exact=first.exact and second.exact)
    down, across = first.stride
    wide_apart = (second.dilation[0] * down, second.dilation[1] * across)
    kernel = replace(second, dilation=wide_apart).spread()
    weight = functional.conv_transpose2d(kernel, first.spread())
    stride = (second.stride[0] * down, second.stride[1] * across)
    padding = second.padding if first.pointwise else first.padding
    return Convolution(weight, stride, padding, exact=first.exact and second.exact)


def composable(second: Convolution, first: Convolution, bias: Tensor) -> bool:
    """Whether both are one convolution: nothing is padded between them but what is zero."""
    return not any(second.padding) or (first.pointwise and not bool(bias.any()))


def copy_of(channels: int, scale: float = 1.0) -> Convolution:
    """The convolution that changes nothing but the scale."""
    weight = torch.full((channels, 1, 1, 1), scale, dtype=torch.float64)
    return Convolution(weight, groups=channels, exact=True)
