"""Ratings in a table of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.data import tablefile
from hansa.data.labels import missing, numbered
from hansa.data.ratings import Ratings, refuse_missing, scaled
from hansa.data.sources.ratings_source import RatingsSource
from hansa.data.sources.table_source import require

if TYPE_CHECKING:
    import polars as pl

FORMS = ", ".join((*tablefile.TEXT, *tablefile.BINARY))
USUAL = {
    "user": ("user", "userid", "user_id", "uid", "customer", "customer_id", "reviewerid"),
    "item": ("item", "itemid", "item_id", "iid", "movieid", "movie_id", "product", "product_id",
             "isbn", "asin", "film"),
    "rating": ("rating", "stars", "score", "overall", "value"),
    "timestamp": ("timestamp", "time", "ts", "date", "unixreviewtime", "datetime"),
    "title": ("title", "name"),
}  # fmt: skip
"""Names of columns that need not be said, in small letters."""


# Overrides no `files`: a user's own, perhaps private, data are never copied into the cache.
@register("ratings")
class RatingsFile(RatingsSource):
    """A table of your own: a user, an item and a rating a row, and a time where there is one.

    Columns with usual names (userId, item_id, rating ...) are found; others are named. Users and
    items may be words; they are numbered in sorted order.
    """

    path: Path = Field(
        ..., description="the file: .csv, .tsv, .txt, .data (marks , ; tab |) or .parquet"
    )
    user: str | None = Field(None, description="column of users; none = by its usual names")
    item: str | None = Field(None, description="column of items; none = by its usual names")
    rating: str | None = Field(None, description="column of ratings; none = by its usual names")
    timestamp: str | None = Field(
        None,
        description="column of times, seconds since 1970 or dates; none = by its usual names, or "
        "there is none",
    )
    scale: tuple[float, float] | None = Field(
        None, description="lowest and highest rating that there may be; none = as far as they reach"
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse", description="rows that lack a value: refuse; drop: leave them out"
    )
    missing_values: tuple[str, ...] = Field(
        tablefile.MISSING, description="what stands for a missing value"
    )
    titles_path: Path | None = Field(
        None, description="a table of items and their titles, whose columns have the usual names"
    )

    def ratings(self) -> Ratings:
        frame = _read("path", self.path, self.missing_values)
        where = str(self.path)
        names = {
            part: self._column(part, frame.columns, where) for part in USUAL if part != "title"
        }
        said = {part: name for part, name in names.items() if name is not None}
        frame = frame.select(list(dict.fromkeys(said.values())))
        if len(frame.columns) < len(said):
            twice = next(n for n in said.values() if list(said.values()).count(n) > 1)
            raise ConfigError("item", twice, "stands for two things", "name each column once")
        table = tablefile.arrays(frame)
        columns = {part: table[name] for part, name in said.items()}
        notes = []
        if self.missing == "refuse":
            refuse_missing({said[part]: values for part, values in columns.items()}, where)
        whole = ~np.any([missing(values) for values in columns.values()], axis=0)
        if not whole.all():
            columns = {part: values[whole] for part, values in columns.items()}
            notes.append(f"{where}: {int((~whole).sum())} rows with missing values were left out")
        if not len(columns["user"]):
            raise DataError(f"{where}: no row has a user, an item and a rating")
        stars = _numbers(columns["rating"], f"{where}: column {said['rating']!r}")
        users, user_names = numbered(columns["user"], f"{where}: users")
        items, item_names = numbered(columns["item"], f"{where}: items")
        times = None
        if "timestamp" in columns:
            times = _moments(columns["timestamp"], f"{where}: column {said['timestamp']!r}")
        ratings = Ratings(
            users, items, stars, times, user_names, item_names, where, (0.0, 0.0), tuple(notes)
        )
        return scaled(ratings, self.scale)

    def titles(self) -> dict[str, str]:
        if self.titles_path is None:
            return {}
        frame = _read("titles_path", self.titles_path, self.missing_values)
        where = str(self.titles_path)
        item = self.item if self.item in frame.columns else usual("item", frame.columns, where)
        title = usual("title", frame.columns, where)
        rows = frame.select([item, title]).drop_nulls().iter_rows()
        return {str(name): str(text) for name, text in rows}

    def _column(self, part: str, columns: Sequence[str], where: str) -> str | None:
        """The column that holds a part of each rating; None where there need be none."""
        named = getattr(self, part)
        if named is not None:
            require(part, named, columns, where)
            return str(named)
        return usual(part, columns, where, optional=part == "timestamp")


def _read(field: str, path: Path, gone: Sequence[str]) -> pl.DataFrame:
    if not path.is_file():
        raise ConfigError(field, str(path), "there is no such file", "give its path")
    if path.suffix.lower() not in (*tablefile.TEXT, *tablefile.BINARY):
        raise ConfigError(field, str(path), "is of an unknown type", f"use {FORMS}")
    return tablefile.cleaned(tablefile.read_frame(path), gone)


def usual(part: str, columns: Sequence[str], where: str, optional: bool = False) -> str | None:
    """The one column with a usual name of a part.

    Raises:
        ConfigError: there is none, or more than one.
    """
    fits = [name for name in columns if name.casefold() in USUAL[part]]
    if len(fits) == 1:
        return fits[0]
    if not fits and optional:
        return None
    listed = ", ".join(list(columns)[:30])
    problem = f"{where}: no column has a usual name of a {part}" if not fits else (
        f"{where}: columns {', '.join(map(repr, fits))} all have a usual name of a {part}"
    )  # fmt: skip
    raise ConfigError(part, None, problem, f"name it, one of {listed}")


def _numbers(values: np.ndarray, what: str) -> np.ndarray:
    """float32 [N]; of a column of words the first that is no number is named."""
    if values.dtype.kind in "fiu":
        return values.astype(np.float32)
    for row, value in enumerate(values.tolist()):
        try:
            float(value)
        except (TypeError, ValueError):
            problem = f"{what} holds {value!r} (row {row + 1} below the names), which is no number"
            raise DataError(problem) from None
    return values.astype(np.float32)


def _moments(values: np.ndarray, what: str) -> np.ndarray:
    """Seconds since 1970, float64 [N], of numbers or of dates as ISO 8601 writes them."""
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]").astype(np.int64) / 1e6
    seconds = np.empty(len(values))
    for row, value in enumerate(values.tolist()):
        try:
            moment = np.datetime64(str(value).removesuffix("Z").strip().replace(" ", "T"), "us")
        except ValueError:
            problem = f"{what} holds {value!r} (row {row + 1} below the names)"
            fix = "seconds since 1970, or dates as 2024-05-31 or 2024-05-31 18:30:00"
            raise DataError(f"{problem}, which is no time\n  fix: write {fix}") from None
        seconds[row] = moment.astype(np.int64) / 1e6
    return seconds
