"""The settings that all sources of tables share: which columns there are and how they are read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.base.words import is_number
from hansa.data import tablefile
from hansa.data.columns import Reading
from hansa.data.dataset import Split
from hansa.data.declared import Declared
from hansa.data.raw import RawSplits
from hansa.data.source import DataSource
from hansa.data.table_form import TableForm, recast


class TableSource(DataSource):
    """A source of rows with named columns: a subclass reads, this class says which and how."""

    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="held out as the test set where there is none of its own"
    )
    inputs: tuple[str, ...] = Field((), description="input columns; empty = all others")
    exclude: tuple[str, ...] = Field((), description="columns that are no inputs")
    label: str = Field("label", description="column of labels")
    group: str | None = Field(None, description="column of natural owners, if there is one")
    task: Literal["classification", "regression"] | None = Field(
        None,
        description="what the labels are: classes, or amounts; not set: text and whole numbers are "
        "classes, fractions amounts, and what could be either is asked",
    )
    amounts: Literal["given", "standard"] = Field(
        "given",
        description="of a regression, in which unit a network learns: given, the labels' own; "
        "standard, by their mean and spread. It answers, and is measured, in the labels' own",
    )
    missing: Literal["refuse", "drop", "impute"] = Field(
        "refuse",
        description="rows with missing values: refuse; drop: leave them out; impute: fill inputs "
        "with the training examples' means, of each owner where there is a group, and leave out "
        "rows without a label",
    )
    categories: Literal["refuse", "one_hot"] = Field(
        "refuse", description="columns of words: refuse; one_hot: a column of 0 and 1 for each word"
    )

    declared: Declared = Field(
        Declared(), description="what is known of the columns beforehand, for sites that tell less"
    )

    def _amounts(self, train: Split) -> tuple[float, ...]:
        if self.amounts == "given":
            return ()
        targets = train.targets.double()
        spread = float(targets.std(correction=0))
        return float(targets.mean()), spread if spread > 0 else 1.0

    @property
    def imputes(self) -> bool:
        """Whether missing values are filled."""
        return self.missing == "impute"

    def interface(self) -> dict[str, Any]:
        gone = getattr(self, "missing_values", tablefile.MISSING)
        named = {"label": self.label, "group": self.group, "missing_values": list(gone)}
        return super().interface() | named

    @property
    def reading(self) -> Reading:
        """How columns are to be understood."""
        return Reading(self.task, self.missing, self.categories, self.test_fraction)

    def understood(self, raw: RawSplits) -> RawSplits:
        """Numbered by the classes and words that are declared, where some are."""
        if not (self.declared.classes or self.declared.words):
            return raw
        form = self.declared.form(TableForm.of(raw))
        return recast(raw, form, type(self).name)

    def declared_scaling(self, raw: RawSplits) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.declared.scales:
            return None
        return self.declared.scaling(TableForm.of(raw))

    def columns(self, known: Collection[str], where: str) -> tuple[str, ...]:
        """The input columns among those that there are.

        Raises:
            ConfigError: a column that is named is not there.
        """
        for name in self.exclude:
            require("exclude", name, known, where)
            others = {self.label: "the label", self.group: "the group"}
            others |= dict.fromkeys(self.inputs, "among the inputs")
            if name in others:
                raise ConfigError("exclude", name, f"is {others[name]} too", "exclude without it")
        own = {self.label, self.group, *self.exclude}
        chosen = self.inputs or tuple(name for name in known if name not in own)
        for name in chosen:
            require("inputs", name, known, where)
        require("label", self.label, known, where)
        if self.label in self.inputs:
            raise ConfigError("inputs", self.label, "is the label", "inputs without it")
        if self.group:
            require("group", self.group, known, where)
        return chosen


def require(field: str, name: str, known: Collection[str], where: str) -> None:
    """Refuse the name of a column that is not there.

    Raises:
        ConfigError: naming the setting, and the columns that are there.
    """
    if name in known:
        return
    near = [other for other in known if other.casefold() == name.casefold()]
    near = near or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if _are_values(known):
        hint = "the first line holds values, and names are needed there; "
    shown: Sequence[str] = list(known)
    listed = ", ".join(shown[:30]) + (f" ... ({len(shown)} in all)" if len(shown) > 30 else "")
    raise ConfigError(field, name, f"is not a column of {where}", f"{hint}one of {listed}")


def _are_values(names: Iterable[str]) -> bool:
    """Whether most names are numbers, and do not count columns: a file without a line of names."""
    every = list(names)
    numeric = [name for name in every if is_number(name)]
    counted = {str(k) for k in range(len(every) + 1)}
    return 2 * len(numeric) > len(every) and not set(numeric) <= counted
