"""Tables in files: parquet, and text with a header and any of the usual marks between values."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
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
_GLANCE = 1 << 16  # bytes
_SEP = re.compile(rb'"?sep=([,;\t|])"?[ \r]*\n', re.IGNORECASE)
_PACKED = (
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"\xd0\xcf\x11\xe0",
)
"""How gzip, zip (and so xlsx), bzip2, xz, zstd and old Excel files begin."""
_MANY = 10
"""Fewer rows may count up by chance."""
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


def names_at_a_glance(path: Path) -> list[str] | None:
    """The names of a text's columns from its beginning; None where that does not tell them."""
    if path.suffix.lower() not in TEXT:
        return None
    with path.open("rb") as file:
        blob = file.read(_GLANCE)
    first = blob.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    whole = first.rpartition(b"\n")[0] + b"\n"  # without a line that was cut
    plain = not blob.startswith(_PACKED) and b"\0" not in blob and not _SEP.match(whole)
    if not plain or whole.count(b"\n") < 2 or b"\n\n" in whole or not whole.isascii():
        return None
    try:
        return _header(whole, _mark(whole, path), path)
    except (DataError, csv.Error, StopIteration):
        return None  # it is told when the whole is read


def _read_text(path: Path) -> pl.DataFrame:
    import polars as pl

    blob = path.read_bytes()
    if blob.startswith(_PACKED):
        raise DataError(f"{path} is compressed, or no text; unpack it, or save it as csv")
    if blob.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in blob:
        raise DataError(f"{path} is stored as UTF-16 or UTF-32, or is no text; save it as UTF-8")
    blob = blob.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if b"\n" not in blob:
        blob = blob.replace(b"\r", b"\n")
    if not blob.strip():
        raise DataError(f"{path} is empty")
    try:
        blob.decode("utf-8")
    except UnicodeDecodeError as error:
        line = blob[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 text (line {line}); save it as UTF-8") from None
    blob = _without_blank_lines(blob)
    if said := _SEP.match(blob):  # as Excel writes it
        mark, blob = said[1].decode(), blob[said.end() :]
    else:
        mark = _mark(blob, path)
    names = _header(blob, mark, path)
    try:
        frame = pl.read_csv(io.BytesIO(blob), separator=mark, infer_schema=False)
    except pl.exceptions.ComputeError:
        _refuse_longer(blob, mark, len(names), path)
        raise
    if not len(frame):
        raise DataError(f"{path} has a line of names and no rows")
    frame.columns = names
    return frame


def _without_blank_lines(blob: bytes) -> bytes:
    """The text without lines that hold nothing, unless they are within quotes."""
    if not re.search(rb"\n *\r?\n", blob):
        return blob
    kept, quoted = [], False
    for line in blob.split(b"\n"):
        if quoted or line.strip(b" \r"):
            kept.append(line)
        quoted ^= line.count(b'"') % 2 == 1
    return b"\n".join(kept)


def _mark(blob: bytes, path: Path) -> str:
    """What stands between the values: the most frequent mark of the first line, quotes aside.

    Raises:
        DataError: there are spaces only.
    """
    first, _, rest = blob.partition(b"\n")
    bare = re.sub(r'"[^"]*"', "", first.decode())
    if "\t" in bare and path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    mark = max(_MARKS, key=lambda mark: bare.count(mark))
    words = len(bare.split())
    if mark not in bare and words > 1 and len(rest.split(b"\n", 1)[0].split()) == words:
        raise DataError(
            f"{path}: values stand between spaces ({bare.strip()[:60]!r}); put commas, semicolons, "
            "tabs or | between them"
        )
    return mark


def _refuse_longer(blob: bytes, mark: str, count: int, path: Path) -> None:
    """Name the first line that has more values than there are names."""
    rows = csv.reader(io.StringIO(blob.decode()), delimiter=mark)
    for row in rows:
        if len(row) > count:
            raise DataError(
                f"{path}: line {rows.line_num} has {len(row)} values, the names are {count}"
            )


def _header(blob: bytes, mark: str, path: Path) -> list[str]:
    """Names of the columns without spaces around them; those without a name are numbered."""
    rows = csv.reader(io.StringIO(blob[:1_000_000].decode("utf-8", "ignore")), delimiter=mark)
    names = [name.strip().strip('"').strip() for name in next(rows)]
    second = next(rows, [])
    if len(second) == len(names) + 1:
        if not second[-1].strip():
            raise DataError(
                f"{path}: rows end with {mark!r} and the line of names does not; make them alike"
            )
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


def cleaned(
    frame: pl.DataFrame, missing: Iterable[str] = MISSING, words: Collection[str] = ()
) -> pl.DataFrame:
    """Words without spaces around them; missing ones null; text that is all numbers as numbers.

    Of numbers those are missing whose value is listed: ``-999`` is ``-999.0`` too. Columns named
    in ``words`` hold words, whatever these look like: ``01`` stays ``01``.
    """
    import polars as pl

    gone = list(missing)
    numbers = [number for word in gone if (number := _finite(word)) is not None]
    columns = []
    for column in frame.get_columns():
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype == pl.Decimal:
            column = column.cast(pl.Float64)
        if column.dtype == pl.String:
            column = column.str.strip_chars().str.replace(r'^"(.*)"$', "$1").str.strip_chars()
            column = column.set(column.is_in(gone), None)
            column = column if column.name in words else _typed(column)
        if numbers and column.dtype.is_numeric():
            column = column.set(column.cast(pl.Float64).is_in(numbers), None)
        if column.name in words:
            column = _worded(column)
        columns.append(column)
    return pl.DataFrame(columns)


def _worded(column: pl.Series) -> pl.Series:
    """Numbers as words, whole numbers without a point."""
    import polars as pl

    if column.dtype.is_float():
        column = column.fill_nan(None)
        filled = column.drop_nulls()
        if filled.is_finite().all() and (filled == filled.round()).all():
            column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String) if column.dtype.is_numeric() else column


