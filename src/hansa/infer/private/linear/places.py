"""What the client knows of where numbers lie, whatever the packing: values in, accumulators out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from hansa.infer.private.linear.layout import Axis, Landing, Placement
from hansa.infer.private.linear.packing import pack, positions, unpack

Shape = tuple[int, int, int]
MOST_PLACEMENTS = 64
MOST_NUMBERS = 1 << 28
MOST_ALONG = 1 << 16


class Upload(Protocol):
    """How a value is put into messages."""

    def polynomials(self, rows: int) -> int:
        """Ciphertexts of a batch of ``rows``."""
        ...

    def pack(self, n: int, numbers: np.ndarray) -> np.ndarray:
        """Integers int64 [rows, C, H, W] as messages int64 [k, n]."""
        ...

    def check(self, n: int, shape: Shape) -> bool:
        """Whether a value of ``shape`` can lie so: what a client believes of a server."""
        ...


class Download(Protocol):
    """How a block's accumulators are taken out of what is decrypted."""

    def polynomials(self, rows: int) -> int:
        """Ciphertexts of a batch of ``rows``."""
        ...

    def positions(self, rows: int) -> np.ndarray:
        """int64 [k, P]: coefficients that are sent and decrypted; -1: none."""
        ...

    def unpack(self, found: np.ndarray, rows: int) -> np.ndarray:
        """What stands at the positions, int64 [k, P], as accumulators [rows, C, H, W]."""
        ...

    def check(self, n: int, shape: Shape) -> bool:
        """Whether accumulators of ``shape`` can lie so: what a client believes of a server."""
        ...


@dataclass(frozen=True)
class ChannelUpload:
    """Channels side by side in polynomials.

    Attributes:
        placements: of the value, one or, where its readers differ too much, more.
    """

    placements: tuple[Placement, ...]

    def polynomials(self, rows: int) -> int:
        return rows * sum(one.polynomials for one in self.placements)

    def pack(self, n: int, numbers: np.ndarray) -> np.ndarray:
        none = np.zeros((0, n), np.int64)
        return np.concatenate([none, *(pack(one, n, numbers) for one in self.placements)])

    def check(self, n: int, shape: Shape) -> bool:
        return len(self.placements) <= MOST_PLACEMENTS and all(
            one.channels == shape[0]
            and one.together * one.plane <= n
            and one.columns.count <= one.width
            and (one.rows.count - 1) * one.width + one.columns.count <= one.plane
            and len(one.phases) <= one.rows.cut * one.columns.cut
            and all(0 <= a < one.rows.cut and 0 <= b < one.columns.cut for a, b in one.phases)
            and all(_reach(axis, size) for axis, size in _axes(one, shape))
            and one.channels * one.tiles * one.rows.count * one.width <= MOST_NUMBERS
            for one in self.placements
        )


@dataclass(frozen=True)
class ChannelDownload:
    """Channels side by side in polynomials.

    Attributes:
        landing: of the block.
    """

    landing: Landing

    def polynomials(self, rows: int) -> int:
        return rows * self.landing.polynomials

    def positions(self, rows: int) -> np.ndarray:
        one = positions(self.landing)
        return np.tile(one, (rows, 1))

    def unpack(self, found: np.ndarray, rows: int) -> np.ndarray:
        return unpack(self.landing, found)

    def check(self, n: int, shape: Shape) -> bool:
        one = self.landing
        last = (one.rows.count - 1) * one.width + one.columns.count
        return (
            one.shape == shape
            and (one.together - 1) * one.spacing + last <= n
            and all(_reach(axis, size) for axis, size in _axes(one, shape))
            and all(axis.tiles * axis.count * axis.cut >= size for axis, size in _axes(one, shape))
            and one.tiles * one.groups * one.together * last <= MOST_NUMBERS
        )


@dataclass(frozen=True)
class BatchUpload:
    """A ciphertext a number; row r of the batch in coefficient r.

    Attributes:
        shape: of the value.
    """

    shape: Shape

    def polynomials(self, rows: int) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def pack(self, n: int, numbers: np.ndarray) -> np.ndarray:
        messages = np.zeros((self.polynomials(len(numbers)), n), np.int64)
        messages[:, : len(numbers)] = numbers.reshape(len(numbers), -1).T
        return messages

    def check(self, n: int, shape: Shape) -> bool:
        return self.shape == shape


@dataclass(frozen=True)
class BatchDownload:
    """A ciphertext a number; row r of the batch in coefficient r.

    Attributes:
        shape: of the block.
    """

    shape: Shape

    def polynomials(self, rows: int) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def positions(self, rows: int) -> np.ndarray:
        return np.tile(np.arange(rows), (self.polynomials(rows), 1))

    def unpack(self, found: np.ndarray, rows: int) -> np.ndarray:
        return np.ascontiguousarray(found.T).reshape(rows, *self.shape)

    def check(self, n: int, shape: Shape) -> bool:
        return self.shape == shape


