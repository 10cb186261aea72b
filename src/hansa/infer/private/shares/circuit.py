"""Boolean circuits of XOR and AND gates, and their plain evaluation.

A *literal* is twice a wire's number, plus one if the wire is inverted; wire 0 is the constant
false, so that literal 0 is false and literal 1 true. XOR and inversion cost nothing in a garbled
circuit with free XOR (Kolesnikov, Schneider, 2008), AND costs two blocks of 16 bytes, and AND with
a bit that the garbler knows one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FALSE, TRUE = 0, 1
XOR, AND, KNOWN_AND = 0, 1, 2
"""Kinds of gates; the first input of ``KNOWN_AND`` is one that the garbler knows."""


@dataclass(frozen=True)
class Gate:
    """``out`` = left (kind) right.

    Attributes:
        left, right: literals; those of an XOR are never inverted.
        out: a wire.
    """

    kind: int
    left: int
    right: int
    out: int


@dataclass(frozen=True)
class Circuit:
    """Gates in an order in which they can be evaluated.

    Attributes:
        wires: how many, the constant with them.
        open_inputs: wires whose bits the garbler does not know, in order.
        known_inputs: wires of the garbler.
        outputs: literals.
    """

    wires: int
    open_inputs: tuple[int, ...]
    known_inputs: tuple[int, ...]
    gates: tuple[Gate, ...]
    outputs: tuple[int, ...]

    @property
    def ands(self) -> int:
        """How many AND gates of two unknown bits."""
        return sum(gate.kind == AND for gate in self.gates)

    @property
    def known_ands(self) -> int:
        """How many AND gates of a bit that the garbler knows."""
        return sum(gate.kind == KNOWN_AND for gate in self.gates)

    @property
    def blocks(self) -> int:
        """Blocks of 16 bytes that one garbled instance takes."""
        return 2 * self.ands + self.known_ands


class Builder:
    """Makes a circuit gate by gate; folds constants and repeats, and drops what nothing reads."""

    def __init__(self) -> None:
        self._count = 1
        self._gates: list[Gate] = []
        self._made: dict[tuple[int, int, int], int] = {}
        self._open: list[int] = []
        self._known: list[int] = []
        self._garblers: set[int] = {0}

    def _wire(self) -> int:
        self._count += 1
        return self._count - 1

    def open_inputs(self, count: int) -> list[int]:
        """Literals of fresh inputs that the garbler does not know."""
        wires = [self._wire() for _ in range(count)]
        self._open += wires
        return [2 * wire for wire in wires]

    def known_inputs(self, count: int) -> list[int]:
        """Literals of fresh inputs of the garbler."""
        wires = [self._wire() for _ in range(count)]
        self._known += wires
        self._garblers |= set(wires)
        return [2 * wire for wire in wires]

    def _gate(self, kind: int, left: int, right: int) -> int:
        key = (kind, left, right)
        if key not in self._made:
            out = self._wire()
            self._gates.append(Gate(kind, left, right, out))
            self._made[key] = 2 * out
        return self._made[key]

    def xor(self, left: int, right: int) -> int:
        """Exclusive or."""
        inverted = (left ^ right) & 1
        low, high = sorted((left & ~1, right & ~1))
        if low == high:
            return inverted
        if low == FALSE:
            return high ^ inverted
        out = self._gate(XOR, low, high)
        if {low >> 1, high >> 1} <= self._garblers:
            self._garblers.add(out >> 1)
        return out ^ inverted

    def conjunction(self, left: int, right: int) -> int:
        """Logical and."""
        low, high = sorted((left, right))
        if low == FALSE or low ^ 1 == high:
            return FALSE
        if low in (TRUE, high):
            return high
        if low >> 1 in self._garblers:
            return self._gate(KNOWN_AND, low, high)
        if high >> 1 in self._garblers:
            return self._gate(KNOWN_AND, high, low)
        return self._gate(AND, low, high)

    def disjunction(self, left: int, right: int) -> int:
        """Logical or."""
        return self.conjunction(left ^ 1, right ^ 1) ^ 1

    def choose(self, which: int, one: int, zero: int) -> int:
        """``one`` where ``which`` holds, else ``zero``."""
        return self.xor(zero, self.conjunction(which, self.xor(one, zero)))

    def carry(self, left: int, right: int, carried: int) -> int:
        """The majority of three bits."""
        for one, two, three in (
            (left, right, carried),
            (right, left, carried),
            (carried, left, right),
        ):
            if one == FALSE:
                return self.conjunction(two, three)
            if one == TRUE:
                return self.disjunction(two, three)
        both = self.conjunction(self.xor(left, carried), self.xor(right, carried))
        return self.xor(carried, both)

    def circuit(self, outputs: Sequence[int]) -> Circuit:
        """What computes ``outputs``, without the gates that they do not need."""
        needed = {literal >> 1 for literal in outputs}
        kept: list[Gate] = []
        for gate in reversed(self._gates):
            if gate.out in needed:
                kept.append(gate)
                needed |= {gate.left >> 1, gate.right >> 1}
        return Circuit(
            self._count,
            tuple(self._open),
            tuple(self._known),
            tuple(reversed(kept)),
            tuple(outputs),
        )


def evaluate(circuit: Circuit, open_bits: np.ndarray, known_bits: np.ndarray) -> np.ndarray:
    """Outputs bool [n, outputs] of bits bool [n, open inputs] and [n, known inputs]."""
    n = len(open_bits)
    wires = np.zeros((circuit.wires, n), bool)
    wires[list(circuit.open_inputs)] = open_bits.T
    wires[list(circuit.known_inputs)] = known_bits.T

    def read(literal: int) -> np.ndarray:
        return wires[literal >> 1] ^ bool(literal & 1)

    for gate in circuit.gates:
        left, right = read(gate.left), read(gate.right)
        wires[gate.out] = left ^ right if gate.kind == XOR else left & right
    return np.array([read(literal) for literal in circuit.outputs], bool).reshape(-1, n).T
