"""The layers that the red team attacks: made ones of the usual shapes, or those of a program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.base.streams import Streams
from hansa.infer.private.program import Block, Program, Term, Value, bounds

_SPREAD = 16.0
"""Standard deviation of a made layer's weights, which 8 bits hold."""


@dataclass(frozen=True, eq=False)
class Target:
    """A layer under attack.

    Attributes:
        name: in tables.
        value: what the client uploads to it.
        term: its convolution.
        bias: int64 [O].
        last: its accumulators are the network's answer, and in their own order.
    """

    name: str
    value: Value
    term: Term
    bias: np.ndarray
    last: bool = False

    @property
    def weights(self) -> np.ndarray:
        """int64 [O, C, kh, kw], what the attack is after."""
        return self.term.weight

    @property
    def kind(self) -> str:
        """``convolution``, ``matrix`` (one output a channel) or ``last``."""
        if self.last:
            return "last"
        return "matrix" if self.block.shape[1:] == (1, 1) else "convolution"

    @property
    def block(self) -> Block:
        """As a program has it."""
        low, high = bounds((self.term,), self.bias, {self.value.name: self.value})
        shape = self.term.output_shape(self.value.shape)
        return Block(self.name, (self.term,), self.bias, shape, low, high, 1.0)

    @property
    def plain_bits(self) -> int:
        """Bits that hold every accumulator."""
        return 1 + max(-self.block.low - 1, self.block.high).bit_length()

    @property
    def told(self) -> int:
        """Equations that one query tells."""
        return int(np.prod(self.block.shape))

    @property
    def unknown(self) -> int:
        """Weights and biases."""
        return self.weights.size + self.bias.size


SHAPES: dict[str, tuple[int, int, int, int]] = {
    "conv_3": (3, 16, 32, 3),
    "conv_16": (16, 16, 32, 3),
    "conv_32": (32, 32, 16, 3),
    "conv_64": (64, 64, 8, 3),
    "matrix": (144, 32, 1, 1),
    "last": (64, 10, 1, 1),
}
"""(channels in, channels out, side of the image, side of the kernel) of the made layers."""


def made_target(name: str, seed: int) -> Target:
    """A layer with weights of a seed."""
    ins, outs, side, kernel = SHAPES[name]
    draw = Streams(seed).numpy(f"weights of {name}")
    drawn = draw.normal(0, _SPREAD, (outs, ins, kernel, kernel))
    weight = np.clip(np.rint(drawn), -127, 127).astype(np.int64)
    pad = kernel // 2
    term = Term("input", weight, padding=(pad, pad, pad, pad))
    bias = draw.integers(-500, 501, outs)
    value = Value("input", (ins, side, side), 0, 127, 1.0)
    return Target(name, value, term, bias, name == "last")


def targets_of(program: Program) -> list[Target]:
    """The layers of a program that are one convolution of one value, without groups."""
    made = []
    for one in program.rounds:
        for block in one.blocks:
            if len(block.terms) == 1 and block.terms[0].groups == 1:
                term = block.terms[0]
                value = program.values[term.value]
                last = block is program.logits
                made.append(Target(block.name, value, term, block.bias, last))
    return made
