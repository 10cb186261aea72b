"""What a client is told of a program: sizes and steps, no weight, no layer's name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.infer.private import client_steps
from hansa.infer.private.client_steps import MaxPool, Shift, Step, SumPool, Table
from hansa.infer.private.linear.places import Download, Upload, place_of, plain
from hansa.infer.private.program import LOGITS, Program
from hansa.infer.private.sessions.errors import ProtocolError

VERSION = 1
_LONGEST_NAME = 200
MOST = {
    "rounds": 4096, "values": 8192, "blocks": 64, "steps": 64, "table": 1 << 20,
    "numbers": 1 << 26, "polynomials": 1 << 17, "classes": 1 << 16,
}  # fmt: skip
"""An outline beyond any of these is refused, so that a server cannot fill a client's memory."""


@dataclass(frozen=True)
class Reply:
    """What comes of one block.

    Attributes:
        shape: (channels, height, width) of its accumulators.
        bits: of a two's complement integer that holds each of them.
        place: where they lie.
    """

    shape: tuple[int, int, int]
    bits: int
    place: Download


@dataclass(frozen=True)
class Made:
    """What the client makes of a reply.

    Attributes:
        reply: its number in the round.
        steps: in order.
        makes: number of the value, or -1: the logits.
    """

    reply: int
    steps: tuple[Step, ...]
    makes: int


@dataclass(frozen=True)
class Sent:
    """A value that the client sends.

    Attributes:
        shape: (channels, height, width).
        low, high: the least and the largest number.
        place: where they lie.
    """

    shape: tuple[int, int, int]
    low: int
    high: int
    place: Upload


@dataclass(frozen=True)
class Turn:
    """One round.

    Attributes:
        uploads: numbers of values.
        replies: of each block.
        made: what comes of them.
    """

    uploads: tuple[int, ...]
    replies: tuple[Reply, ...]
    made: tuple[Made, ...]


