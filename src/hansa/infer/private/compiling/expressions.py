"""What the parts of a network are worth while it is read: sums at the server, steps at the client.

Linear layers that follow each other are one convolution wherever that is exact; a sum that cannot
be gone on with becomes a block whose client only rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from hansa.base.lazy import torch
from hansa.infer.private.compiling.real_net import (
    Clip,
    Convolution,
    Elementwise,
    Function,
    RealBlock,
    RealNet,
    RealTerm,
    RealValue,
    Shape,
    Stage,
    Window,
    composable,
    composed,
    copy_of,
)
from hansa.infer.private.compiling.refusals import refused

if TYPE_CHECKING:
    from torch import Tensor

INPUT = "input"
_TERMS = 6
"""More terms than this are made one value before a layer reads them."""
_WIDEST = 4096
"""Numbers of a flattened map that one matrix may give their own scales."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A sum that the server makes.

    Attributes:
        rank: dimensions of one example as torch sees it: 1 where the map is flattened.
        layer: the layer that it comes from.
        root: another sum of which this is one and the same multiple, and the shift.
    """

    terms: tuple[RealTerm, ...]
    bias: Tensor
    shape: Shape
    rank: int
    layer: str = ""
    root: tuple[Affine, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Stepped:
    """What the client makes of a sum."""

    base: Affine
    stages: tuple[Stage, ...]
    shape: Shape
    rank: int
    gain: float = 1.0


Expression: TypeAlias = Affine | Stepped


def torch_shape(of: Expression) -> tuple[int, ...]:
    """The shape of one example as the network sees it."""
    channels, high, wide = of.shape
    return {1: (channels * high * wide,), 2: (channels, wide), 3: of.shape}[of.rank]


class Builder:
    """Makes a network of real blocks from the expressions of its layers.

    Args:
        input_shape: of one example: (features,), (channels, length) or (channels, height, width).
    """

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        lengths = {1: (*input_shape, 1, 1), 2: (input_shape[0], 1, input_shape[-1])}
        shape = lengths.get(len(input_shape), input_shape)
        self.net = RealNet(INPUT, (int(shape[0]), int(shape[1]), int(shape[-1])))
        self._names: dict[int, str] = {}
        self._kept: list[Expression] = []  # so that no two have the same id
        self.input = self.read(INPUT, self.net.input_shape, len(input_shape))

    def tell(self, layer: str, kind: str, became: str) -> None:
        """Say what became of a layer."""
        self.net.story.append((layer, kind, became))

    # ---------------------------------------------------------------- from expressions to the net

    def read(self, value: str, shape: Shape, rank: int, layer: str = "") -> Affine:
        """A value as the server has it."""
        bias = torch.zeros(shape[0], dtype=torch.float64)
        return Affine((RealTerm(value, copy_of(shape[0])),), bias, shape, rank, layer)

    def block_of(self, sum_: Affine) -> str:
        """The name of the block that makes a sum."""
        if id(sum_) not in self._names:
            wanted = name = sum_.layer or "copy"
            count = 1
            while name in self.net.blocks:
                count += 1
                name = f"{wanted}.{count}"
            self.net.add(RealBlock(name, sum_.terms, sum_.bias, sum_.shape))
            self._names[id(sum_)] = name
            self._kept.append(sum_)
        return self._names[id(sum_)]

    def value_of(self, made: Stepped) -> str:
        """The name of the value that a client makes."""
        if id(made) not in self._names:
            block = self.block_of(made.base)
            name = f"v{len(self.net.values) + 1}"
            self.net.add(RealValue(name, block, made.stages, made.shape, made.gain))
            self._names[id(made)] = name
            self._kept.append(made)
        return self._names[id(made)]

    def affine(self, of: Expression) -> Affine:
        """As a sum at the server: what a client makes is uploaded first."""
        if isinstance(of, Affine):
            return of
        return self.read(self.value_of(of), of.shape, of.rank, of.base.layer)

    def rounded(self, sum_: Affine) -> Affine:
        """A sum that a client decrypts, rounds and uploads again."""
        return self.affine(self.steps(sum_))

    def answer(self, of: Expression) -> None:
        """Let an expression be the logits."""
        self.net.logits = self.block_of(self.affine(of))
        self.net.pruned()

    # ---------------------------------------------------------------------------- at the server

    def convolve(self, of: Expression, layer: Convolution, bias: Tensor, name: str) -> Affine:
        """A convolution, one with what stands before it where that is exact."""
        sum_ = self.affine(of)
        fits = all(composable(layer, term.layer, sum_.bias) for term in sum_.terms)
        if not fits or len(sum_.terms) > _TERMS:
            sum_ = self.rounded(sum_)
            self.tell(name, "round", "one more round: what it reads is summed before it pads")
        shape = layer.output_shape(sum_.shape)
        if min(shape) < 1:
            seen = list(sum_.shape)
            raise refused(name, seen, "is smaller than the window that reads it", "larger inputs")
        moved = bias
        if bool(sum_.bias.any()):
            moved = bias + layer.dense().sum((2, 3)) @ sum_.bias
        terms = tuple(RealTerm(t.value, composed(layer, t.layer)) for t in sum_.terms)
        return Affine(terms, moved, shape, 3, name)

    def matrix(self, of: Expression, weight: Tensor, bias: Tensor, name: str) -> Affine:
        """A matrix [outputs, inputs] on a flattened map: a convolution as large as the map."""
        inputs, shown = prod(of.shape), list(torch_shape(of))
        if of.rank != 1:
            problem = "is a linear layer that reads maps, not rows"
            raise refused(name, shown, problem, "Flatten before it")
        if weight.shape[1] != inputs:
            problem = f"is what a linear layer of {weight.shape[1]} inputs reads"
            raise refused(name, shown, problem, f"Linear({inputs}, {len(weight)})")
        kernel = weight.reshape(len(weight), *of.shape)
        return replace(self.convolve(of, Convolution(kernel), bias, name), rank=1)

    def scaled(self, of: Expression, scale: Tensor, shift: Tensor, name: str) -> Expression:
        """Each channel, or each number of a row, times a scale, and a shift added."""
        if of.rank == 1 and len(scale) != of.shape[0]:
            of = self.vector(of, name)
        if len(scale) != of.shape[0]:
            problem = f"has {len(scale)} scales for {of.shape[0]} channels"
            raise refused(name, list(of.shape), problem, "one a channel")
        sum_ = self.affine(of)
        terms = tuple(
            RealTerm(
                t.value,
                replace(
                    t.layer,
                    weight=t.layer.weight * scale.view(-1, 1, 1, 1),
                    exact=t.layer.exact,
                ),
            )
            for t in sum_.terms
        )
        bias = sum_.bias * scale + shift
        return replace(sum_, terms=terms, bias=bias, layer=sum_.layer or name, root=None)

    def multiple(self, of: Affine, factor: float, shift: float, name: str) -> Affine:
        """A sum times one number, and one number added."""
        ones = torch.ones(of.shape[0], dtype=torch.float64)
        made = self.scaled(of, factor * ones, shift * ones, name)
        base, before, moved = of.root or (of, 1.0, 0.0)
        assert isinstance(made, Affine)
        return replace(made, root=(base, before * factor, moved * factor + shift))

    def vector(self, of: Expression, name: str) -> Affine:
        """A flattened map as a row of numbers of their own."""
        numbers = prod(of.shape)
        if of.shape[1:] == (1, 1):
            return self.affine(of)
        if numbers > _WIDEST:
            problem = f"gives each of {numbers} numbers of a map a weight of its own"
            raise refused(name, list(of.shape), problem, "one weight a channel, before Flatten")
        weight = torch.eye(numbers, dtype=torch.float64).view(numbers, *of.shape)
        bias = torch.zeros(numbers, dtype=torch.float64)
        return replace(self.convolve(of, Convolution(weight, exact=True), bias, name), rank=1)

    def add(self, first: Expression, second: Expression, name: str) -> Affine:
        """A sum of both: terms of one block."""
        if torch_shape(first) != torch_shape(second):
            shown = [list(torch_shape(first)), list(torch_shape(second))]
            raise refused(name, shown, "are shapes that differ and cannot be added", "one shape")
        one, two = self.affine(first), self.affine(second)
        if one.shape != two.shape:
            one, two = self.vector(one, name), self.vector(two, name)
        layer = one.layer or two.layer or name
        return Affine(one.terms + two.terms, one.bias + two.bias, one.shape, one.rank, layer)

    def concatenate(self, parts: list[Expression], name: str) -> Affine:
        """All parts' channels, one after the other."""
        sums = [self.affine(part) for part in parts]
        if len({(s.rank, s.shape[1:]) for s in sums}) > 1:
            if {s.rank for s in sums} != {1}:
                shown = [list(torch_shape(s)) for s in sums]
                raise refused(name, shown, "cannot be put side by side", "maps of equal sides")
            sums = [self.vector(s, name) for s in sums]
        channels, start, terms = sum(s.shape[0] for s in sums), 0, []
        for one in sums:
            for term in one.terms:
                dense = term.layer.dense()
                weight = dense.new_zeros(channels, *dense.shape[1:])
                weight[start : start + one.shape[0]] = dense
                terms.append(RealTerm(term.value, replace(term.layer, weight=weight, groups=1)))
            start += one.shape[0]
        bias = torch.cat([s.bias for s in sums])
        return Affine(tuple(terms), bias, (channels, *sums[0].shape[1:]), sums[0].rank, name)

    # ---------------------------------------------------------------------------- at the client

    def steps(self, of: Expression, *stages: Stage, gain: float = 1.0) -> Stepped:
        """Steps of the client behind those that are there, made one where they can be."""
        if isinstance(of, Affine):
            of = Stepped(of, (), of.shape, of.rank)
        done, shape, factor = list(of.stages), of.shape, of.gain
        for stage in stages:
            if isinstance(stage, Window):
                shape = stage.output_shape(shape)
            elif factor != 1:
                stage = _after_gain(stage, factor)
                factor = 1.0
            if isinstance(stage, Clip) and done and isinstance(done[-1], Clip):
                stage = _both(done.pop(), stage)
            elif (
                isinstance(stage, Elementwise | Clip) and done and not isinstance(done[-1], Window)
            ):
                stage = _one_after(stage, done.pop())
            done.append(stage)
        return Stepped(of.base, tuple(done), shape, of.rank, factor * gain)

    def function_of(self, of: Expression) -> tuple[object, Expression, Function]:
        """(what tells the number apart, the number, the function of it) that an expression is."""
        if isinstance(of, Affine):
            base, factor, shift = of.root or (of, 1.0, 0.0)
            return (id(base), ()), base, lambda x: x * factor + shift
        gain = of.gain
        if of.stages and not isinstance(of.stages[-1], Window):
            last = of.stages[-1]
            if len(of.stages) == 1:
                base, factor, shift = of.base.root or (of.base, 1.0, 0.0)
                return (id(base), ()), base, lambda x: _times(last(x * factor + shift), gain)
            inner = Stepped(of.base, of.stages[:-1], of.shape, of.rank)
            return self._key(inner), inner, lambda x: _times(last(x), gain)
        inner = replace(of, gain=1.0)
        return self._key(inner), inner, lambda x: x * gain

    def _key(self, of: Stepped) -> object:
        return id(of.base), tuple(map(id, of.stages))


def _times(x: Tensor, gain: float) -> Tensor:
    return x if gain == 1 else x * gain  # truth values stay what they are


def _both(first: Stage, second: Clip) -> Clip:
    assert isinstance(first, Clip)
    low, high = (min(max(x, second.low), second.high) for x in (first.low, first.high))
    return Clip(low, high)


def _after_gain(stage: Stage, gain: float) -> Stage:
    """The stage with a gain before it."""
    return Elementwise(lambda x: stage(x * gain), getattr(stage, "name", ""))


def _one_after(second: Stage, first: Stage) -> Elementwise:
    return Elementwise(lambda x: second(first(x)), getattr(second, "name", ""))