@dataclass(frozen=True)
class RowUpload:
    """Numbers one after the other.

    Attributes:
        shape: of the value.
        n: coefficients of a polynomial.
    """

    shape: Shape
    n: int

    def polynomials(self, rows: int) -> int:
        return rows * -(-self.shape[0] * self.shape[1] * self.shape[2] // self.n)

    def pack(self, n: int, numbers: np.ndarray) -> np.ndarray:
        rows = len(numbers)
        messages = np.zeros((rows, self.polynomials(1) * n), np.int64)
        messages[:, : numbers[0].size] = numbers.reshape(rows, -1)
        return messages.reshape(-1, n)

    def check(self, n: int, shape: Shape) -> bool:
        return self.shape == shape and self.n == n


@dataclass(frozen=True)
class RowDownload:
    """Numbers that a tree has packed, evenly apart.

    Attributes:
        shape: of the block.
        n: coefficients of a polynomial.
        together: numbers of a ciphertext.
    """

    shape: Shape
    n: int
    together: int

    def polynomials(self, rows: int) -> int:
        return rows * -(-self._count // self.together)

    @property
    def _count(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def positions(self, rows: int) -> np.ndarray:
        at = np.arange(self.polynomials(1) * self.together)
        inside = at % self.together * (self.n >> (self.together - 1).bit_length())
        held = np.where(at < self._count, inside, -1)
        return np.tile(held.reshape(-1, self.together), (rows, 1))

    def unpack(self, found: np.ndarray, rows: int) -> np.ndarray:
        kept = found.reshape(rows, -1)[:, : self._count]
        return np.ascontiguousarray(kept).reshape(rows, *self.shape)

    def check(self, n: int, shape: Shape) -> bool:
        return self.shape == shape and self.n == n and self.together <= n


KINDS: dict[str, type[Any]] = {
    "channel_up": ChannelUpload,
    "channel_down": ChannelDownload,
    "batch_up": BatchUpload,
    "batch_down": BatchDownload,
    "row_up": RowUpload,
    "row_down": RowDownload,
}


def plain(place: Upload | Download) -> dict[str, Any]:
    """A place as JSON can hold it; values bear no names, which may be those of layers."""
    kind = next(name for name, one in KINDS.items() if type(place) is one)
    facts: dict[str, Any] = {"kind": kind, **asdict(place)}  # type: ignore[call-overload]
    for one in facts.get("placements", ()):
        del one["value"]
    return facts


def place_of(facts: Any) -> Any:
    """The place that :func:`plain` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    kind = facts["kind"]
    if kind == "channel_up":
        return ChannelUpload(tuple(_placement(one) for one in facts["placements"]))
    if kind == "channel_down":
        facts = facts["landing"]
        return ChannelDownload(
            Landing(
                _three(facts["shape"]), _axis(facts["rows"]), _axis(facts["columns"]),
                _one(facts["width"]), _one(facts["spacing"]), _one(facts["together"]),
            )
        )  # fmt: skip
    if kind == "row_up":
        return RowUpload(_three(facts["shape"]), _one(facts["n"]))
    if kind == "row_down":
        return RowDownload(_three(facts["shape"]), _one(facts["n"]), _one(facts["together"]))
    return KINDS[kind](_three(facts["shape"]))


def _placement(facts: Any) -> Placement:
    return Placement(
        "", _one(facts["channels"]), _axis(facts["rows"]),
        _axis(facts["columns"]), tuple((int(a), int(b)) for a, b in facts["phases"]),
        _one(facts["width"]), _one(facts["plane"]), _one(facts["together"]),
    )  # fmt: skip


def _axis(facts: Any) -> Axis:
    start = int(facts["start"])
    return Axis(
        _one(facts["cut"]), _one(facts["tile"]), _one(facts["tiles"]), start, _one(facts["count"])
    )


def _axes(one: Placement | Landing, shape: Shape) -> tuple[tuple[Axis, int], ...]:
    return (one.rows, shape[1]), (one.columns, shape[2])


def _reach(axis: Axis, size: int) -> bool:
    """Whether an axis of ``size`` numbers can be cut so, and padding stays within memory."""
    reach = ((axis.tiles - 1) * axis.tile + axis.count) * axis.cut
    return -MOST_ALONG <= axis.start * axis.cut <= 0 and reach <= size + MOST_ALONG


def _one(number: Any) -> int:
    if type(number) is not int or number < 1:
        raise ValueError(f"{number!r} is no size")
    return number


def _three(shape: Any) -> Shape:
    channels, high, wide = (_one(one) for one in shape)
    return channels, high, wide
