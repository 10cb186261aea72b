"""Programs with random weights: shapes of real networks and odd ones, before anything compiles.

Numbers are drawn from numpy's generator: they stand for networks and data, no secret is among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hansa.infer.private.client_steps import MaxPool, Relu, Shift, Step, SumPool
from hansa.infer.private.integer_net import accumulate
from hansa.infer.private.program import (
    LOGITS,
    Activation,
    Block,
    Program,
    Round,
    Term,
    Value,
    bounds,
)

TOP = 127
"""The largest activation: seven bits."""


@dataclass
class Maker:
    """Puts a program together, a round at a time, and keeps activations lively.

    Attributes:
        shape: of the input's image.
        low, high: of the input's integers.
        weight_bits: of the weights drawn.
    """

    shape: tuple[int, int, int]
    seed: int = 0
    low: int = -TOP
    high: int = TOP
    weight_bits: int = 8
    values: dict[str, Value] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)
        self.values["input"] = Value("input", self.shape, self.low, self.high, 1.0)
        self._sample = {"input": self.draw.integers(self.low, self.high + 1, (2, *self.shape))}
        self._fresh = ["input"]

    def weight(self, *shape: int) -> np.ndarray:
        """Integers of ``weight_bits`` bits, as large as trained ones: few near the ends."""
        most = (1 << (self.weight_bits - 1)) - 1
        drawn = np.rint(self.draw.normal(0, most / 4, shape))
        return np.clip(drawn, -most, most).astype(np.int64)

    def conv(
        self, value: str, outs: int, kernel: int | tuple[int, int], **settings: object
    ) -> Term:
        """A term with random weights."""
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        groups = int(settings.get("groups", 1))  # type: ignore[call-overload]
        weight = self.weight(outs, self.values[value].shape[0] // groups, high, wide)
        return Term(value, weight, **settings)  # type: ignore[arg-type]

    def whole(self, value: str, outs: int) -> Term:
        """A matrix: a kernel as large as its input."""
        return Term(value, self.weight(outs, *self.values[value].shape))

    def identity(self, value: str, factor: int) -> Term:
        """A residual branch: the value times an integer."""
        channels = self.values[value].shape[0]
        return Term(value, np.full((channels, 1, 1, 1), factor, np.int64), groups=channels)

    def block(self, name: str, terms: Sequence[Term]) -> Block:
        """A block of terms with a random bias."""
        shape = terms[0].output_shape(self.values[terms[0].value].shape)
        bias = self.draw.integers(-1000, 1001, shape[0])
        low, high = bounds(tuple(terms), bias, self.values)
        return Block(name, tuple(terms), bias, shape, low, high, 1.0)

    def then(
        self, makes: str, terms: Sequence[Term], pools: Sequence[Step] = (), relu: bool = True
    ) -> str:
        """A round of one block whose activation makes a value, or the logits; returns its name."""
        self.together({makes: (terms, pools, relu)})
        return makes

    def together(self, made: dict[str, tuple[Sequence[Term], Sequence[Step], bool]]) -> None:
        """A round of several blocks: of each the name it makes, its terms, its pools, its ReLU."""
        blocks, activations = [], []
        for makes, (terms, pools, relu) in made.items():
            at = f"_{len(blocks)}" if len(made) > 1 else ""
            block = self.block(f"block{len(self.rounds)}{at}", terms)
            steps = () if makes == LOGITS else self._steps(block, makes, pools, relu)
            blocks.append(block)
            activations.append(Activation(block.name, steps, makes))
        self.rounds.append(Round(tuple(self._fresh), tuple(blocks), tuple(activations)))
        self._fresh = list(made)

    def _steps(
        self, block: Block, makes: str, pools: Sequence[Step], relu: bool
    ) -> tuple[Step, ...]:
        """An activation that leaves numbers of seven bits, and the value that it makes."""
        numbers = accumulate(block, self._sample)
        steps = ((Relu(),) if relu else ()) + tuple(pools)
        for step in steps:
            numbers = step.apply(numbers)
        spread = int(2.5 * numbers.std()) + 1
        last = Shift(max(spread.bit_length() - 7, 0), 0 if relu else -TOP, TOP)
        self._sample[makes] = numbers = last.apply(numbers)
        shape = (numbers.shape[1], numbers.shape[2], numbers.shape[3])
        self.values[makes] = Value(makes, shape, last.low, last.high, 1.0)
        return (*steps, last)

    def program(self, input_shape: tuple[int, ...] | None = None) -> Program:
        """What was put together."""
        into = self.shape if input_shape is None else input_shape
        return Program(self.values, tuple(self.rounds), into, np.zeros(self.shape[0]))


def mlp(widths: Sequence[int] = (784, 128, 128, 10), seed: int = 0) -> Program:
    """Features to logits through hidden layers."""
    maker = Maker((widths[0], 1, 1), seed, low=0)
    value = "input"
    for at, width in enumerate(widths[1:-1]):
        value = maker.then(f"hidden{at}", [maker.whole(value, width)])
    maker.then(LOGITS, [maker.whole(value, widths[-1])])
    return maker.program((widths[0],))


def lenet(side: int = 28, classes: int = 10, seed: int = 0) -> Program:
    """LeNet-5: two convolutions with pools, three matrices."""
    maker = Maker((1, side, side), seed, low=0)
    pool = MaxPool((2, 2), (2, 2), (0, 0, 0, 0))
    maker.then("one", [maker.conv("input", 6, 5, padding=(2, 2, 2, 2))], [pool])
    maker.then("two", [maker.conv("one", 16, 5)], [pool])
    maker.then("three", [maker.whole("two", 120)])
    maker.then("four", [maker.whole("three", 84)])
    maker.then(LOGITS, [maker.whole("four", classes)])
    return maker.program()


def resnet(
    blocks: int = 3, classes: int = 10, side: int = 32, width: int = 16, seed: int = 0
) -> Program:
    """ResNet-20 (``blocks`` = 3) or ResNet-8 (1) as for CIFAR-10, 1x1 shortcuts in their round."""
    maker = Maker((3, side, side), seed)
    sides = (1, 1, 1, 1)
    value = maker.then("stem", [maker.conv("input", width, 3, padding=sides)])
    size, channels = side, width
    for stage in range(3):
        for at in range(blocks):
            stride = (2, 2) if stage and not at else (1, 1)
            channels, size = width << stage, size // stride[0]
            name = f"stage{stage}_{at}"
            first = maker.conv(value, channels, 3, padding=sides, stride=stride)
            inner = maker.then(f"{name}_inner", [first])
            second = maker.conv(inner, channels, 3, padding=sides)
            if stride == (1, 1):
                short = maker.identity(value, 200)
            else:
                short = maker.conv(value, channels, 1, stride=stride)
            last = stage == 2 and at == blocks - 1
            pool = [SumPool((size, size), (size, size), (0, 0, 0, 0))] if last else []
            value = maker.then(name, [second, short], pool)
    maker.then(LOGITS, [maker.whole(value, classes)])
    return maker.program()


def one_layer(draw: np.random.Generator) -> Program:
    """One random round: a convolution with any settings, a matrix, or a sum of several terms."""
    channels = int(draw.integers(1, 7))
    high, wide = (int(one) for one in draw.integers(1, 13, 2))
    shape, seed = (channels, high, wide), int(draw.integers(1 << 30))
    maker = Maker(shape, seed, low=-63, high=63, weight_bits=7)  # at most 22 bits come of it
    outs = int(draw.integers(1, 9))
    kind = draw.integers(4)
    if kind == 0:
        terms = [maker.whole("input", outs)]
    elif kind < 3:
        terms = [_random_conv(maker, draw, outs, groups=kind == 2)]
    else:
        first = _random_conv(maker, draw, outs)
        _, rows, columns = first.output_shape(maker.shape)
        terms = [first, *(_landing(maker, draw, outs, rows, columns) for _ in range(2))]
    maker.then(LOGITS, terms)
    return maker.program()


def network(draw: np.random.Generator) -> Program:
    """A random network of three or four rounds whose later blocks read earlier values too."""
    channels, high, wide = int(draw.integers(1, 5)), *(int(one) for one in draw.integers(5, 13, 2))
    seed = int(draw.integers(1 << 30))
    maker = Maker((channels, high, wide), seed, low=-63, high=63, weight_bits=6)
    names = ["input"]
    for at in range(int(draw.integers(2, 4))):
        made: dict[str, tuple[Sequence[Term], Sequence[Step], bool]] = {}
        for twin in range(int(draw.integers(1, 3))):
            outs, groups = int(draw.integers(1, 6)), bool(draw.random() < 0.3)
            first = _random_conv(maker, draw, outs, groups, names[-1])
            _, rows, columns = first.output_shape(maker.values[names[-1]].shape)
            others = [
                _landing(maker, draw, len(first.weight), rows, columns, str(value))
                for value in draw.choice(names, int(draw.integers(0, 3)))
            ]
            made[f"value{at}_{twin}"] = ([first, *others], (), bool(draw.integers(2)))
        maker.together(made)
        names += made
    maker.then(LOGITS, [maker.whole(names[-1], 3), maker.whole(names[0], 3)])
    return maker.program()


def _random_conv(
    maker: Maker, draw: np.random.Generator, outs: int, groups: bool = False, value: str = "input"
) -> Term:
    channels, *size = maker.values[value].shape
    split = 1
    if groups:
        split = int(draw.choice([one for one in range(1, channels + 1) if channels % one == 0]))
        outs = split * max(1, outs // split)
    kernel, stride, dilation, padding = [], [], [], []
    for length in size:
        reach = int(draw.integers(1, 6))
        apart = int(draw.integers(1, 4))
        before, after = (int(one) for one in draw.integers(0, 4, 2))
        while (reach - 1) * apart + 1 > length + before + after:
            reach, apart = max(reach - 1, 1), max(apart - 1, 1)
        kernel.append(reach)
        dilation.append(apart)
        stride.append(int(draw.integers(1, 4)))
        padding += [before, after]
    return maker.conv(
        value, outs, (kernel[0], kernel[1]),
        stride=tuple(stride), padding=tuple(padding), dilation=tuple(dilation), groups=split,
    )  # fmt: skip


def _landing(
    maker: Maker, draw: np.random.Generator, outs: int, rows: int, columns: int,
    value: str = "input",
) -> Term:  # fmt: skip
    """Another term whose output has the same size."""
    kernel, stride, padding = [], [], []
    for length, wanted in zip(maker.values[value].shape[1:], (rows, columns), strict=True):
        step = int(draw.integers(1, 4))
        reach = int(draw.integers(1, 5))
        missing = (wanted - 1) * step + reach - length  # padding that it takes
        if missing < 0:
            reach, missing = reach - missing, 0
        before = int(draw.integers(0, missing + 1))
        kernel.append(reach)
        stride.append(step)
        padding += [before, missing - before]
    return maker.conv(
        value, outs, (kernel[0], kernel[1]), stride=tuple(stride), padding=tuple(padding)
    )
