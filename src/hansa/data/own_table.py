"""A party's own table, read without the others', and made the same as a part of one table of all.

It is read by its own form first. Then the party tells what the run needs (names of classes and
words, moments of the columns), and takes the form and the figures of all together: its examples
are then, number by number, what they would be in a table that all had put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, WireError
from hansa.base.streams import Streams
from hansa.data.dataset import Dataset
from hansa.data.features import MOST, Feature
from hansa.data.gaps import Means
from hansa.data.moments import Moments, together
from hansa.data.raw import check
from hansa.data.sources.table_source import TableSource
from hansa.data.table_form import TableForm, joined, recast

NAMES, MOMENTS, LIMITS = "names", "moments", "limits"
STATISTICS = {
    NAMES: "the names of its classes and of the words in its columns, or of its users and items",
    MOMENTS: "for each column how many values it has, their sum and their spread",
    LIMITS: "for each column its lowest and its highest value",
}
"""What a party may have to tell of its table, in words."""
_LONGEST = 200  # characters of a name
_CLASSES = 10_000


class OwnTable:
    """One party's rows.

    Args:
        source: reads them; what it declares is not told.
        streams: decide what is held out.
        limits: the algorithm asks for the lowest and highest values.

    Attributes:
        form: as its own rows say, or as it is declared.
        needs: what it has to tell of :data:`STATISTICS`.

    Raises:
        ConfigError, DataError: the table cannot be used.
    """

    def __init__(self, source: TableSource, streams: Streams, limits: bool = False) -> None:
        self.source, self._streams, self._limits = source, streams, limits
        for field in ("public", "train_samples", "test_samples", "markers"):
            if getattr(source, field):
                problem = "needs the examples of all, and every site has its own"
                raise ConfigError(field, getattr(source, field), problem, "leave it out")
        if source.amounts != "given":
            problem = "needs the mean of all labels, and sites do not tell it"
            raise ConfigError("amounts", source.amounts, problem, "given, and labels near 1")
        self.raw = source.understood(source.read())
        if self.raw.kind != "table" or not self.raw.features:
            problem = "a site's own data are a table with named columns"
            raise ConfigError("path", str(getattr(source, "path", "")), problem, ".csv or .parquet")
        self.form = TableForm.of(self.raw)
        stored = source.parted(self.raw, streams).train
        filled = Means.of(stored).fill(stored) if self.raw.gaps else stored
        self.moments = Moments.of(stored.inputs.numpy(), filled.inputs.numpy())
        self.targets = stored.targets.numpy()

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to be told, in the order of :data:`STATISTICS`."""
        declared = self.source.declared
        scaled = declared.scales or self.source.normalize == "none"
        gaps = self.raw.gaps and self.source.imputes
        asked = {
            NAMES: not declared.tells_names(self.form),
            MOMENTS: not scaled or gaps,
            LIMITS: self._limits,
        }
        return tuple(name for name, needed in asked.items() if needed)

    @property
    def _figures(self) -> tuple[str, ...]:
        """Which of a :class:`Moments` are told."""
        moments = ("present", "total", "filled", "squares") if MOMENTS in self.needs else ()
        return ("rows", *moments, *(("lowest", "highest") if LIMITS in self.needs else ()))

    @property
    def columns(self) -> list[Any]:
        """Names and kinds of the columns: the same at all parties."""
        return [
            [f["name"], f["width"] if f["words"] is None else "words"] for f in self.raw.features
        ]

    def tells(self) -> dict[str, Any]:
        """What it tells, plain data and arrays."""
        told: dict[str, Any] = {}
        if NAMES in self.needs:
            words = [feature["words"] or [] for feature in self.form.features]
            told[NAMES] = {"classes": list(self.form.classes), "words": words}
        if MOMENTS in self.needs or LIMITS in self.needs:
            told[MOMENTS] = {name: getattr(self.moments, name) for name in self._figures}
        return told

    def dataset(
        self,
        tells: Sequence[Mapping[str, Any]],
        whose: Sequence[str],
        trains: Sequence[bool] | None = None,
    ) -> tuple[Dataset, tuple[TableForm, ...]]:
        """(the data set with this party's examples, each party's own form).

        Args:
            tells: what the parties with tables told, this one among them.
            whose: what each is called.
            trains: which of them train on their rows; None: all.

        Raises:
            ConfigError, DataError: the tables are no parts of one.
            WireError: what one told is malformed.
        """
        forms = tuple(self._form(one, name) for one, name in zip(tells, whose, strict=True))
        form = joined(forms, whose)
        figures = None
        if MOMENTS in self.needs or LIMITS in self.needs:
            moments = [
                self._moments(one, own, name).spread(own, form)
                for one, own, name, holds in zip(
                    tells, forms, whose, trains or [True] * len(forms), strict=True
                )
                if holds
            ]
            figures = together(moments)
        raw = recast(self.raw, form, "data")
        check(raw, "data")
        parts = self.source.parted(raw, self._streams)
        return self.source.prepared(raw, parts, figures), forms

    def _form(self, told: Mapping[str, Any], who: str) -> TableForm:
        """A party's form: this one's where it was declared, with the names that it told."""
        if NAMES not in self.needs:
            return self.form
        names = told.get(NAMES)
        words = names.get("words") if isinstance(names, Mapping) else None
        classes = names.get("classes") if isinstance(names, Mapping) else None
        own = self.form.features
        if not isinstance(words, list) or len(words) != len(own) or not _names(classes, _CLASSES):
            raise WireError(f"what {who} tells of its classes and words is none")
        features = []
        for feature, listed in zip(own, words, strict=True):
            if not _names(listed, MOST):
                raise WireError(f"what {who} tells of the words of {feature['name']!r} is none")
            worded = feature["words"] is not None
            width = len(listed) if worded else feature["width"]
            said = listed if worded else None
            features.append(Feature(name=feature["name"], words=said, width=width))
        assert isinstance(classes, list)
        return TableForm(tuple(features), tuple(classes))

    def _moments(self, told: Mapping[str, Any], form: TableForm, who: str) -> Moments:
        """A party's moments by column of its own form; nan of what is not told."""
        known = told.get(MOMENTS)
        values: dict[str, np.ndarray] = {}
        for name in (one.name for one in fields(Moments)):
            counted = name in ("rows", "present")
            value = known.get(name) if isinstance(known, Mapping) else None
            if name not in self._figures:
                value = values["rows"] if counted else np.full(form.width, np.nan)
            kind = np.int64 if counted else np.float64
            if not isinstance(value, np.ndarray) or value.dtype != kind:
                raise WireError(f"what {who} tells of its columns is none")
            if value.shape != (form.width,):
                raise WireError(f"what {who} tells of its columns is none")
            values[name] = value
        rows, present = values["rows"], values["present"]
        told_values = [values[name] for name in self._figures]
        if (rows < 1).any() or ((present < 0) | (present > rows)).any():
            raise WireError(
                f"{who} tells of {rows.min()} rows, {present.min()} of them with values"
            )
        if not all(np.isfinite(value).all() for value in told_values):
            raise WireError(f"{who} tells of a column that is not finite")
        return Moments(**values)


def _names(value: Any, most: int) -> bool:
    """Whether this is a list of so many different names at most."""
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(isinstance(name, str) and len(name) <= _LONGEST for name in value)
        and len(set(value)) == len(value)
    )
