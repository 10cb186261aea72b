"""Tables in files: parquet, and text with a header and any of the usual marks between values."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import DataError

if TYPE_CHECKING:
    import polars as pl

TEXT = (".csv", ".tsv", ".tab", ".txt", ".data")
BINARY = (".parquet", ".pq")
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?")
"""What stands for a missing value in text."""
_MARKS = ",;\t|"
_UNNAMED = re.compile(r"|\(no name\) \d+|Unnamed: ?\d+|__index_level_\d+__")


def read_frame(path: Path) -> pl.DataFrame:
    """The columns of a file: those of parquet as stored, those of a text as text.

    Raises:
        DataError: the file is empty or damaged, or two columns share a name. Names the file.
    """
    import polars as pl

    try:
        if path.suffix.lower() in BINARY:
            return pl.read_parquet(path)
        return _read_text(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).partition('Consider')[0]}") from error


def _read_text(path: Path) -> pl.DataFrame:
    import polars as pl

    blob = path.read_bytes()
    if blob.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is stored as UTF-16; save it as UTF-8")
    blob = blob.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if not blob.strip():
        raise DataError(f"{path} is empty")
    try:
        blob.decode("utf-8")
    except UnicodeDecodeError as error:
        line = blob[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 text (line {line}); save it as UTF-8") from None
    mark = "\t" if path.suffix.lower() in (".tsv", ".tab") else _mark(blob)
    names = _header(blob, mark, path)
    frame = pl.read_csv(io.BytesIO(blob), separator=mark, infer_schema=False)
    if not len(frame):
        raise DataError(f"{path} has a line of names and no rows")
    frame.columns = names
    return frame


def _mark(blob: bytes) -> str:
    """What stands between the values: the most frequent mark of the first line, quotes aside."""
    first = blob.split(b"\n", 1)[0].decode()
    bare = re.sub(r'"[^"]*"', "", first)
    return max(_MARKS, key=lambda mark: bare.count(mark))


def _header(blob: bytes, mark: str, path: Path) -> list[str]:
    """Names of the columns without spaces around them; those without a name are numbered."""
    rows = csv.reader(io.StringIO(blob[:1_000_000].decode("utf-8", "ignore")), delimiter=mark)
    names = [name.strip().strip('"').strip() for name in next(rows)]
    second = next(rows, [])
    if len(second) == len(names) + 1:
        raise DataError(
            f"{path}: rows have {len(second)} values, the line of names has {len(names)}; name the "
            "first column too, or write the file without names of rows"
        )
    if len(second) > len(names):
        raise DataError(f"{path}: line 2 has {len(second)} values, the names are {len(names)}")
    named = [name for name in names if not _UNNAMED.fullmatch(name)]
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]!r}; name them apart")
    return [name or f"(no name) {k}" for k, name in enumerate(names)]


def cleaned(frame: pl.DataFrame, missing: Iterable[str] = MISSING) -> pl.DataFrame:
    """Words without spaces around them; missing ones null; text that is all numbers as numbers."""
    import polars as pl

    gone = list(missing)
    columns = []
    for column in frame.get_columns():
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype == pl.Decimal:
            column = column.cast(pl.Float64)
        if column.dtype == pl.String:
            column = column.str.strip_chars().str.replace(r'^"(.*)"$', "$1").str.strip_chars()
            column = column.set(column.is_in(gone), None)
            column = _typed(column)
        columns.append(column)
    return pl.DataFrame(columns)


def _typed(column: pl.Series) -> pl.Series:
    import polars as pl

    filled = column.drop_nulls()
    if not len(filled):
        return column.cast(pl.Float64)
    for kind in (pl.Int64, pl.Float64):
        found = filled.cast(kind, strict=False)
        if not found.null_count():
            return column.cast(kind)
    if filled.str.to_lowercase().is_in(["true", "false"]).all():
        return column.str.to_lowercase() == "true"
    return column


def without_index(
    frame: pl.DataFrame, wanted: Sequence[str], where: str
) -> tuple[pl.DataFrame, list[str]]:
    """The table without columns that only count its rows, and what was left out.

    Raises:
        DataError: a column has no name and is no count of rows.
    """
    notes = []
    for name in frame.columns:
        if name in wanted or not _UNNAMED.fullmatch(name):
            continue
        column = frame[name]
        if column.null_count() == len(column):
            notes.append(f"{where}: a column without a name and values was left out")
        elif column.dtype.is_integer() and column.n_unique() == len(column):
            notes.append(f"{where}: a column without a name that counts the rows was left out")
        else:
            at = frame.columns.index(name) + 1
            raise DataError(f"{where}: column {at} has no name; give it one in the first line")
        frame = frame.drop(name)
    return frame, notes


def arrays(frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """NumPy columns [N]: numbers with nan, words and booleans with None where there is no value."""
    import polars as pl

    found = {}
    for column in frame.get_columns():
        if column.dtype == pl.Boolean and column.null_count():
            column = column.cast(pl.Float64)
        found[column.name] = column.to_numpy()
    return found
