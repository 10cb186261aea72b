"""Tables and arrays in files of the user's own: parquet, csv or npz."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.data.columns import assemble
from hansa.data.raw import RawSplits
from hansa.data.source import DataSource


# Overrides no `files`: a user's own, perhaps private, data are never copied into the cache.
@register("file")
class File(DataSource):
    """A local parquet, csv or npz file: one row an example, one column of labels.

    Labels may be whole numbers or text (classes, numbered in sorted order) or floats (a
    regression). In an npz file the label, the group and the one input are arrays by name; an
    input of 4 dimensions holds images [N, H, W, C], of 3 grey images.
    """

    path: Path = Field(..., description="the file; .parquet, .csv or .npz")
    test_path: Path | None = Field(None, description="a file of the same form with the test set")
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="held out as the test set where there is no test_path"
    )
    inputs: tuple[str, ...] = Field((), description="input columns; empty = all others")
    label: str = Field("label", description="column of labels")
    group: str | None = Field(None, description="column of natural owners, if there is one")

    def read(self) -> RawSplits:
        tables = [self._table("path", self.path)]
        if self.test_path is not None:
            tables.append(self._table("test_path", self.test_path))
        others = (column for column in tables[0] if column not in (self.label, self.group))
        inputs = self.inputs or tuple(others)
        named = [("inputs", column) for column in inputs] + [("label", self.label)]
        named += [("group", self.group)] if self.group else []
        for table, path in zip(tables, (self.path, self.test_path), strict=False):
            for field, column in named:
                if column not in table:
                    known = ", ".join(table)
                    raise ConfigError(
                        field, column, f"is not a column of {path}", f"one of {known}"
                    )
        merged = {name: _stack([table[name] for table in tables], name) for _, name in named}
        values: dict[str, np.ndarray] | np.ndarray = {name: merged[name] for name in inputs}
        if len(inputs) == 1 and merged[inputs[0]].ndim > 2:
            values = _images(merged[inputs[0]], inputs[0])
        return assemble(
            values,
            merged[self.label],
            merged[self.group] if self.group else None,
            where=str(self.path),
            first_test_row=len(tables[0][self.label]) if self.test_path else None,
            test_fraction=self.test_fraction,
        )

    def _table(self, field: str, path: Path) -> dict[str, np.ndarray]:
        if not path.is_file():
            raise ConfigError(field, str(path), "there is no such file", "give its path")
        if path.suffix == ".npz":
            return _read_npz(path)
        if path.suffix in (".parquet", ".csv"):
            return _read_columns(path)
        raise ConfigError(field, str(path), "is of an unknown type", "use .parquet, .csv or .npz")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    import polars as pl

    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return {column.name: column.to_numpy() for column in frame.get_columns()}


def _stack(parts: list[np.ndarray], name: str) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1:
        raise DataError(f"column {name!r} has another shape in the test file than in the first")
    return np.concatenate(parts)


def _images(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim > 4:
        raise DataError(f"array {name!r} of shape {array.shape} is neither table nor images")
    return array if array.ndim == 4 else array[..., None]
