"""MovieLens film ratings (Harper and Konstan 2015, GroupLens)."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.data.columns import numbered, split_rows
from hansa.data.fetch import Remote, fetch, find
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

PLACE = "https://files.grouplens.org/datasets/movielens"
REMOTES = {
    "100k": Remote(
        f"{PLACE}/ml-100k.zip",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    ),
    "latest-small": Remote(
        f"{PLACE}/ml-latest-small.zip",
        "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    ),
}
TABLES = {"100k": "ml-100k/u.data", "latest-small": "ml-latest-small/ratings.csv"}
TEST_SHARE = 0.3


@register("movielens", paper="Harper and Konstan", year=2015, url="https://doi.org/10.1145/2827872")
class Movielens(DataSource):
    """100,000 film ratings: (user, film) in, the stars out; groups are the users.

    Users and films are numbered from 0 in the order of their published ids. 30 % of every
    user's ratings, drawn with a fixed seed, are the test set.
    """

    version: Literal["100k", "latest-small"] = Field(
        "latest-small", description="100k: 943 users, 1,682 films; latest-small: 610 and 9,724"
    )

    def files(self) -> Sequence[Path]:
        if table := find("movielens", TABLES[self.version]):
            return table
        return [fetch("movielens", REMOTES[self.version])]

    def read(self) -> RawSplits:
        path = self.files()[0]
        ratings = parse(self._text(path), path, comma=self.version == "latest-small")
        users, user_names = numbered(ratings[:, 0].astype(np.int64), f"{path}: user")
        films, film_names = numbered(ratings[:, 1].astype(np.int64), f"{path}: film")
        pairs = np.stack([users, films], axis=1)
        stars = ratings[:, 2].astype(np.float32)
        train, test = (
            Arrays(pairs[rows], stars[rows], users[rows])
            for rows in split_rows(TEST_SHARE, "movielens", users)
        )
        return RawSplits(
            train,
            test,
            kind="pairs",
            outputs=1,
            vocabulary=(len(user_names), len(film_names)),
            group_names=user_names,
        )

    def _text(self, path: Path) -> str:
        try:
            if path.suffix != ".zip":
                return path.read_text(encoding="utf-8")
            with zipfile.ZipFile(path) as archive:
                return archive.read(TABLES[self.version]).decode()
        except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError, zlib.error) as error:
            raise DataError(
                f"{path} is damaged or lacks {TABLES[self.version]}: {error}\n"
                "  fix: delete it, or replace it by a good copy"
            ) from error


def parse(text: str, path: Path, comma: bool) -> np.ndarray:
    """Rows of (user, film, stars), float64 [N, 3].

    Raises:
        DataError: a row has another form. Names the file.
    """
    if not text.strip():
        raise DataError(f"{path} is empty")
    try:
        table = np.loadtxt(
            io.StringIO(text),
            delimiter="," if comma else "\t",
            skiprows=1 if comma else 0,
            usecols=(0, 1, 2),
            ndmin=2,
        )
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not np.isfinite(table).all() or (table[:, :2] % 1 != 0).any():
        raise DataError(f"{path}: users and films must be whole numbers, ratings finite")
    return table
