"""Tables as bytes: each column in the shortest of a few codes, decided for each message.

A payload is the number of rows, and then each column: a byte that says its type and its code, how
many numbers a row has where that is not one, and the numbers. Whole numbers are written as they
are, as narrower unsigned ones, or as differences from the row before (see ``varints.py``), numbers
with a point in the narrowest format that holds them all exactly. Names do not travel: both ends
of an exchange know its columns.

All messages of an exchange are packed at once, column by column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.codec import varints
from hansa.codec.codec import Codec
from hansa.codec.messages import Messages
from hansa.codec.table_messages import TYPES, Tables, numbers, offsets

_PLAIN, _BYTE, _SHORT, _WORD, _STEPS, _HALF, _SINGLE = range(7)
_FIXED = {_BYTE: "u1", _SHORT: "u2", _WORD: "u4", _HALF: "f2", _SINGLE: "f4"}
_WIDE = 128  # in a column's first byte: a row has several numbers, and their number follows
_UNSIGNED = (_BYTE, _SHORT, _WORD)
_LIMITS = (1 << 8, 1 << 16, 1 << 32)


@register("table")
class Table(Codec):
    """Tables of typed columns: ids as differences where that is shorter, numbers exactly."""

    rounded: dict[str, Literal["float16", "float32"]] = Field(
        {}, description="columns whose numbers are rounded to a narrower format, by name"
    )
    names: tuple[str, ...] = Field(
        (), description="what the columns are called where a payload is read; none = 0, 1, ..."
    )

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        tables = _tables(rows)
        bounds, columns = self._planned(tables)
        data = np.zeros(bounds[-1], dtype=np.uint8)
        at = bounds[:-1].copy()
        counts = tables.counts.astype(np.uint64)
        varints.write(data, at, counts)
        at += varints.lengths(counts)
        for column in columns:
            at = column.write(data, at)
        whole = memoryview(data.tobytes())
        return [whole[bounds[k] : bounds[k + 1]] for k in range(len(tables))]

    def decode(self, payload: bytes | memoryview, elements: int) -> Tables:
        return self.unpack([payload], elements)

    def unpack(self, payloads: list[bytes | memoryview], elements: int) -> Tables:
        """The tables in some payloads, all of one form.

        Raises:
            WireError: a payload is no table of that many numbers a row, or not of the first's form.
        """
        bounds = offsets(np.array([memoryview(p).nbytes for p in payloads], dtype=np.int64))
        data = np.frombuffer(b"".join(payloads), np.uint8)
        return self.labelled(_unpacked(data, bounds, elements))

    def labelled(self, messages: Messages) -> Tables:
        """Tables with the columns' names as :attr:`names` says, or by their place.

        Raises:
            WireError: there are not so many columns.
        """
        tables = _tables(messages)
        names = self.names or [str(k) for k in range(len(tables.columns))]
        if len(names) != len(tables.columns):
            raise WireError(f"{len(tables.columns)} columns where {', '.join(names)} were due")
        return Tables(tables.indptr, dict(zip(names, tables.columns.values(), strict=True)))

    def size(self, rows: Messages) -> np.ndarray:
        return np.diff(self._planned(_tables(rows))[0])

    def through(self, rows: Messages) -> Tables:
        tables = _tables(rows)
        if not self.rounded:
            return tables
        self._check(tables)
        columns = {
            name: _rounded(column, self.rounded[name]) if name in self.rounded else column
            for name, column in tables.columns.items()
        }
        return Tables(tables.indptr, columns)

    def _check(self, tables: Tables) -> None:
        lacking = sorted(self.rounded.keys() - tables.columns.keys())
        if lacking:
            raise ValueError(f"no column {lacking[0]!r} to round among {', '.join(tables.columns)}")

    def _planned(self, tables: Tables) -> tuple[np.ndarray, list[_Column]]:
        """(where each payload begins and ends, its columns).

        Raises:
            ValueError: a column to round is not there, or not of numbers with a point.
        """
        self._check(tables)
        columns = [
            _Column.planned(column, tables.indptr, self.rounded.get(name))
            for name, column in tables.columns.items()
        ]
        sizes = varints.lengths(tables.counts.astype(np.uint64))
        for column in columns:
            sizes = sizes + len(column.head) + column.sizes
        return offsets(sizes), columns


def _tables(messages: Messages) -> Tables:
    if not isinstance(messages, Tables):
        raise TypeError(f"the table codec is for tables, not for {type(messages).__name__}")
    return messages


def _rounded(column: np.ndarray, narrow: str) -> np.ndarray:
    """Numbers as a narrower format holds them; infinite where they are too large for it."""
    if column.dtype.kind != "f":
        raise ValueError(f"only numbers with a point are rounded, not {column.dtype}")
    if np.dtype(narrow).itemsize >= column.dtype.itemsize:
        return column
    with np.errstate(over="ignore"):
        return column.astype(narrow).astype(column.dtype)


@dataclass(frozen=True)
class _Column:
    """One column of all messages, and how each of them writes it.

    Attributes:
        values: its numbers, flat.
        begins: int64 [n+1], where each message's numbers begin.
        head: the bytes before them; the first one still lacks the code.
        codes: uint8 [n].
        sizes: int64 [n], bytes of the numbers.
        steps: uint64, differences from the row before, folded; only of whole numbers.
    """

    values: np.ndarray
    begins: np.ndarray
    head: bytes
    codes: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray

    @classmethod
    def planned(cls, column: np.ndarray, indptr: np.ndarray, narrow: str | None) -> _Column:
        """A column whose code is the shortest for each message."""
        if narrow is not None:
            column = _rounded(column, narrow)
        k, begins = numbers(column), indptr * numbers(column)
        values, counts = column.reshape(-1), np.diff(begins)
        first = TYPES.index(column.dtype.name)
        head = bytes([first]) if k == 1 else bytes([first | _WIDE]) + varints.one(k)
        ways = {_PLAIN: counts * column.dtype.itemsize}
        steps = np.zeros(0, dtype=np.uint64)
        if column.dtype.kind == "f":
            for code in (_HALF, _SINGLE):
                if np.dtype(_FIXED[code]).itemsize < column.dtype.itemsize:
                    fits = _each(_exact(values, _FIXED[code]), begins)
                    ways[code] = np.where(fits, counts * np.dtype(_FIXED[code]).itemsize, 1 << 62)
        elif column.dtype.kind in "iu" and column.dtype.itemsize > 1:
            wide = values.astype(np.int64)
            for code, limit in zip(_UNSIGNED, _LIMITS, strict=True):
                size = np.dtype(_FIXED[code]).itemsize
                if size < column.dtype.itemsize:
                    fits = _each(wide.view(np.uint64) < limit, begins)
                    ways[code] = np.where(fits, counts * size, 1 << 62)
            steps = varints.folded(_stepwise(wide.reshape(-1, k), indptr))
            ways[_STEPS] = _sums(varints.lengths(steps), begins)
        codes = np.array([*ways], dtype=np.uint8)
        sizes = np.stack([*ways.values()])
        best = sizes.argmin(0)
        return cls(values, begins, head, codes[best], sizes.min(0), steps)

    def write(self, data: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Write head and numbers of each message from ``at`` [n] on; returns where each ends."""
        data[at] = self.head[0] | (self.codes << 4)
        for j in range(1, len(self.head)):
            data[at + j] = self.head[j]
        at = at + len(self.head)
        counts = np.diff(self.begins)
        for code in np.unique(self.codes).tolist():
            those = self.codes == code
            chosen = np.flatnonzero(np.repeat(those, counts))
            begins = at[those]
            if code == _STEPS:
                steps = self.steps[chosen]
                varints.write(data, _places(begins, counts[those], varints.lengths(steps)), steps)
                continue
            stored = self.values[chosen].astype(_FIXED.get(code, self.values.dtype), copy=False)
            _put(data, begins, counts[those], stored)
        return at + self.sizes


