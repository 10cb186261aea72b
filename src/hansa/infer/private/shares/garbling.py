"""Garbling with half gates and free XOR, all instances of a circuit at once.

Zahur, Rosulek, Evans, *Two Halves Make a Whole* (2015). A wire has two labels of 128 bits that
differ by the garbler's secret ``delta``, whose lowest bit is one, so that the lowest bits of labels
point. An AND of two unknown bits is two blocks, an AND of a bit that the garbler knows is the
garbler's half gate alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.infer.private.shares.circuit import KNOWN_AND, XOR, Circuit
from hansa.infer.private.shares.hashing import LabelHash
from hansa.infer.private.shares.step_circuits import StepCircuits

CHUNK = 4096
"""Instances whose wires are held at a time: within the cache, and bounded memory."""


def points(labels: np.ndarray) -> np.ndarray:
    """The lowest bits of labels uint64 [..., 2], as uint64 [...]."""
    return labels[..., 0] & np.uint64(1)


def where(bits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels where bits uint64 [...] are one, else zeros: without a branch."""
    return labels & (np.uint64(0) - bits)[..., None]


class _Tweaks:
    """Numbers that no two hashes of a garbling share."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> np.ndarray:
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.uint64)


class Garbler:
    """Garbles stage after stage under one secret.

    Args:
        delta: uint64 [2], the lowest bit one.
    """

    def __init__(self, delta: np.ndarray, key: bytes) -> None:
        self.delta = delta
        self._hash = LabelHash(key)
        self._tweaks = _Tweaks()

    def circuit(
        self, circuit: Circuit, open_zero: np.ndarray, known_zero: np.ndarray, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Garbles instances.

        Args:
            open_zero: uint64 [n, open inputs, 2], the labels of zero.
            known_zero: uint64 [n, known inputs, 2].
            known: bool [n, known inputs], the garbler's bits.

        Returns:
            blocks uint64 [blocks, n, 2], and the labels of zero of the outputs [n, outputs, 2].
        """
        n = len(open_zero)
        blocks = np.empty((circuit.blocks, n, 2), np.uint64)
        outputs = np.empty((n, len(circuit.outputs), 2), np.uint64)
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            inputs = open_zero[part], known_zero[part], known[part]
            self._chunk(circuit, inputs, blocks[:, part], outputs[part])
        return blocks, outputs

    def _chunk(
        self,
        circuit: Circuit,
        inputs: tuple[np.ndarray, np.ndarray, np.ndarray],
        blocks: np.ndarray,
        outputs: np.ndarray,
    ) -> None:
        open_zero, known_zero, known = inputs
        n = len(open_zero)
        zero: dict[int, np.ndarray] = {0: np.zeros((n, 2), np.uint64)}
        bits: dict[int, np.ndarray] = {0: np.zeros(n, np.uint64)}
        zero |= {wire: open_zero[:, i] for i, wire in enumerate(circuit.open_inputs)}
        zero |= {wire: known_zero[:, i] for i, wire in enumerate(circuit.known_inputs)}
        bits |= {wire: known[:, i].astype(np.uint64) for i, wire in enumerate(circuit.known_inputs)}

        def read(literal: int) -> np.ndarray:
            plain = zero[literal >> 1]
            return plain ^ self.delta if literal & 1 else plain

        at = 0
        for gate in circuit.gates:
            if gate.kind == XOR:
                one, two = gate.left >> 1, gate.right >> 1
                zero[gate.out] = zero[one] ^ zero[two]
                if one in bits and two in bits:
                    bits[gate.out] = bits[one] ^ bits[two]
                continue
            right = read(gate.right)
            point = points(right)
            if gate.kind == KNOWN_AND:
                tweaks = self._tweaks.take(n)
                hashed = self._hash(
                    np.stack([right, right ^ self.delta]), np.stack([tweaks, tweaks])
                )
                bit = bits[gate.left >> 1] ^ np.uint64(gate.left & 1)
                row = hashed[0] ^ hashed[1] ^ where(bit, self.delta[None])
                zero[gate.out] = hashed[0] ^ where(point, row)
                blocks[at] = row
                at += 1
                continue
            left = read(gate.left)
            first, second = self._tweaks.take(n), self._tweaks.take(n)
            hashed = self._hash(
                np.stack([left, left ^ self.delta, right, right ^ self.delta]),
                np.stack([first, first, second, second]),
            )
            row = hashed[0] ^ hashed[1] ^ where(point, self.delta[None])
            column = hashed[2] ^ hashed[3] ^ left
            zero[gate.out] = (
                hashed[0] ^ where(points(left), row) ^ hashed[2] ^ where(point, column ^ left)
            )
            blocks[at], blocks[at + 1] = row, column
            at += 2
        for place, literal in enumerate(circuit.outputs):
            outputs[:, place] = read(literal)