@dataclass(frozen=True)
class Outline:
    """All that a client has to know; the first value is the input.

    Attributes:
        values, turns: as in the program, by number.
        rows: the most rows of one query.
        input_shape: of a row.
        scale, offset: a row is read as round((row - offset) / scale), halves to the even.
        logits_scale: what one of a logit stands for.
        classes: what the logits stand for, where that is known.
        prepare: (factors, summands), one each or one a channel or number: what the network reads
            is an example as the data are stored times the first plus the second; None where that
            is not known.
    """

    values: tuple[Sent, ...]
    turns: tuple[Turn, ...]
    rows: int
    input_shape: tuple[int, ...]
    scale: float
    offset: tuple[float, ...]
    logits_scale: float
    classes: tuple[str, ...]
    prepare: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def prepared(self, rows: np.ndarray) -> np.ndarray:
        """Rows [n, *input_shape] as the data are stored, as the network reads them.

        Raises:
            ConfigError: it is not known how the network's data were prepared.
        """
        if self.prepare is None:
            raise ConfigError(
                "stored", True, "is not known of this network: it was compiled without its data",
                "rows as the network reads them",
            )  # fmt: skip
        sides = (-1, *(1 for _ in rows.shape[2:]))
        factors, summands = (np.asarray(part).reshape(sides) for part in self.prepare)
        return np.asarray(rows, np.float64) * factors + summands

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows [n, *input_shape] as integers int64 [n, C, H, W].

        Raises:
            ConfigError: another shape, or a number that is not finite.
        """
        into, n = self.values[0], len(rows)
        if not fits(rows.shape[1:], self.input_shape):
            raise ConfigError("rows", tuple(rows.shape), f"each row is {self.input_shape} numbers")
        real = np.asarray(rows, np.float64).reshape(n, *into.shape)
        if not np.isfinite(real).all():
            raise ConfigError("rows", None, "hold a number that is not finite", "fill it in")
        scaled = (real - np.asarray(self.offset).reshape(-1, 1, 1)) / self.scale
        return np.clip(np.rint(scaled), into.low, into.high).astype(np.int64)

    def check_places(self, n: int, plain_bits: int) -> None:
        """That everything lies within polynomials of ``n`` coefficients.

        Raises:
            ProtocolError: it does not, or numbers do not fit ``plain_bits``.
        """
        half = 1 << (plain_bits - 1)
        for one in self.values:
            if not (-half <= one.low <= one.high < half and one.place.check(n, one.shape)):
                raise ProtocolError("malformed", "an outline whose values cannot be sent")
        for reply in [reply for turn in self.turns for reply in turn.replies]:
            if reply.bits > plain_bits or not reply.place.check(n, reply.shape):
                raise ProtocolError("malformed", "an outline whose replies cannot be read")

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "version": VERSION,
            "values": [
                {"shape": list(one.shape), "low": one.low, "high": one.high,
                 "place": plain(one.place)}
                for one in self.values
            ],
            "turns": [
                {
                    "uploads": list(turn.uploads),
                    "replies": [
                        {"shape": list(one.shape), "bits": one.bits, "place": plain(one.place)}
                        for one in turn.replies
                    ],
                    "made": [
                        {"reply": one.reply, "makes": one.makes,
                         "steps": [client_steps.plain(step) for step in one.steps]}
                        for one in turn.made
                    ],
                }
                for turn in self.turns
            ],
            "rows": self.rows,
            "input_shape": list(self.input_shape),
            "scale": self.scale,
            "offset": list(self.offset),
            "logits_scale": self.logits_scale,
            "classes": list(self.classes),
            "prepare": None if self.prepare is None else [list(part) for part in self.prepare],
        }  # fmt: skip

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Outline:
        """The outline that :meth:`plain` wrote.

        Raises:
            ProtocolError: it is none, or beyond the limits.
        """
        try:
            if facts["version"] != VERSION:
                raise ProtocolError(
                    "wrong_version", f"outline {facts['version']!r}; this side reads {VERSION}"
                )
            made = cls(
                tuple(
                    Sent(_shape(one["shape"]), int(one["low"]), int(one["high"]),
                         place_of(one["place"]))
                    for one in _few(facts["values"], "values")
                ),
                tuple(_turn(one) for one in _few(facts["turns"], "rounds")),
                int(facts["rows"]),
                tuple(int(one) for one in facts["input_shape"]),
                float(facts["scale"]),
                tuple(float(one) for one in facts["offset"]),
                float(facts["logits_scale"]),
                tuple(_shown(one) for one in _few(facts["classes"], "classes")),
                _prepare(facts.get("prepare")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ProtocolError("malformed", f"an outline that cannot be read: {error}") from error
        _check(made)
        return made


def outline(
    program: Program,
    uploads: Mapping[str, Upload],
    downloads: Mapping[str, Download],
    rows: int,
) -> Outline:
    """The outline of a program whose values and blocks lie in known places."""
    number = {name: at for at, name in enumerate(program.values)}
    turns = []
    for one in program.rounds:
        at = {block.name: k for k, block in enumerate(one.blocks)}
        replies = tuple(
            Reply(
                block.shape,
                1 + max(-block.low - 1, block.high, 0).bit_length(),
                downloads[block.name],
            )
            for block in one.blocks
        )
        made = tuple(
            Made(at[act.block], act.steps, -1 if act.makes == LOGITS else number[act.makes])
            for act in one.activations
        )
        turns.append(Turn(tuple(number[name] for name in one.uploads), replies, made))
    values = tuple(
        Sent(value.shape, value.low, value.high, uploads[name])
        for name, value in program.values.items()
    )
    return Outline(
        values, tuple(turns), rows, tuple(program.input_shape), float(program.input.scale),
        tuple(float(one) for one in program.offset), float(program.logits.scale),
        tuple(program.classes), told_prepare(program),
    )  # fmt: skip


def told_prepare(program: Program) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """How a program's data were prepared, where it says so in a way that fits its input."""
    told = program.facts.get("prepare")
    if not isinstance(told, Mapping):
        return None
    made = _prepare([told["scale"], told["shift"]])
    assert made is not None
    lengths = {1, program.input_shape[0]}
    return made if lengths >= {len(part) for part in made} else None


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether rows of a shape are a network's: the same, or one of both in a line.

    Axes of one do not count. As many numbers in another order are another image.
    """
    if not shape or math.prod(shape) != math.prod(wanted):
        return False
    sizes, others = ([one for one in each if one != 1] for each in (shape, wanted))
    return sizes == others or min(len(sizes), len(others)) < 2


def _shown(name: Any) -> str:
    """A class's name from a peer, fit for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(name)[:_LONGEST_NAME])


