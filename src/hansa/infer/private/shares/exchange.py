"""What both sides of mode ``shares`` know of a query: circuits, sizes, and how messages are read.

A round is two requests: ciphertexts of the client's shares, answered by masked ciphertexts, and a
request for the labels of what was decrypted, answered by garbled circuits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.infer.private.rlwe.profiles import Profile, profile
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.messages import reply_bytes, upload_bytes
from hansa.infer.private.sessions.outline import Outline, Turn
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.shares.base_transfer import COUNT, SIZE
from hansa.infer.private.shares.extension import request_size
from hansa.infer.private.shares.hashing import derive, labels
from hansa.infer.private.shares.step_circuits import (
    NotInCircuits,
    StepCircuits,
    guard_bits,
    step_circuits,
)

KEY_BYTES = 16


@dataclass(frozen=True)
class TurnCircuits:
    """One round's circuits, of each activation in order."""

    steps: tuple[StepCircuits, ...]

    @property
    def transfers(self) -> int:
        """Bits that the client asks labels for."""
        return sum(one.count * one.masked_bits for one in self.steps)

    @property
    def outputs(self) -> int:
        """Bits that come out."""
        return sum(one.stages[-1].count * one.stages[-1].width for one in self.steps)

    @property
    def blocks(self) -> int:
        """Blocks of 16 bytes of garbled gates."""
        return sum(one.blocks for one in self.steps)

    @property
    def tables_bytes(self) -> int:
        """Size of the second reply: a key, corrections, gates, decoding bits."""
        return KEY_BYTES + 16 * (self.transfers + self.blocks) + -(-self.outputs // 8)


def circuits(outline: Outline, scheme: Scheme) -> tuple[TurnCircuits, ...]:
    """The circuits of every round, which follow from what the client is told alone.

    Raises:
        ConfigError: a step that circuits do not do.
    """
    turns = []
    for number, turn in enumerate(outline.turns):
        made = []
        for one in turn.made:
            answer = one.makes < 0
            reply = turn.replies[one.reply]
            try:
                made.append(
                    step_circuits(
                        one.steps,
                        reply.shape,
                        reply.bits,
                        0 if answer else scheme.plain_bits,
                        guard=guard_bits(scheme.plain_bits),
                        largest=answer and scheme.reveals == "class",
                    )
                )
            except NotInCircuits as error:
                raise ConfigError(
                    "scheme.mode",
                    scheme.mode,
                    f"round {number + 1} takes {error}",
                    "ReLU networks with power-of-two requantization, or mode: shuffle",
                ) from error
        turns.append(TurnCircuits(tuple(made)))
    return tuple(turns)


@dataclass(frozen=True)
class Sizes:
    """Bytes of every message of a query, known before any is sent.

    Attributes:
        requests, replies: in order of the steps.
    """

    requests: tuple[int, ...]
    replies: tuple[int, ...]


def sizes(outline: Outline, scheme: Scheme, turns: Sequence[TurnCircuits]) -> Sizes:
    """Of one query of one row."""
    ring, requests, replies = profile(scheme.profile), [], []
    for turn, circuit in zip(outline.turns, turns, strict=True):
        requests += [upload_bytes(ring, ciphertexts(outline, turn))]
        replies += [reply_bytes(ring, [one.place for one in turn.replies], 1, scheme.word_bits)]
        requests += [request_size(circuit.transfers)]
        replies += [circuit.tables_bytes]
    return Sizes(tuple(requests), tuple(replies))


def opening_sizes(ring: Profile) -> tuple[int, int]:
    """Request and reply: the public key and one point, then two points a base transfer."""
    return ring.polynomial_bytes + SIZE, 2 * COUNT * SIZE


def ciphertexts(outline: Outline, turn: Turn) -> int:
    """Polynomials that a round uploads."""
    return sum(outline.values[at].place.polynomials(1) for at in turn.uploads)


def masked_numbers(words: np.ndarray, scheme: Scheme) -> np.ndarray:
    """Words rounded to ``plain_bits`` and the guard bits, as int64."""
    kept = scheme.plain_bits + guard_bits(scheme.plain_bits)
    lost = scheme.word_bits - kept
    half = (1 << lost) >> 1
    rounded: np.ndarray = ((words.astype(np.int64) + half) >> lost) & ((1 << kept) - 1)
    return rounded


def domain(query: int, step: int, before: bytes) -> bytes:
    """What sets one extension apart: its step, and the reply whose numbers it asks labels for.

    A server that answers a repeated query otherwise gets other columns, not the same ones under
    other bits.
    """
    return derive(before, "extension", query, step)


def hash_keys(key: bytes) -> tuple[bytes, bytes, bytes]:
    """Of a reply's public key: those of the transfers' hash, the gates' hash, the known labels."""
    return (
        derive(key, "transfer hash", size=16),
        derive(key, "gate hash", size=16),
        derive(key, "known labels", size=16),
    )


def known_labels(key: bytes, turn: TurnCircuits) -> list[list[np.ndarray]]:
    """The evaluator's labels of the garbler's inputs, of every group of every activation.

    They are uniform whatever the garbler's bits are, so that a key makes them: none is sent.
    """
    made = []
    for at, steps in enumerate(turn.steps):
        groups = [group for stage in steps.stages for group in stage.groups]
        made.append(
            [
                labels(
                    derive(key, at, number, size=16),
                    len(group.makes),
                    len(group.circuit.known_inputs),
                )
                for number, group in enumerate(groups)
            ]
        )
    return made


def write_tables(
    key: bytes,
    corrections: np.ndarray,
    blocks: Sequence[np.ndarray],
    decoding: Sequence[np.ndarray],
) -> bytes:
    """The second reply."""
    bits = np.concatenate([one.reshape(-1) for one in decoding]).astype(bool)
    parts = [corrections, *blocks]
    return b"".join(
        [
            key,
            *(one.astype("<u8").tobytes() for one in parts),
            np.packbits(bits, bitorder="little").tobytes(),
        ]
    )


@dataclass(frozen=True)
class Tables:
    """The second reply as it was read.

    Attributes:
        key: public, of hashes and of known labels.
        corrections: uint64 [transfers, 2].
        blocks: of every group of every activation, uint64 [blocks, n, 2].
        decoding: of every activation, uint8 [results, width].
    """

    key: bytes
    corrections: np.ndarray
    blocks: list[list[np.ndarray]]
    decoding: list[np.ndarray]


def read_tables(turn: TurnCircuits, payload: bytes) -> Tables:
    """What :func:`write_tables` wrote.

    Raises:
        ProtocolError: a reply of another size.
    """
    if len(payload) != turn.tables_bytes:
        raise ProtocolError(
            "malformed", f"the reply has {len(payload)} bytes, not {turn.tables_bytes}"
        )
    words = np.frombuffer(payload, "<u8", 2 * (turn.transfers + turn.blocks), KEY_BYTES)
    numbers = words.astype(np.uint64).reshape(-1, 2)
    corrections, at, blocks = numbers[: turn.transfers], turn.transfers, []
    for steps in turn.steps:
        some = []
        for stage in steps.stages:
            for group in stage.groups:
                count, n = group.circuit.blocks, len(group.makes)
                some.append(numbers[at : at + count * n].reshape(count, n, 2))
                at += count * n
        blocks.append(some)
    packed = np.frombuffer(payload, np.uint8, offset=KEY_BYTES + 8 * len(words))
    bits, at, decoding = np.unpackbits(packed, count=turn.outputs, bitorder="little"), 0, []
    for steps in turn.steps:
        shape = (steps.stages[-1].count, steps.stages[-1].width)
        decoding.append(bits[at : at + shape[0] * shape[1]].reshape(shape))
        at += shape[0] * shape[1]
    return Tables(payload[:KEY_BYTES], corrections, blocks, decoding)
