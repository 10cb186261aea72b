"""Measurements in long format, kept in small Parquet files that a crash cannot spoil.

Rows are gathered in memory and written as numbered parts, each whole or absent. Merging writes
one file that states the last part it holds, so that a part is never read twice or lost, wherever
the process dies. One process and one thread write; any number may read meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import CheckpointError
from hansa.base.files import atomic_write
from hansa.base.lazy import pyarrow as pa
from hansa.base.lazy import pyarrow_compute as pc
from hansa.base.lazy import pyarrow_parquet as pq

if TYPE_CHECKING:
    import polars

MERGED = "metrics.parquet"
THROUGH = b"hansa.through"
_SCALAR = (float, int, NoneType)
_NUMPY = {
    "value": "float64",
    "node": "int32",
    "step": "int64",
    "time": "float64",
    "bytes": "int64",
}


@cache
def schema() -> Any:
    """Columns of the metrics: a null node is the whole run; time in seconds; bytes sent so far."""
    return pa.schema(
        [
            pa.field("round", pa.int32(), nullable=False),
            pa.field("node", pa.int32()),
            pa.field("name", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("value", pa.float64(), nullable=False),
            pa.field("step", pa.int64()),
            pa.field("time", pa.float64()),
            pa.field("bytes", pa.int64()),
        ]
    )


@dataclass
class Pending:
    """Rows not yet on disk and the number of the part they will become."""

    number: int
    chunks: list[tuple[int, str, int, tuple[Any, ...]]] = field(default_factory=list)
    rows: int = 0
    since: float = field(default_factory=lambda: time.monotonic())


class MetricStore:
    """The measurements under one folder.

    Args:
        path: the folder of the Parquet files; made when the first part is written.
        max_rows: rows in memory at which a record asks for writing.
        max_seconds: time since the last writing at which a record asks for the next.
        max_parts: parts that are let stand before they are merged.
        marks: what stands in the head of each file (``report/marks.py``).

    Attributes:
        damaged: files that could not be read, and why.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_rows: int = 200_000,
        max_seconds: float = 2.0,
        max_parts: int = 256,
        marks: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.marks = path, marks or {}
        self.max_rows, self.max_seconds, self.max_parts = max_rows, max_seconds, max_parts
        self.damaged: dict[Path, str] = {}
        self._pending = Pending(max([self._through(), *self._parts()]) + 1)
        self._round_ended = time.monotonic()

    @property
    def last(self) -> int:
        """The number of the last part that was written."""
        return self._pending.number - 1

    def record(self, round: int, name: str, value: Any, node: Any, *rest: Any) -> bool:
        """Buffer one row, or one row for each item of an array; ``rest`` is step, time, bytes.

        Returns:
            Whether it is time to flush.

        Raises:
            ValueError: the arrays differ in length, or there is no value.
        """
        size, columns = 1, (value, node, *rest)
        if any(not isinstance(column, _SCALAR) for column in columns):
            # copies: the caller may go on writing into its own arrays
            kinds = zip(columns, _NUMPY.values(), strict=True)
            columns = tuple(c if c is None else np.array(c, dtype) for c, dtype in kinds)
            shapes = {c.shape for c in columns if c is not None and c.ndim}
            if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
                raise ValueError(f"{name}: columns of shapes {sorted(shapes)} in one record")
            size = shapes.pop()[0] if shapes else 1
        if value is None:
            raise ValueError(f"{name}: there is no value")
        pending = self._pending
        pending.chunks.append((int(round), name, size, columns))
        pending.rows += size
        late = time.monotonic() - pending.since > self.max_seconds
        return late or pending.rows >= self.max_rows

    def round_over(self) -> bool:
        """Note that a round's rows are all there.

        Returns:
            Whether to flush now: rows that waited for the next round's end would be on disk later
            than ``max_seconds`` after they came, if that round takes as long as this one did.
        """
        now = time.monotonic()
        took, self._round_ended = now - self._round_ended, now
        return bool(self._pending.chunks) and now - self._pending.since + took > self.max_seconds

    def flush(self) -> None:
        """Write the buffered rows as one part. After an error they are still buffered.

        Raises:
            OSError: the disk is full or fails.
        """
        pending = self._pending
        if not pending.chunks:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        # Written again under the same number if interrupted here, so nothing is there twice.
        with atomic_write(self._part(pending.number)) as file, _writer(file, self.marks) as writer:
            writer.write_table(_table(pending.chunks))
        self._pending = Pending(pending.number + 1)
        if len(self._parts()) >= self.max_parts:
            with contextlib.suppress(OSError):  # the rows are safe; merging can wait for space
                self._merge()

    def compact(self) -> None:
        """Merge all parts into one file."""
        self.flush()
        if self._parts():
            self._merge()

    def truncate(self, after_round: int) -> int:
        """Drop rows of later rounds and return how many there were."""
        self.flush()
        return self._merge(after_round)

    def read(self) -> polars.DataFrame:
        """Every row in the order of recording, unwritten ones included; see :attr:`damaged`."""
        import polars

        for attempt in range(5):
            try:
                tables = self._whole()
                break
            except FileNotFoundError:  # merged by the writing process meanwhile
                if attempt == 4:
                    raise
        tables.append(_table(self._pending.chunks))
        text = schema().set(2, pa.field("name", pa.string(), nullable=False))
        return polars.DataFrame(pa.concat_tables([table.cast(text) for table in tables]))

    def find_damage(self) -> dict[Path, int]:
        """Every file that is damaged, with the number of its part; the merged file's is 0."""
        self._whole()
        return {
            path: 0 if path.name == MERGED else int(path.stem.removeprefix("part-"))
            for path in self.damaged
        }

    def set_aside(self) -> list[Path]:
        """Rename every file that is damaged, so that the others can be gone on with."""
        damaged = self.find_damage()
        self.damaged = {}
        return [path.rename(path.with_name(f"{path.name}.damaged")) for path in damaged]

    def _whole(self) -> list[pa.Table]:
        """Every file that can be read."""
        self.damaged, tables = {}, []
        for file in self._files():
            try:
                tables.append(_read(file))
            except CheckpointError as error:
                self.damaged[file] = str(error)
        return tables

    def _merge(self, after_round: int | None = None) -> int:
        dropped, through = 0, self._pending.number - 1
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path / MERGED) as file, _writer(file, self.marks, through) as writer:
            for source in self._files():
                table = _read(source)
                if after_round is not None:
                    kept = table.filter(pc.less_equal(table["round"], after_round))
                    dropped += len(table) - len(kept)
                    table = kept
                if len(table):
                    writer.write_table(table.unify_dictionaries())
        for number, path in self._parts().items():
            if number <= through:
                path.unlink(missing_ok=True)
        for left in self.path.glob(".*.part"):  # from a process that was killed while writing
            left.unlink(missing_ok=True)
        return dropped

    def _files(self) -> list[Path]:
        merged, through = self.path / MERGED, self._through()
        again = self._pending.number if self._pending.chunks else None
        parts = [path for n, path in self._parts().items() if n > through and n != again]
        return [merged, *parts] if merged.exists() else parts

    def _parts(self) -> dict[int, Path]:
        parts = {}
        for path in sorted(self.path.glob("part-*.parquet")):
            number = path.stem.removeprefix("part-")
            if not number.isdecimal():
                raise CheckpointError(f"{path}: is not a part of this run's metrics")
            parts[int(number)] = path
        return dict(sorted(parts.items()))

    def _part(self, number: int) -> Path:
        return self.path / f"part-{number:06d}.parquet"

    def _through(self) -> int:
        merged = self.path / MERGED
        if not merged.exists():
            return 0
        try:
            with naming(merged):
                return int(pq.read_schema(merged).metadata[THROUGH])
        except CheckpointError:  # it is told of when it is read
            return 0


