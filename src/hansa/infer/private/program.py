"""A network as integers in rounds: what private inference runs, whatever the mode.

In each round the client encrypts and uploads values, the server applies blocks to what it has of
the query and sends their accumulators, and the client's steps make of them the values of later
rounds. Every linear layer is a convolution: a matrix is one whose kernel is as large as its input,
a vector of D numbers is an image [D, 1, 1]. A block with several terms adds them before the bias,
which makes residual connections and concatenations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hansa.infer.private.client_steps import Pair, Sides, Step

LOGITS = "logits"
"""The name that the last activation makes."""


@dataclass(frozen=True)
class Value:
    """Integers that the client uploads.

    Attributes:
        name: of its own in the program.
        shape: (channels, height, width).
        low, high: the least and the largest that a number of it can be.
        scale: a number stands for ``scale`` times as much.
    """

    name: str
    shape: tuple[int, int, int]
    low: int
    high: int
    scale: float


@dataclass(frozen=True, eq=False)
class Term:
    """One convolution of an uploaded value (cross-correlation, as torch's).

    Attributes:
        value: the name of what it reads, uploaded in this round or an earlier one.
        weight: int64 [C_out, C_in / groups, kernel height, kernel width].
        padding: rows above, below, columns left and right, of zeros.
    """

    value: str
    weight: np.ndarray
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def reach(self) -> Pair:
        """Rows and columns that the kernel spans."""
        high, wide = self.weight.shape[2:]
        return (high - 1) * self.dilation[0] + 1, (wide - 1) * self.dilation[1] + 1

    def output_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C_out, H', W') of an input of ``shape``."""
        top, bottom, left, right = self.padding
        (reach_high, reach_wide), (_, high, wide) = self.reach(), shape
        rows = (high + top + bottom - reach_high) // self.stride[0] + 1
        columns = (wide + left + right - reach_wide) // self.stride[1] + 1
        return self.weight.shape[0], rows, columns


@dataclass(frozen=True, eq=False)
class Block:
    """A sum of terms and a bias: one linear layer, or several that are added.

    Attributes:
        name: of the layer in the network that was compiled.
        bias: int64 [C_out].
        shape: (C_out, height, width) of its accumulator.
        low, high: the least and the largest that an accumulator can be, whatever the values are.
        scale: an accumulator stands for ``scale`` times as much.
    """

    name: str
    terms: tuple[Term, ...]
    bias: np.ndarray
    shape: tuple[int, int, int]
    low: int
    high: int
    scale: float


@dataclass(frozen=True)
class Activation:
    """What the client makes of a block's accumulator.

    Attributes:
        block: its name, of the same round.
        makes: a value's name, or ``LOGITS``, which has no steps.
    """

    block: str
    steps: tuple[Step, ...]
    makes: str


@dataclass(frozen=True, eq=False)
class Round:
    """One request and its reply.

    Attributes:
        uploads: values that are new to the server.
    """

    uploads: tuple[str, ...]
    blocks: tuple[Block, ...]
    activations: tuple[Activation, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """A network in integers.

    Attributes:
        values: all of them by name; the first is the input.
        rounds: in order; the last ends in ``LOGITS``.
        input_shape: of one row as the network reads it: (channels, height, width) or (features,).
        offset: float64 [channels]; a row is read as round((row - offset) / scale), halves to the
            even, and clipped to the input's low and high.
        classes: what the logits stand for, where that is known.
        facts: where it comes from: settings of the quantization, the network's name, accuracies.
    """

    values: dict[str, Value]
    rounds: tuple[Round, ...]
    input_shape: tuple[int, ...]
    offset: np.ndarray
    classes: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def input(self) -> Value:
        """The value that the rows become."""
        return next(iter(self.values.values()))

    @property
    def logits(self) -> Block:
        """The block whose accumulators are the answer."""
        last = self.rounds[-1]
        name = next(one.block for one in last.activations if one.makes == LOGITS)
        return next(block for block in last.blocks if block.name == name)

    @property
    def accumulator_bits(self) -> int:
        """Bits of a two's complement integer that holds every accumulator of every block."""
        blocks = [block for one in self.rounds for block in one.blocks]
        return 1 + max(max(-one.low - 1, one.high).bit_length() for one in blocks)


def bounds(block_terms: tuple[Term, ...], bias: np.ndarray, values: dict[str, Value]) -> Pair:
    """The least and the largest accumulator of a block, whatever its values are.

    Padding adds zeros: each weight meets either a number of the value or nothing.
    """
    low, high = np.zeros(len(bias), np.int64), np.zeros(len(bias), np.int64)
    for term in block_terms:
        least, most = min(values[term.value].low, 0), max(values[term.value].high, 0)
        above = np.maximum(term.weight, 0).sum((1, 2, 3))
        below = np.minimum(term.weight, 0).sum((1, 2, 3))
        low += above * least + below * most
        high += above * most + below * least
    return int((low + bias).min()), int((high + bias).max())
