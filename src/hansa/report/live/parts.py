"""Follows the measurements of a run folder: the rows that are new, whatever is merged meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa.base.errors import CheckpointError
from hansa.base.lazy import pyarrow as pa
from hansa.base.lazy import pyarrow_parquet as pq
from hansa.report.store import MERGED, THROUGH, naming

_COLUMNS = ["round", "node", "name", "value", "time", "bytes"]


@dataclass(frozen=True)
class Rows:
    """Some measurements, in the order of recording.

    Attributes:
        names: what was measured, each once.
        code: index into ``names``, int64 [rows].
        round: int64 [rows].
        node: -1 for the whole run, int64 [rows].
        value: float64 [rows].
        time: seconds since the run began, NaN where that is not known, float64 [rows].
        bytes: sent so far, NaN where that is not known, float64 [rows].
    """

    names: list[str]
    code: np.ndarray
    round: np.ndarray
    node: np.ndarray
    value: np.ndarray
    time: np.ndarray
    bytes: np.ndarray


class Anew(Exception):
    """Rows were taken back: whoever follows begins again."""


class MetricTail:
    """The rows of a folder of measurements that were not there when it was last asked.

    Attributes:
        damaged: files that could not be read, and why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: dict[str, str] = {}
        self._seen = self._through = 0  # rows taken; the last part that was
        self._merged: tuple[int, int, int] | None = None  # which merged file was looked at

    def rewind(self) -> None:
        """Begin again at the first row."""
        self._seen = self._through = 0
        self._merged = None
        self.damaged = {}

    def read(self) -> Iterator[Rows]:
        """What was recorded since, a few 100,000 rows at a time.

        Raises:
            Anew: rows that were taken are not there any more, since the run was resumed.
        """
        parts = sorted(self.path.glob("part-*.parquet"))  # listed first: merging removes them last
        yield from self._from_merged()
        for path in parts:
            number = path.stem.removeprefix("part-")
            if not number.isdecimal() or int(number) <= self._through:
                continue
            if int(number) > self._through + 1 and (self.path / MERGED).exists():
                return  # merged meanwhile: the next time they are found there
            try:
                yield from self._from_part(path)
            except FileNotFoundError:
                return
            self._through = int(number)

    def _from_merged(self) -> Iterator[Rows]:
        merged = self.path / MERGED
        try:
            facts = merged.stat()
            now = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if now == self._merged:
                return
            with naming(merged), pq.ParquetFile(merged, page_checksum_verification=True) as file:
                through = int((file.metadata.metadata or {})[THROUGH])
                if file.metadata.num_rows < self._seen or through < self._through:
                    raise Anew
                yield from self._rows(file, self._seen)
            self._merged, self._through = now, through
        except FileNotFoundError:
            return
        except CheckpointError as error:
            self.damaged[MERGED] = str(error)

    def _from_part(self, path: Path) -> Iterator[Rows]:
        try:
            with naming(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield from self._rows(file, 0)
        except CheckpointError as error:
            self.damaged[path.name] = str(error)

    def _rows(self, file: pq.ParquetFile, skip: int) -> Iterator[Rows]:
        """The rows of a file after its first ``skip``."""
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if skip >= size:
                skip -= size
                continue
            table = file.read_row_group(group, columns=_COLUMNS)
            self._seen += size - skip
            yield _rows_of(table.slice(skip))
            skip = 0


def _rows_of(table: pa.Table) -> Rows:
    table = table.unify_dictionaries().combine_chunks()
    name = _chunk(table["name"])
    floats = {key: _numbers(table[key], np.float64, np.nan) for key in ("value", "time")}
    return Rows(
        names=[str(word) for word in name.dictionary.to_pylist()],
        code=_numbers(name.indices, np.int32, -1),
        round=_numbers(table["round"], np.int32, -1),
        node=_numbers(table["node"], np.int32, -1),
        value=floats["value"],
        time=floats["time"],
        bytes=_numbers(table["bytes"], np.int64, np.nan),
    )


def _chunk(column: pa.Array) -> pa.Array:
    """The one array of a column whose chunks, if it has some, were combined."""
    if not hasattr(column, "chunk"):
        return column
    return column.chunk(0) if column.num_chunks else column.combine_chunks()


def _numbers(
    column: pa.ChunkedArray | pa.Array, kind: type[np.generic], empty: float
) -> np.ndarray:
    """A column as int64 or float64 [rows]; what is null is ``empty``.

    Read from its memory: pyarrow's own way would import pandas where there is one.
    """
    array = _chunk(column)
    validity, values = array.buffers()
    size, first = len(array), array.offset
    if values is None or not size:
        return np.zeros(size, np.float64 if np.isnan(empty) else np.int64)
    numbers = np.frombuffer(values, kind)[first : first + size]
    wide = numbers.astype(np.float64 if np.isnan(empty) else np.int64)
    if validity is not None:
        bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
        wide[bits[first : first + size] == 0] = empty
    return wide
