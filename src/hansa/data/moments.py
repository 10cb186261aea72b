"""How many numbers a table's columns hold, their sums and spreads: told, and put together.

Parties that do not pool their rows can still scale columns alike: each tells of every column how
many values it has, their sum, and their squared distances from its own mean; those of all together
follow (Chan, Golub and LeVeque, The American Statistician 1983). Sums over parties are rounded once
(Shewchuk, 1997), so that their order makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from hansa.data.table_form import TableForm


@dataclass(frozen=True)
class Moments:
    """Of a party's training examples, by column [F] of its own form.

    Attributes:
        rows: int64, examples.
        present: int64, those that have a value.
        total: float64, sum of the values that there are.
        filled: float64, sum after gaps were filled with the party's own means.
        squares: float64, squared distances from the mean after that, summed up.
        lowest, highest: float64, after that.
    """

    rows: np.ndarray
    present: np.ndarray
    total: np.ndarray
    filled: np.ndarray
    squares: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def of(cls, stored: np.ndarray, filled: np.ndarray) -> Moments:
        """Of rows as they are stored, nan where there is no value, and as they are filled."""
        there = ~np.isnan(stored)
        values = filled.astype(np.float64)
        mean = values.mean(axis=0)
        return cls(
            rows=np.full(stored.shape[1], len(stored), dtype=np.int64),
            present=there.sum(axis=0, dtype=np.int64),
            total=np.where(there, stored, 0).sum(axis=0, dtype=np.float64),
            filled=values.sum(axis=0),
            squares=np.square(values - mean).sum(axis=0),
            lowest=values.min(axis=0),
            highest=values.max(axis=0),
        )

    def spread(self, own: TableForm, wanted: TableForm) -> Moments:
        """By column of another form: a word that the party does not have is 0 in all its rows."""
        index: list[int] = []
        at = 0
        for mine, theirs in zip(own.features, wanted.features, strict=True):
            if mine["words"] is None:
                index += range(at, at + mine["width"])
            else:
                place = {word: at + k for k, word in enumerate(mine["words"])}
                index += [place.get(word, -1 - at) for word in theirs["words"] or ()]
            at += mine["width"]
        columns = np.array(index, dtype=np.int64)
        absent = columns < 0
        columns = np.where(absent, -1 - columns, columns)  # the first word of the same column
        taken = {one.name: getattr(self, one.name)[columns] for one in fields(self)}
        for name in ("total", "filled", "squares", "lowest", "highest"):
            taken[name] = np.where(absent, 0.0, taken[name])
        return Moments(**taken)


@dataclass(frozen=True)
class Figures:
    """What is known of all parties' training examples, by column [F], float64.

    Attributes:
        means: of the values that there are: what fills a column in which a party has none.
        mean, deviation: after gaps were filled.
        lowest, highest: after that.
    """

    means: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def together(parties: Sequence[Moments]) -> Figures:
    """The figures of all parties' rows, of moments in one form."""
    present, total = _sums(parties, "present"), _sums(parties, "total")
    means = np.where(present > 0, total / np.maximum(present, 1), 0.0)
    whole = [_filled(one, means.astype(np.float32).astype(np.float64)) for one in parties]
    rows = _sums(whole, "rows")
    mean = _sums(whole, "filled") / rows
    apart = [one.rows * np.square(one.filled / one.rows - mean) for one in whole]
    squares = _added([one.squares for one in whole] + apart)
    return Figures(
        means=means,
        mean=mean,
        deviation=np.sqrt(squares / rows),
        lowest=np.min([one.lowest for one in whole], axis=0),
        highest=np.max([one.highest for one in whole], axis=0),
    )


def _filled(one: Moments, means: np.ndarray) -> Moments:
    """Where a party has no value at all its rows hold the mean of the others."""
    none = one.present == 0
    values = {
        "filled": np.where(none, one.rows * means, one.filled),
        "squares": np.where(none, 0.0, one.squares),
        "lowest": np.where(none, means, one.lowest),
        "highest": np.where(none, means, one.highest),
    }
    return Moments(one.rows, one.present, one.total, **values)


def _sums(parties: Sequence[Moments], name: str) -> np.ndarray:
    return _added([getattr(one, name) for one in parties])


def _added(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Their sum by column, rounded once."""
    return np.array([math.fsum(column) for column in zip(*arrays, strict=True)])
