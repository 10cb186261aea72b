"""A table of one's own: columns are attributes, as they stand or by rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hansa.audit.grouping import by_rule, favourable, levels
from hansa.audit.population import Attribute, Population
from hansa.audit.population_source import PopulationSource
from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.data import tablefile

if TYPE_CHECKING:
    import polars as pl


class Column(BaseModel):
    """An attribute that is made of a column of another name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    column: str = Field(description="its name in the table")
    rule: str | None = Field(None, description="a comparison that makes two groups of it")
    values: tuple[str, ...] | None = Field(
        None, description="the values that are groups, in order; the others are unknown"
    )


@register("table")
class Table(PopulationSource):
    """Rows of a CSV or Parquet file; who lacks a value is of no known group, and is listed so."""

    path: Path = Field(..., description="the file: .csv, .tsv, .txt, .data or .parquet")
    attributes: dict[str, str | tuple[str, ...] | Column | None] = Field(
        ...,
        min_length=1,
        description="by name: nothing for a group of every value, a rule such as '> 25', '= male' "
        "for two groups, a list of the values that are groups, the reference first, or a mapping "
        "with the column and one of these as rule or values",
    )
    answer: str | None = Field(
        None, description="column of the platform's decisions, where they are known (studies)"
    )
    favourable: str | None = Field(
        None, description="the decision that is favourable; none = 1 or true"
    )
    label: str | None = Field(None, description="column of the true outcome, if there is one")
    favourable_label: str | None = Field(
        None, description="the true outcome that is favourable; none = 1 or true"
    )
    id: str | None = Field(None, description="column that names the rows to the platform")
    missing_values: tuple[str, ...] = Field(
        tablefile.MISSING, description="words that stand for a missing value"
    )

    def read(self) -> Population:
        if not self.path.is_file():
            raise ConfigError("path", str(self.path), "there is no such file", "give its path")
        frame = tablefile.read_frame(self.path)
        attributes = {name: self._attribute(frame, name) for name in self.attributes}
        notes = [
            f"{one.unknown} rows of unknown {name}"
            for name, one in attributes.items()
            if one.unknown
        ]
        answers = labels = None
        if self.answer is not None:
            words = self._column(frame, self.answer, "answer")
            answers = favourable(words, self.favourable, "favourable")
        if self.label is not None:
            words = self._column(frame, self.label, "label")
            labels = favourable(words, self.favourable_label, "favourable_label")
        ids = None
        if self.id is not None:
            ids = np.array(["" if w is None else w for w in self._column(frame, self.id, "id")])
            if len(np.unique(ids)) < len(ids):
                raise ConfigError("id", self.id, "does not tell the rows apart", "name another")
        return Population(attributes, answers, labels, ids, self.path.stem, tuple(notes))

    def _attribute(self, frame: pl.DataFrame, name: str) -> Attribute:
        how = self.attributes[name]
        if isinstance(how, Column):
            words = self._column(frame, how.column, f"attributes.{name}.column")
            if how.rule is not None:
                return by_rule(name, words, how.rule)
            return levels(name, words, how.values)
        words = self._column(frame, name, "attributes")
        if isinstance(how, str):
            return by_rule(name, words, how)
        return levels(name, words, how)

    def _column(self, frame: pl.DataFrame, name: str, field: str) -> list[str | None]:
        """A column as words without spaces around them, None where a value is missing."""
        if name not in frame.columns:
            fix = f"it has {', '.join(frame.columns[:20])}"
            raise ConfigError(field, name, f"is no column of {self.path.name}", fix)
        column = frame[name]
        if column.dtype.is_float() and bool((column.drop_nulls() % 1 == 0).all()):
            column = column.cast(int)  # whole numbers that parquet holds as fractions
        words = ["" if value is None else str(value).strip() for value in column.to_list()]
        return [None if word in self.missing_values else word for word in words]
