"""Ratings as a source reads them: who rated what, how and when, checked once for all sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data.labels import missing

Repeats = Literal["refuse", "first", "last", "mean"]


@dataclass(frozen=True)
class Ratings:
    """One row a rating, in the order of the file.

    Attributes:
        users, items: int64 [N], numbered from 0 in the order of their names.
        stars: float32 [N], the ratings.
        times: float64 [N], seconds since 1970, or None where nobody wrote them down.
        user_names, item_names: what the source calls each number.
        where: what the source is called in errors.
        scale: the lowest and the highest rating that there may be.
        notes: what a person should know of how they were read.
    """

    users: np.ndarray
    items: np.ndarray
    stars: np.ndarray
    times: np.ndarray | None
    user_names: tuple[str, ...]
    item_names: tuple[str, ...]
    where: str
    scale: tuple[float, float]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.stars)

    def take(self, rows: np.ndarray) -> Ratings:
        """The same with these rows only; users and items keep their numbers."""
        times = None if self.times is None else self.times[rows]
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            stars=self.stars[rows],
            times=times,
        )

    def named(self, row: int) -> str:
        """A rating in words."""
        user, item = self.user_names[self.users[row]], self.item_names[self.items[row]]
        return f"user {user!r}, item {item!r}"


def refuse_missing(columns: dict[str, np.ndarray], where: str) -> None:
    """Refuse rows that lack a value.

    Args:
        columns: [N] by name.

    Raises:
        ConfigError: ``missing``; names the columns, how many rows, and the first of them.
    """
    gaps = {name: missing(values) for name, values in columns.items()}
    anywhere = np.any([*gaps.values()], axis=0)
    if not anywhere.any():
        return
    counts = ", ".join(f"{name!r} {int(gap.sum())}" for name, gap in gaps.items() if gap.any())
    first = int(anywhere.argmax())
    problem = f"{where}: values are missing in {int(anywhere.sum())} of {len(anywhere)} rows "
    problem += f"({counts}), first in row {first + 1} below the names"
    raise ConfigError("missing", "refuse", problem, "missing: drop leaves those rows out")


def scaled(ratings: Ratings, declared: tuple[float, float] | None) -> Ratings:
    """The ratings with their scale: the one that is declared, else as far as they reach.

    Raises:
        ConfigError: ``scale``; the one declared is none.
        DataError: a rating is not finite or lies outside the scale. Names the first.
    """
    stars, where = ratings.stars, ratings.where
    bad = ~np.isfinite(stars)
    if bad.any():
        row = int(bad.argmax())
        who = ratings.named(row)
        raise DataError(f"{where}: {int(bad.sum())} ratings are not finite, first that of {who}")
    if declared is None:
        return replace(ratings, scale=(float(stars.min()), float(stars.max())))
    low, high = declared
    if not low < high:
        raise ConfigError("scale", list(declared), "is no scale", "the lowest, then the highest")
    out = (stars < low) | (stars > high)
    if out.any():
        row = int(out.argmax())
        raise DataError(
            f"{where}: {int(out.sum())} of {len(stars)} ratings lie outside the scale of {low:g} "
            f"to {high:g}, first {stars[row]:g} ({ratings.named(row)})\n"
            "  fix: correct them, or declare the scale that they have (data.scale)"
        )
    return replace(ratings, scale=(float(low), float(high)))


def once(ratings: Ratings, repeats: Repeats) -> Ratings:
    """Each user's rating of an item once.

    Equal ratings of the same item are one, whatever ``repeats`` says, with a note. Where a user
    has rated an item differently, ``first`` and ``last`` mean by time where there are times, else
    by row.

    Raises:
        DataError: a user has rated an item differently, and nobody said which counts.
    """
    code = ratings.users * len(ratings.item_names) + ratings.items
    when = np.zeros(len(code)) if ratings.times is None else ratings.times
    order = np.lexsort((np.arange(len(code)), when, code))  # by pair, then time, then row
    ordered = code[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    if len(begins) == len(code):
        return ratings
    ends = np.r_[begins[1:], len(code)] - 1
    stars = ratings.stars[order]
    low, high = np.minimum.reduceat(stars, begins), np.maximum.reduceat(stars, begins)
    differ = low != high
    extra = len(code) - len(begins)
    if differ.any() and repeats == "refuse":
        pair = ratings.named(int(order[begins[differ.argmax()]]))
        raise DataError(
            f"{ratings.where}: {int(differ.sum())} items are rated differently by the same user, "
            f"first {pair}: {low[differ.argmax()]:g} and {high[differ.argmax()]:g}\n"
            "  fix: data.repeats: last, first or mean says which counts"
        )
    keep = order[ends if repeats == "last" else begins]
    at = np.argsort(keep)
    kept = ratings.take(keep[at])
    if repeats == "mean":
        means = np.add.reduceat(stars.astype(np.float64), begins) / (ends - begins + 1)
        kept = replace(kept, stars=means[at].astype(np.float32))
    note = f"{ratings.where}: {extra} ratings repeat another of the same user and item"
    if differ.any():
        note += f", {int(differ.sum())} items with another value: {repeats} counts"
    return replace(kept, notes=(*ratings.notes, note))


def first_users(ratings: Ratings, count: int | None) -> Ratings:
    """The ratings of the ``count`` users of the lowest numbers, and of the items that they rated.

    Raises:
        ConfigError: ``users``; there are not so many.
    """
    users = len(ratings.user_names)
    if count is None or count == users:
        return ratings
    if count > users:
        raise ConfigError("users", count, f"there are only {users}", "ask for fewer")
    kept = ratings.take(np.flatnonzero(ratings.users < count))
    rated, items = np.unique(kept.items, return_inverse=True)
    return replace(
        kept,
        items=items.astype(np.int64),
        user_names=ratings.user_names[:count],
        item_names=tuple(ratings.item_names[i] for i in rated.tolist()),
    )
