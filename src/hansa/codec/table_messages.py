"""Messages that are tables: rows of typed columns of ids and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import WireError

TYPES = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "bool",
)  # fmt: skip
"""What a column may hold; a type's place here is its code on the wire."""


@dataclass(frozen=True, eq=False)
class Tables:
    """n messages, each a table with the same columns and its own number of rows.

    Attributes:
        indptr: int64 [n+1]; the k-th table's rows are ``indptr[k]:indptr[k+1]``.
        columns: by name, [rows] or [rows, k], of one of :data:`TYPES`; at least one. Rows keep
            their sender's order.

    Raises:
        ValueError: a column is of another type or length.
    """

    indptr: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        rows = int(self.indptr[-1])
        if not self.columns:
            raise ValueError("a table has at least one column")
        for name, column in self.columns.items():
            if column.dtype.name not in TYPES or not column.dtype.isnative:
                raise ValueError(f"column {name!r} is of {column.dtype}, not of {', '.join(TYPES)}")
            shape = list(column.shape)
            if len(shape) not in (1, 2) or shape[0] != rows or shape[1:] == [0]:
                raise ValueError(f"column {name!r} is {shape} where there are {rows} rows")

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts(self) -> np.ndarray:
        """int64 [n]: how many rows each table has."""
        return np.diff(self.indptr)

    @property
    def form(self) -> tuple[tuple[str, int], ...]:
        """(type, numbers a row) of each column."""
        return tuple((c.dtype.name, numbers(c)) for c in self.columns.values())

    @property
    def width(self) -> int:
        """Numbers in a row of a table."""
        return sum(k for _, k in self.form)

    def table(self, k: int) -> dict[str, np.ndarray]:
        """The columns of one message, not copied."""
        span = slice(int(self.indptr[k]), int(self.indptr[k + 1]))
        return {name: column[span] for name, column in self.columns.items()}

    def select(self, which: np.ndarray) -> Tables:
        """The messages at these indices."""
        indptr = offsets(self.counts[which])
        rows = np.arange(indptr[-1]) + np.repeat(self.indptr[which] - indptr[:-1], np.diff(indptr))
        return Tables(indptr, {name: column[rows] for name, column in self.columns.items()})

    @classmethod
    def of(cls, tables: Sequence[Mapping[str, np.ndarray]]) -> Tables:
        """One message a table; at least one table.

        Raises:
            ValueError: they differ in columns, or a column in length.
        """
        if any(t.keys() != tables[0].keys() for t in tables):
            raise ValueError("the tables of one exchange have the same columns")
        if any(len({len(c) for c in t.values()}) > 1 for t in tables):
            raise ValueError("the columns of a table are equally long")
        counts = np.array([len(next(iter(t.values()))) for t in tables], dtype=np.int64)
        columns = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
        return cls(offsets(counts), columns)

    @classmethod
    def rows(cls, **columns: np.ndarray) -> Tables:
        """One message a row of these columns."""
        return cls(np.arange(len(next(iter(columns.values()))) + 1), columns)

    @classmethod
    def joined(cls, parts: Sequence[Tables]) -> Tables:
        """The messages of several parts, one after the other, under the first one's names.

        Raises:
            WireError: they are not of one form. Names do not travel, so types are what tells.
        """
        first = parts[0]
        for part in parts:
            if part.form != first.form:
                raise WireError(f"a table of columns {part.form} where {first.form} were due")
        columns = zip(*(part.columns.values() for part in parts), strict=True)
        # A column of one number a row may be [rows] here and [rows, 1] there.
        shaped = [[c.reshape(len(c), *x[0].shape[1:]) for c in x] for x in columns]
        whole = [np.concatenate(x) for x in shaped]
        counts = np.concatenate([part.counts for part in parts])
        return cls(offsets(counts), dict(zip(first.columns, whole, strict=True)))


def numbers(column: np.ndarray) -> int:
    """How many numbers of a row a column holds."""
    return 1 if column.ndim == 1 else column.shape[1]


def offsets(counts: np.ndarray) -> np.ndarray:
    """int64 [n+1]: where each of n pieces begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