def _typed(column: pl.Series) -> pl.Series:
    import polars as pl

    filled = column.drop_nulls()
    if not len(filled):
        return column.cast(pl.Float64)
    for kind in (pl.Int64, pl.Float64):
        cast = filled.cast(kind, strict=False)
        if not cast.null_count():
            # 01 and 1 in one column are codes: as numbers two would be one.
            if cast.n_unique() < filled.n_unique() and filled.str.contains(r"^0\d+$").any():
                return column
            return column.cast(kind)
    if filled.str.to_lowercase().is_in(["true", "false"]).all():
        return column.str.to_lowercase() == "true"
    return column


def _finite(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


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


def counts_rows(frame: pl.DataFrame, names: Iterable[str], where: str) -> list[str]:
    """A remark on each of some columns that goes up by one from row to row: maybe no input."""
    return [
        f"{where}: column {name!r} counts the rows; if it is no input: exclude: [{name}]"
        for name in names
        if frame[name].dtype.is_integer()
        and not frame[name].null_count()
        and len(frame) >= _MANY
        and (frame[name].cast(int).diff().drop_nulls() == 1).all()
    ]


def arrays(frame: pl.DataFrame, exact: str = "") -> dict[str, np.ndarray]:
    """NumPy columns [N]: numbers with nan, words with None where there is no value.

    Args:
        exact: the column whose whole numbers and booleans stay such, objects with None.

    Raises:
        DataError: a column holds records.
    """
    import polars as pl

    columns = {}
    for column in frame.get_columns():
        gaps = column.null_count()
        if column.dtype == pl.Struct:
            raise DataError(
                f"column {column.name!r} holds records ({column.dtype}); make a column of each "
                f"part, or leave it out: exclude: [{column.name}]"
            )
        if (
            gaps
            and column.name == exact
            and (column.dtype.is_integer() or column.dtype == pl.Boolean)
        ):
            columns[column.name] = np.array(column.to_list(), object)
            continue
        if column.dtype == pl.Boolean and gaps:
            column = column.cast(pl.Float64)
        columns[column.name] = column.to_numpy()
    return columns