def _unpacked(data: np.ndarray, bounds: np.ndarray, elements: int) -> Tables:
    ends, stops = bounds[1:], varints.Stops(data)
    at = bounds[:-1].copy()
    counts, at = _one_each(stops, at, ends)
    _room(counts, at, ends)
    rows = offsets(counts)
    columns: dict[str, np.ndarray] = {}
    left = elements
    while left > 0:
        dtype, k, codes, at = _heads(data, stops, at, ends)
        left -= k
        if left < 0:
            break
        _room(counts, at, ends, k)
        values, at = _values(data, stops, at, ends, counts * k, dtype, codes, k)
        shape = (int(rows[-1]),) if k == 1 else (int(rows[-1]), k)
        columns[str(len(columns))] = values.reshape(shape)
    if left or not columns or (at != ends).any():
        raise WireError(f"no table with {elements} numbers a row")
    return Tables(rows, columns)


def _heads(
    data: np.ndarray, stops: varints.Stops, at: np.ndarray, ends: np.ndarray
) -> tuple[np.dtype, int, np.ndarray, np.ndarray]:
    """(type, numbers a row, code of each message, where their numbers begin) of a column."""
    if (at >= ends).any():
        raise WireError("a table that lacks a column")
    heads = data[at]
    kinds = heads & (_WIDE | 15)
    if len(kinds) == 0 or (kinds != kinds[0]).any() or int(kinds[0] & 15) >= len(TYPES):
        raise WireError("a column of an unknown type, or of another than in the other tables")
    dtype, k, at = np.dtype(TYPES[int(kinds[0] & 15)]), 1, at + 1
    if kinds[0] & _WIDE:
        widths, at = _one_each(stops, at, ends)
        k = int(widths[0])
        if (widths != k).any() or k < 2 or k >= 1 << 31:
            raise WireError(f"a column of {k} numbers a row")
    codes = (heads >> 4) & 7
    known = {_PLAIN}
    if dtype.kind == "f":
        known |= {c for c in (_HALF, _SINGLE) if np.dtype(_FIXED[c]).itemsize < dtype.itemsize}
    elif dtype.kind in "iu" and dtype.itemsize > 1:
        known |= {c for c in _UNSIGNED if np.dtype(_FIXED[c]).itemsize < dtype.itemsize} | {_STEPS}
    if not set(codes.tolist()) <= known:
        raise WireError(f"a column of {dtype} in an unknown code")
    return dtype, k, codes, at