def _table(chunks: list[Any]) -> pa.Table:
    """Buffered chunks as one table."""
    sizes = [chunk[2] for chunk in chunks]
    total = sum(sizes)
    names = list(dict.fromkeys(chunk[1] for chunk in chunks))
    code = {name: index for index, name in enumerate(names)}
    rounds = np.repeat(np.array([chunk[0] for chunk in chunks], dtype=np.int32), sizes)
    codes = np.repeat(np.array([code[chunk[1]] for chunk in chunks], dtype=np.int32), sizes)
    columns = {key: np.zeros(total, dtype) for key, dtype in _NUMPY.items()}
    missing = {key: np.ones(total, dtype=bool) for key in _NUMPY}
    start = 0
    for _, _, size, columns_of in chunks:
        rows = slice(start, start + size)
        for key, column in zip(_NUMPY, columns_of, strict=True):
            if column is not None:
                columns[key][rows] = column
                missing[key][rows] = False
        start += size
    name = pa.DictionaryArray.from_arrays(_column(codes), _texts(names))
    filled = {key: _column(columns[key], missing[key]) for key in _NUMPY}
    arrays = {"round": _column(rounds), "name": name, **filled}
    return pa.table([arrays[column] for column in schema().names], schema=schema())


def _column(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Numbers as a column. (``pa.array`` of them would import pandas where there is one.)"""
    validity = None
    if missing is not None and missing.any():
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(values)])


def _texts(words: list[str]) -> pa.Array:
    """Words as a column, also without pandas."""
    coded = [word.encode() for word in words]
    ends = np.cumsum([0, *map(len, coded)], dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(coded), pa.py_buffer(ends), pa.py_buffer(b"".join(coded))
    )


def _writer(file: Any, marks: Mapping[str, Any], through: int | None = None) -> pq.ParquetWriter:
    metadata = {f"hansa.{name}".encode(): str(value).encode() for name, value in marks.items()}
    if through is not None:
        metadata[THROUGH] = str(through).encode()
    return pq.ParquetWriter(
        file,
        schema().with_metadata(metadata or None),
        compression="zstd",
        use_dictionary=["name", "round", "node"],
        write_page_checksum=True,
    )


def _read(path: Path) -> pa.Table:
    with naming(path):
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        return table.replace_schema_metadata(None).cast(schema())


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn the errors of reading a broken file into one that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        problem = f"{path}: is not a readable file of metrics ({str(error).splitlines()[0]})"
        raise CheckpointError(problem) from error
