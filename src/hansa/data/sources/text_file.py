"""Texts in tables of the user's own: a column of texts, a column of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.data import tablefile
from hansa.data.labels import labels, missing, numbered
from hansa.data.sources.table_source import require
from hansa.data.sources.text_source import Texts, TextSource

if TYPE_CHECKING:
    import polars as pl


# Overrides no `files`: a user's own, perhaps private, texts are never copied into the cache.
@register("text_file")
class TextFile(TextSource):
    """A local table of texts (parquet, or csv and its kin with a header): one row a text.

    Labels may be words (classes, numbered in sorted order), whole numbers (classes) or fractions
    (a regression).
    """

    path: Path = Field(..., description="the file: .csv, .tsv, .txt, .data or .parquet")
    test_path: Path | None = Field(None, description="a file of the same form with the test set")
    text: str = Field("text", description="column of texts")
    label: str = Field("label", description="column of labels")
    group: str | None = Field(None, description="column of natural owners, if there is one")

    def texts(self) -> Texts:
        import polars as pl

        frames = [self._frame("path", self.path)]
        if self.test_path is not None:
            frames.append(self._frame("test_path", self.test_path))
        frame = pl.concat(frames, how="vertical_relaxed")
        where = str(self.path)
        rest = tablefile.arrays(tablefile.cleaned(frame.drop(self.text)), exact=self.label)
        for name, column in rest.items():
            if (gaps := missing(column)).any():
                row = int(np.flatnonzero(gaps)[0])
                file: Path | None = self.path
                if row >= len(frames[0]):
                    file, row = self.test_path, row - len(frames[0])
                what = "a label" if name == self.label else "an owner"
                problem = f"{file}: row {row + 1} has no {name!r}"
                raise DataError(f"{problem}; give it {what}, or drop it")
        targets, names = labels(rest[self.label], f"{where}: labels")
        groups: np.ndarray | None = None
        owners: tuple[str, ...] = ()
        if self.group:
            groups, owners = numbered(rest[self.group], f"{where}: groups")
        first_test = len(frames[0]) if len(frames) > 1 else None
        said = frame[self.text].to_list()
        return Texts(said, targets, names, groups, owners, first_test)

    def _frame(self, field: str, path: Path) -> pl.DataFrame:
        """The columns that are read of a file."""
        import polars as pl

        if not path.is_file():
            raise ConfigError(field, str(path), "there is no such file", "give its path")
        known = (*tablefile.TEXT, *tablefile.BINARY)
        if path.suffix.lower() not in known:
            raise ConfigError(field, str(path), "is of an unknown type", f"use {', '.join(known)}")
        frame = tablefile.read_frame(path)
        columns = {"text": self.text, "label": self.label, "group": self.group}
        chosen = {role: name for role, name in columns.items() if name}
        for role, name in chosen.items():
            require(role, name, frame.columns, str(path))
        if len(set(chosen.values())) < len(chosen):
            raise ConfigError("label", self.label, "is named twice", "one column for each")
        frame = frame.select(pl.col(self.text).cast(pl.String), *list(chosen.values())[1:])
        empty = frame[self.text].is_null() | (frame[self.text].str.strip_chars() == "")
        if empty.any():
            row = int(np.flatnonzero(empty.to_numpy())[0]) + 1
            problem = (
                f"{path}: row {row} has no text in {self.text!r} ({int(empty.sum())} such rows)"
            )
            raise DataError(f"{problem}; write one, or drop the row")
        return frame
