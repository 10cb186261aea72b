"""MovieLens film ratings (Harper and Konstan 2015, GroupLens)."""

from __future__ import annotations

import bz2
import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.data.columns import numbered
from hansa.data.fetch import Remote, fetch, find
from hansa.data.ratings import Ratings, scaled
from hansa.data.sources.ratings_source import RatingsSource

PLACE = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class Edition:
    """One of the published sets.

    Attributes:
        table, films: the files of ratings and of titles, in the archive too.
        mark, films_mark: what stands between their values.
        counts: ratings, users and films: another edition of the same name has others.
        scale: lowest and highest rating.
        remote: the archive; where its digest is not known, the counts are what is checked.
    """

    table: str
    films: str
    mark: str
    films_mark: str
    counts: tuple[int, int, int]
    scale: tuple[float, float]
    remote: Remote
    header: bool = False
    encoding: str = "latin-1"


EDITIONS = {
    "100k": Edition(
        "ml-100k/u.data",
        "ml-100k/u.item",
        "\t",
        "|",
        (100_000, 943, 1_682),
        (1, 5),
        Remote(
            f"{PLACE}/ml-100k.zip",
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ),
    ),
    "latest-small": Edition(
        "ml-latest-small/ratings.csv",
        "ml-latest-small/movies.csv",
        ",",
        ",",
        (100_836, 610, 9_724),
        (0.5, 5),
        Remote(
            f"{PLACE}/ml-latest-small.zip",
            "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        ),
        header=True,
        encoding="utf-8",
    ),
    "1m": Edition(
        "ml-1m/ratings.dat",
        "ml-1m/movies.dat",
        "::",
        "::",
        (1_000_209, 6_040, 3_706),
        (1, 5),
        Remote(f"{PLACE}/ml-1m.zip", ""),
    ),
}
R_COPY = "ml-1m/ratings.rda"
"""A copy of the 1M ratings that R wrote, without times and titles, films numbered anew."""
_R_VECTOR = 13  # how R marks a vector of whole numbers


@register("movielens", paper="Harper and Konstan", year=2015, url="https://doi.org/10.1145/2827872")
class Movielens(RatingsSource):
    """Film ratings: (user, film) in, the stars out; groups are the users.

    Users and films are numbered from 0 in the order of their published ids. 30 % of every
    user's ratings, drawn with a fixed seed, are the test set unless ``split`` says otherwise.
    """

    version: Literal["100k", "latest-small", "1m"] = Field(
        "latest-small",
        description="100k: 943 users, 1,682 films; latest-small: 610 and 9,724; 1m: 6,040 and "
        "3,706",
    )

    @property
    def edition(self) -> Edition:
        """What is known of the version."""
        return EDITIONS[self.version]

    def files(self) -> Sequence[Path]:
        if table := find("movielens", self.edition.table):
            return table
        if self.version == "1m" and (table := find("movielens", R_COPY)):
            return table
        return [fetch("movielens", self.edition.remote)]

    def ratings(self) -> Ratings:
        path, edition = self.files()[0], self.edition
        if path.name == Path(R_COPY).name:
            table = from_r(path, edition.counts[0])
        else:
            table = parse(self._text(path, edition.table), path, edition)
        users, user_names = numbered(table[:, 0].astype(np.int64), f"{path}: user")
        films, film_names = numbered(table[:, 1].astype(np.int64), f"{path}: film")
        counts = len(table), len(user_names), len(film_names)
        if counts != edition.counts:
            has, wanted = (
                "{:,} ratings of {:,} users and {:,} films".format(*c)
                for c in (counts, edition.counts)
            )
            raise DataError(
                f"{path} has {has}; MovieLens {self.version} has {wanted}\n"
                "  fix: put the published file there; other ratings are read with name: ratings"
            )
        times = table[:, 3] if table.shape[1] > 3 else None
        stars = table[:, 2].astype(np.float32)
        ratings = Ratings(
            users, films, stars, times, user_names, film_names, str(path), edition.scale
        )
        return scaled(ratings, edition.scale)

    def titles(self) -> dict[str, str]:
        """Titles by film id; none with the copy that R wrote, which has ids of its own."""
        path, edition = self.files()[0], self.edition
        if path.name == Path(R_COPY).name:
            return {}
        if path.suffix != ".zip":
            path = path.parents[1] / edition.films
            if not path.is_file():
                return {}
        text = self._text(path, edition.films).replace("::", "|")
        mark = edition.films_mark.replace("::", "|")
        if mark == ",":
            rows = csv.reader(io.StringIO(text))
        else:
            rows = csv.reader(io.StringIO(text), delimiter=mark, quoting=csv.QUOTE_NONE)
        return {row[0]: row[1] for row in rows if len(row) > 1}

    def _text(self, path: Path, member: str) -> str:
        try:
            if path.suffix != ".zip":
                return path.read_text(encoding=self.edition.encoding)
            with zipfile.ZipFile(path) as archive:
                return archive.read(member).decode(self.edition.encoding)
        except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError, zlib.error) as error:
            raise DataError(
                f"{path} is damaged or lacks {member}: {error}\n"
                "  fix: delete it, or replace it by a good copy"
            ) from error


def parse(text: str, path: Path, edition: Edition) -> np.ndarray:
    """Rows of (user, film, stars, time), float64 [N, 4].

    Raises:
        DataError: a row has another form. Names the file.
    """
    if not text.strip():
        raise DataError(f"{path} is empty")
    mark = edition.mark
    if len(mark) > 1:
        text, mark = text.replace(mark, "\t"), "\t"
    try:
        table = np.loadtxt(
            io.StringIO(text), delimiter=mark, skiprows=int(edition.header), ndmin=2
        )[:, :4]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if table.shape[1] < 4 or not np.isfinite(table).all() or (table[:, :2] % 1 != 0).any():
        raise DataError(
            f"{path}: rows must be user, film, rating, time; users and films whole numbers"
        )
    return table


def from_r(path: Path, rows: int) -> np.ndarray:
    """Rows of (user, film, stars), float64 [N, 3], of three vectors that R wrote (RDX2, bzip2).

    Each vector is a mark, its length and its numbers, all of four bytes, the largest first. Code in
    the file is not run: nothing but the three vectors is looked at.

    Raises:
        DataError: it is another file.
    """
    try:
        blob = bz2.decompress(path.read_bytes())
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    head = np.array([_R_VECTOR, rows], ">i4").tobytes()
    columns, at = [], 0
    for _ in range(3):
        at = blob.find(head, at)
        end = at + len(head) + 4 * rows
        if not blob.startswith(b"RDX2\n") or at < 0 or end > len(blob):
            raise DataError(f"{path} is not the copy of MovieLens 1M: it lacks {rows:,} ratings")
        columns.append(np.frombuffer(blob, ">i4", rows, at + len(head)))
        at = end
    return np.stack(columns, axis=1).astype(np.float64)