def _values(
    data: np.ndarray,
    stops: varints.Stops,
    at: np.ndarray,
    ends: np.ndarray,
    counts: np.ndarray,
    dtype: np.dtype,
    codes: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(a column's numbers, where each message goes on)."""
    values = np.empty(int(counts.sum()), dtype=dtype)
    after = at.copy()
    for code in np.unique(codes).tolist():
        those = codes == code
        chosen = np.flatnonzero(np.repeat(those, counts))
        if code == _STEPS:
            after[those] = stops.skip(at[those], counts[those], ends[those])
            steps = varints.unfolded(stops.numbers(at[those], counts[those]))
            values[chosen] = _from_steps(steps.reshape(-1, k), counts[those] // k, dtype)
            continue
        stored = np.dtype(_FIXED.get(code, dtype))
        after[those] = at[those] + counts[those] * stored.itemsize
        if (after > ends).any():
            raise WireError("a table that ends within its numbers")
        taken = _get(data, at[those], counts[those], stored)
        if dtype.kind == "b" and (taken.view(np.uint8) > 1).any():
            raise WireError("a truth value that is neither 0 nor 1")
        if code in _UNSIGNED and dtype.kind == "i" and len(taken):
            _within(taken.max(), taken.max(), dtype)
        with np.errstate(invalid="ignore"):  # bits that are no number
            values[chosen] = taken.astype(dtype)
    return values, after


def _one_each(
    stops: varints.Stops, at: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(one number of each message, where they go on)."""
    one = np.ones(len(at), dtype=np.int64)
    after = stops.skip(at, one, ends)
    return varints.read(stops.data, at, after).view(np.int64), after


def _room(counts: np.ndarray, at: np.ndarray, ends: np.ndarray, k: int = 1) -> None:
    """Refuse more rows than there is a byte for each number of, before memory is reserved."""
    if (counts < 0).any() or (counts > (ends - at) // k).any():
        raise WireError("a table of more rows than it has bytes for")


def _within(least: int, most: int, dtype: np.dtype) -> None:
    if least < np.iinfo(dtype).min or most > np.iinfo(dtype).max:
        raise WireError(f"a number that {dtype} does not hold")


def _exact(values: np.ndarray, narrow: str) -> np.ndarray:
    """Which numbers a narrower format holds to the bit."""
    with np.errstate(over="ignore", invalid="ignore"):
        back = values.astype(narrow).astype(values.dtype)
    bits = f"u{values.dtype.itemsize}"
    return values.view(bits) == back.view(bits)


def _stepwise(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Differences from the row before, int64, flat; a message's first row from 0."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    firsts = indptr[:-1][np.diff(indptr) > 0]
    steps[firsts] = values[firsts]
    return steps.reshape(-1)


def _from_steps(steps: np.ndarray, counts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The numbers, flat, whose differences these are; each of ``counts`` rows begins at 0."""
    sums = steps.cumsum(0)
    before = np.concatenate([np.zeros((1, sums.shape[1]), np.int64), sums])[
        np.cumsum(counts) - counts
    ]
    values = sums - np.repeat(before, counts, axis=0)
    if dtype.itemsize < 8 and values.size:
        _within(int(values.min()), int(values.max()), dtype)
    return values.reshape(-1).astype(dtype)


def _each(true: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Whether all of a message's numbers are so, bool [n]."""
    return _sums(~true, begins) == 0


def _sums(values: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Each message's sum, int64 [n]."""
    return np.diff(offsets(values)[begins])


def _places(begins: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where each number of these lengths begins, those of one message end to end."""
    ends = offsets(lengths)
    return ends[:-1] + np.repeat(begins - ends[np.cumsum(counts) - counts], counts)


def _put(data: np.ndarray, begins: np.ndarray, counts: np.ndarray, values: np.ndarray) -> None:
    """Write numbers of fixed width, little endian."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    raw = little.view(np.uint8).reshape(len(values), values.itemsize)
    if len(begins) == 1:
        data[begins[0] : begins[0] + raw.size] = raw.reshape(-1)
        return
    at = _places(begins, counts, np.full(len(values), values.itemsize))
    data[at[:, None] + np.arange(values.itemsize)] = raw


def _get(data: np.ndarray, begins: np.ndarray, counts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Read numbers of fixed width."""
    total = int(counts.sum())
    if len(begins) == 1:
        raw = data[begins[0] : begins[0] + total * dtype.itemsize]
    else:
        at = _places(begins, counts, np.full(total, dtype.itemsize))
        raw = data[at[:, None] + np.arange(dtype.itemsize)]
    little = np.ascontiguousarray(raw).reshape(-1).view(dtype.newbyteorder("<"))
    return little.astype(dtype, copy=False)
