"""Tables and arrays in files of the user's own: parquet, text or npz."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.data import tablefile
from hansa.data.archive import halves
from hansa.data.columns import assemble
from hansa.data.raw import RawSplits
from hansa.data.sources.table_source import TableSource

FORMS = f"{', '.join((*tablefile.TEXT, *tablefile.BINARY))} or .npz"


def _word(value: object) -> object:
    """What YAML takes for a number (-999) or for nothing (null), as it was written."""
    if value is None:
        return "null"
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


# Overrides no `files`: a user's own, perhaps private, data are never copied into the cache.
@register("file")
class File(TableSource):
    """A local table (parquet, or text with a header) or npz file: one row an example.

    Labels may be whole numbers or text (classes, numbered in sorted order) or fractions (a
    regression). In an npz file the label, the group and the one input are arrays by name, or it
    has the two sets in it, as x_train, y_train, x_test, y_test; an input of 4 dimensions holds
    images [N, H, W, C] or [N, C, H, W], of 3 grey images.
    """

    path: Path = Field(
        ..., description="the file: .csv, .tsv, .txt, .data (marks , ; tab |), .parquet or .npz"
    )
    test_path: Path | None = Field(None, description="a file of the same form with the test set")
    missing_values: tuple[Annotated[str, BeforeValidator(_word)], ...] = Field(
        tablefile.MISSING,
        description="what stands for a missing value: words of a text, or numbers",
    )

    def glance(self) -> None:
        first = self._paths()[0]
        if (names := tablefile.names_at_a_glance(first)) is not None:
            self.columns(names, str(first))

    def _paths(self) -> list[Path]:
        paths = [self._file("path", self.path)]
        if self.test_path is not None:
            paths.append(self._file("test_path", self.test_path))
        return paths

    def read(self) -> RawSplits:
        paths = self._paths()
        if all(path.suffix.lower() == ".npz" for path in paths):
            return self._arrays(paths)
        for path in paths:
            if path.suffix.lower() == ".npz":
                raise ConfigError("test_path", str(path), "is of another form than path", FORMS)
        return self._tables(paths)

    def _file(self, field: str, path: Path) -> Path:
        if path.is_dir():
            raise ConfigError(
                field, str(path), "is a folder", "name: image_folder reads images, a folder a class"
            )
        if not path.is_file():
            raise ConfigError(field, str(path), "there is no such file", "give its path")
        if path.suffix.lower() not in (*tablefile.TEXT, *tablefile.BINARY, ".npz"):
            raise ConfigError(field, str(path), "is of an unknown type", f"use {FORMS}")
        return path

    def _tables(self, paths: Sequence[Path]) -> RawSplits:
        import polars as pl

        wanted = (*self.inputs, *self.exclude, self.label, self.group or self.label)
        frames: list[pl.DataFrame] = []
        notes: list[str] = []
        for path in paths:
            frame = tablefile.cleaned(tablefile.read_frame(path), self.missing_values)
            frame, more = tablefile.without_index(frame, wanted, str(path))
            if not frames:
                inputs = self.columns(frame.columns, str(path))
            named = [*inputs, self.label, *([self.group] if self.group else [])]
            for name in named:
                if name not in frame.columns:
                    raise ConfigError(
                        "test_path", str(path), f"has no column {name!r}", "a file of the same form"
                    )
            frames.append(frame.select(list(dict.fromkeys(named))))
            notes += more + tablefile.counts_rows(frame, inputs, str(path))
        for name in frames[0].columns:
            kinds = {_kind(frame[name]) for frame in frames}
            if len(kinds) > 1:
                one, two = sorted(kinds)
                both = " and ".join(map(str, paths))
                raise DataError(f"column {name!r} holds {one} in one of {both}, {two} in the other")
        merged = tablefile.arrays(pl.concat(frames, how="vertical_relaxed"), exact=self.label)
        return assemble(
            {name: merged[name] for name in inputs},
            merged[self.label],
            merged[self.group] if self.group else None,
            where=str(self.path),
            first_test_row=len(frames[0]) if len(frames) > 1 else None,
            reading=self.reading,
            notes=notes,
        )

    def _arrays(self, paths: Sequence[Path]) -> RawSplits:
        archives = [_read_npz(path) for path in paths]
        parts, notes = halves(archives, self, paths)
        merged = {name: _stack([part[name] for part in parts], name) for name in parts[0]}
        group = merged.pop(self.group) if self.group else None
        label = merged.pop("label")
        values: dict[str, np.ndarray] | np.ndarray = merged
        if len(merged) == 1 and (one := next(iter(merged.values()))).ndim > 2:
            values, more = _images(one, next(iter(merged)))
            notes += more
        return assemble(
            values,
            label,
            group,
            where=str(self.path),
            first_test_row=len(next(iter(parts[0].values()))) if len(parts) > 1 else None,
            reading=self.reading,
            notes=notes,
        )


def _kind(column: object) -> str:
    dtype = column.dtype  # type: ignore[attr-defined]
    return "numbers" if dtype.is_numeric() or str(dtype) == "Boolean" else f"{dtype}".lower()


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no npz file, or is cut short; numpy.savez writes one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            problem = f"{path} cannot be read: Python objects in it are not unpickled; save arrays"
            raise DataError(problem) from error
        raise DataError(f"{path} cannot be read: {error}") from error


def _stack(parts: list[np.ndarray], name: str) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1:
        raise DataError(
            f"array {name!r} has another shape in the test set than in the training set"
        )
    return np.concatenate(parts)


def _images(array: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Images [N, H, W, C], and what was done to have them so."""
    if array.ndim > 4:
        raise DataError(f"array {name!r} of shape {array.shape} is neither table nor images")
    if array.ndim == 3:
        return array[..., None], []
    if array.shape[1] in (1, 3, 4) and array.shape[3] > 4:
        moved = f"array {name!r} of shape {array.shape} was taken as images [N, C, H, W]"
        return array.transpose(0, 2, 3, 1), [moved]
    return array, []