def _prepare(told: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if told is None:
        return None
    factors, summands = (tuple(float(one) for one in part) for part in told)
    return factors, summands


def _turn(facts: Any) -> Turn:
    replies = tuple(
        Reply(_shape(one["shape"]), int(one["bits"]), place_of(one["place"]))
        for one in _few(facts["replies"], "blocks")
    )
    made = tuple(
        Made(
            int(one["reply"]),
            tuple(client_steps.step_of(step) for step in _few(one["steps"], "steps")),
            int(one["makes"]),
        )
        for one in _few(facts["made"], "blocks")
    )
    return Turn(tuple(int(one) for one in _few(facts["uploads"], "values")), replies, made)


def _few(items: Any, name: str) -> list[Any]:
    if not isinstance(items, list) or len(items) > MOST[name]:
        raise ProtocolError("too_large", f"an outline of more than {MOST[name]} {name}")
    return items


def _shape(shape: Any) -> tuple[int, int, int]:
    channels, high, wide = (int(one) for one in shape)
    if min(channels, high, wide) < 1 or channels * high * wide > MOST["numbers"]:
        raise ProtocolError("too_large", f"an outline with an image of {shape}")
    return channels, high, wide


def _check(made: Outline) -> None:
    """That what an outline says holds together, and stays within memory.

    Raises:
        ProtocolError: it does not.
    """
    if not made.values or not made.turns or not 1 <= made.rows <= 1 << 14:
        raise ProtocolError("malformed", "an outline without values or rounds")
    if len(made.offset) != made.values[0].shape[0] or not made.scale > 0:
        raise ProtocolError("malformed", "an outline whose input cannot be read")
    if not (math.isfinite(made.scale) and all(map(math.isfinite, made.offset))):
        raise ProtocolError("malformed", "an outline whose input cannot be read")
    into = made.input_shape
    if not into or min(into) < 1 or math.prod(into) != math.prod(made.values[0].shape):
        raise ProtocolError("malformed", "an outline whose input cannot be read")
    lengths = {1, into[0]}
    for part in made.prepare or ():
        if len(part) not in lengths or not all(map(math.isfinite, part)):
            raise ProtocolError("malformed", "an outline whose input cannot be prepared")
    held, shapes = {0}, {0: made.values[0].shape}
    for turn in made.turns:
        for at in turn.uploads:
            if at not in held:
                raise ProtocolError("malformed", "an outline that sends what it does not have")
            if made.values[at].place.polynomials(made.rows) > MOST["polynomials"]:
                raise ProtocolError("too_large", "an outline with too large a value")
        for reply in turn.replies:
            if not 1 <= reply.bits <= 62:
                raise ProtocolError("malformed", "an outline with numbers that are too large")
            if reply.place.polynomials(made.rows) > MOST["polynomials"]:
                raise ProtocolError("too_large", "an outline with too large a reply")
        for one in turn.made:
            if not 0 <= one.reply < len(turn.replies) or not -1 <= one.makes < len(made.values):
                raise ProtocolError("malformed", "an outline that reads what does not come")
            shape = turn.replies[one.reply].shape
            for step in one.steps:
                shape = _after(step, shape)
            if one.makes >= 0:
                held.add(one.makes)
                shapes[one.makes] = shape
    for at, shape in shapes.items():
        if made.values[at].shape != shape:
            raise ProtocolError("malformed", "an outline whose values have another size")
    if not any(one.makes == -1 for one in made.turns[-1].made):
        raise ProtocolError("malformed", "an outline without an answer")


def _after(step: Step, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape that a step makes of a shape."""
    if isinstance(step, (MaxPool, SumPool)):
        if min(*step.kernel, *step.stride) < 1 or min(step.padding) < 0:
            raise ProtocolError("malformed", "an outline with a window of no size")
        top, bottom, left, right = step.padding
        high = (shape[1] + top + bottom - step.kernel[0]) // step.stride[0] + 1
        wide = (shape[2] + left + right - step.kernel[1]) // step.stride[1] + 1
        return _shape((shape[0], high, wide))
    if isinstance(step, Shift) and not (0 <= step.bits <= 62 and step.low <= step.high):
        raise ProtocolError("malformed", "an outline that divides by no power of two")
    if isinstance(step, Table) and (
        len(step.thresholds) > MOST["table"] or len(step.values) != len(step.thresholds) + 1
    ):
        raise ProtocolError("malformed", "an outline with a table that is none")
    return shape