class Evaluator:
    """Evaluates stage after stage what a :class:`Garbler` garbled."""

    def __init__(self, key: bytes) -> None:
        self._hash = LabelHash(key)
        self._tweaks = _Tweaks()

    def circuit(
        self,
        circuit: Circuit,
        open_active: np.ndarray,
        known_active: np.ndarray,
        blocks: np.ndarray,
    ) -> np.ndarray:
        """Active labels of the outputs uint64 [n, outputs, 2], of active labels of the inputs."""
        n = len(open_active)
        outputs = np.empty((n, len(circuit.outputs), 2), np.uint64)
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            inputs = open_active[part], known_active[part]
            self._chunk(circuit, inputs, blocks[:, part], outputs[part])
        return outputs

    def _chunk(
        self,
        circuit: Circuit,
        inputs: tuple[np.ndarray, np.ndarray],
        blocks: np.ndarray,
        outputs: np.ndarray,
    ) -> None:
        open_active, known_active = inputs
        n = len(open_active)
        active: dict[int, np.ndarray] = {0: np.zeros((n, 2), np.uint64)}
        active |= {wire: open_active[:, i] for i, wire in enumerate(circuit.open_inputs)}
        active |= {wire: known_active[:, i] for i, wire in enumerate(circuit.known_inputs)}
        at = 0
        for gate in circuit.gates:
            left, right = active[gate.left >> 1], active[gate.right >> 1]
            if gate.kind == XOR:
                active[gate.out] = left ^ right
                continue
            if gate.kind == KNOWN_AND:
                hashed = self._hash(right, self._tweaks.take(n))
                active[gate.out] = hashed ^ where(points(right), blocks[at])
                at += 1
                continue
            tweaks = np.stack([self._tweaks.take(n), self._tweaks.take(n)])
            hashed = self._hash(np.stack([left, right]), tweaks)
            row, column = blocks[at], blocks[at + 1]
            active[gate.out] = (
                hashed[0]
                ^ where(points(left), row)
                ^ hashed[1]
                ^ where(points(right), column ^ left)
            )
            at += 2
        for place, literal in enumerate(circuit.outputs):
            outputs[:, place] = active[literal >> 1]


def known_bits(steps: StepCircuits, masks: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    """The garbler's bits bool [n, inputs] of every group in order.

    Args:
        masks: bool [accumulators, masked bits].
        shares: bool [results, share bits].
    """
    out = []
    for place, stage in enumerate(steps.stages):
        last = place == len(steps.stages) - 1
        for group in stage.groups:
            parts = [masks[group.reads[:, 0]]] if place == 0 else []
            if last and steps.share_bits:
                parts.append(shares[group.makes])
            empty = np.zeros((len(group.makes), 0), bool)
            out.append(np.concatenate([empty, *parts], 1))
    return out


def garble(
    garbler: Garbler,
    steps: StepCircuits,
    client_zero: np.ndarray,
    known_active: Sequence[np.ndarray],
    known: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], np.ndarray]:
    """Garbles all stages of an activation.

    Args:
        client_zero: uint64 [accumulators, masked bits, 2].
        known_active: of every group uint64 [n, inputs, 2]: what the evaluator will hold.
        known: of every group bool [n, inputs].

    Returns:
        of every group its blocks; the points of the results' labels of zero, uint64 [n, width].
    """
    blocks, flat, k = [], client_zero, 0
    for stage in steps.stages:
        made = np.zeros((stage.count, stage.width, 2), np.uint64)
        for group in stage.groups:
            zero = known_active[k] ^ where(known[k].astype(np.uint64), garbler.delta[None, None])
            some, made[group.makes] = garbler.circuit(
                group.circuit, _gathered(flat, group.reads), zero, known[k]
            )
            blocks.append(some)
            k += 1
        flat = made
    return blocks, points(flat)


def evaluate(
    evaluator: Evaluator,
    steps: StepCircuits,
    client_active: np.ndarray,
    known_active: Sequence[np.ndarray],
    blocks: Sequence[np.ndarray],
) -> np.ndarray:
    """The points of the results' active labels, uint64 [n, width]: XOR those of :func:`garble`."""
    flat, k = client_active, 0
    for stage in steps.stages:
        made = np.zeros((stage.count, stage.width, 2), np.uint64)
        for group in stage.groups:
            made[group.makes] = evaluator.circuit(
                group.circuit, _gathered(flat, group.reads), known_active[k], blocks[k]
            )
            k += 1
        flat = made
    return points(flat)


def _gathered(flat: np.ndarray, reads: np.ndarray) -> np.ndarray:
    """Labels [instances, operands * width, 2] of labels [count, width, 2]."""
    instances, operands = reads.shape
    return flat[reads].reshape(instances, operands * flat.shape[1], 2)
