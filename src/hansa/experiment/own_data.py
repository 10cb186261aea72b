"""What somebody brings to a first file: a table, or the folder of a run; and where it goes.

The file that comes of a table runs on it as it stands: columns that cannot be inputs are left out
and named, and there are no more nodes than the rows can feed.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data.labels import FEW
from hansa.data.tablefile import BINARY, TEXT
from hansa.report.folder import is_run

if TYPE_CHECKING:
    import polars as pl

    from hansa.data.raw import RawSplits
    from hansa.experiment.settings_file import SettingsFile

EACH = 10
"""So many training examples a node has at least, where the number of nodes is not said."""


@dataclass(frozen=True)
class OwnData:
    """Somebody's own data.

    Attributes:
        path: the file or folder, from here.
        written: how the file of settings names it.
        label: the column that is to be predicted, or that decides.
        groups: columns that say whose a row is, or to which group somebody belongs.
        nodes: how many nodes were asked for; None: as many as suit.
        sets: ``key=value`` that will be put over the settings.
        remarks: what a person should know of what was chosen; grows.
    """

    path: Path
    written: str
    label: str | None = None
    groups: tuple[str, ...] = ()
    nodes: int | None = None
    sets: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def is_run(self) -> bool:
        """Whether it is the folder of a run."""
        return is_run(self.path)

    @property
    def is_table(self) -> bool:
        """Whether it is a file of named columns."""
        return self.path.suffix.lower() in (*TEXT, *BINARY)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The table's columns.

        Raises:
            DataError: it cannot be read.
        """
        from hansa.data import tablefile

        frame = tablefile.cleaned(tablefile.read_frame(self.path))
        return tablefile.without_index(frame, (), str(self.path))[0]

    def says(self, setting: str) -> bool:
        """Whether a setting is said beside the data."""
        return any(one.partition("=")[0].strip() == setting for one in self.sets)

    def column(self, setting: str, name: str | None, question: str) -> str:
        """A column of that name.

        Raises:
            ConfigError: it was not said, or is not there; names the columns.
        """
        columns = self.frame.columns
        fix = f"one of {', '.join(columns)}"
        if name is None:
            raise ConfigError(setting, None, question, fix)
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(setting, name, f"is no column of {self.path}", hint + fix)
        return name

    def unfit(self, owned: tuple[str, ...]) -> dict[str, str]:
        """Why a column can be no input, by its name.

        Args:
            owned: columns that are something else.
        """
        import polars as pl

        from hansa.data import tablefile
        from hansa.data.features import matrix

        frame = self.frame.drop(owned)
        doubtful: dict[str, str] = {}
        unreadable: dict[str, str] = {}
        for name in frame.columns:
            column = frame[name]
            filled = column.drop_nulls()
            worded = column.dtype == pl.String and len(filled) > FEW
            if worded and filled.n_unique() >= 0.9 * len(filled):
                doubtful[name] = "nearly every row has a word of its own there"
                continue
            if tablefile.counts_rows(frame, [name], ""):
                doubtful[name] = "it counts the rows"
            try:
                matrix(tablefile.arrays(frame.select(name)), "", "one_hot")
            except DataError as error:
                said = str(error).removeprefix(": ").removeprefix(f"column {name!r} ")
                unreadable[name] = said.partition(";")[0]
        every = {**doubtful, **unreadable}
        return every if len(every) < len(frame.columns) else unreadable


def placed(kind: type[SettingsFile], settings: dict[str, Any], own: OwnData) -> dict[str, Any]:
    """Settings of a kind with somebody's data in place of the sketch's.

    Raises:
        ConfigError: the kind cannot use it so; says what it needs. Or a column is not there.
    """
    if kind.begun_on:
        made: dict[str, Any] = part_of(kind.begun_on)(settings, own)
        return made
    return in_place(kind, settings, own)


def part_of(place: str) -> Callable[..., Any]:
    """The function at ``module:function``, imported now."""
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def in_place(kind: type[SettingsFile], settings: dict[str, Any], own: OwnData) -> dict[str, Any]:
    """Settings with the data where the kind's own go, in place of the sketch's.

    Raises:
        ConfigError: see :func:`placed`.
    """
    if not kind.own_data:
        raise needs(kind, own)
    at, source = kind.own_data
    if own.path.is_dir():
        problem = "is the folder of a run" if own.is_run else "is a folder"
        fix = f"a table; of images: --set {at}.name=image_folder --set {at}.path={own.path}"
        raise ConfigError("data", str(own.path), problem, fix)
    if source != "file":
        return put_part(settings, at, _rated(own, source))
    part: dict[str, Any] = {"name": source, "path": own.written}
    if own.is_table:
        part |= _columns(own)
    part["partition"] = "natural" if own.groups else "iid"
    return put_part(settings, at, part)


def needs(kind: type[SettingsFile], own: OwnData) -> ConfigError:
    """Why a kind cannot begin with such data, and what it begins with."""
    what = kind.needs or "does not take its data so"
    fix = kind.needs_fix or f"hansa list settings {kind.own_verb()}"
    return ConfigError("data", str(own.path), f"hansa {kind.command} {what}", fix)


def put_part(settings: dict[str, Any], at: str, part: dict[str, Any]) -> dict[str, Any]:
    """A part at its place, in place of the former; returns the settings."""
    *groups, last = at.split(".")
    inside = settings
    for key in groups:
        inside = inside.setdefault(key, {})
    inside[last] = part
    return settings


def fit_nodes(settings: dict[str, Any], own: OwnData, raw: RawSplits, at: str = "nodes") -> int:
    """No more nodes than the rows can feed, in place; says how many rows the least has.

    Each owner is a node; without owners a node has :data:`EACH` rows, where nobody said how many.

    Args:
        at: what the number of nodes is called.
    """
    *groups, last = at.split(".")
    where = inside(settings, ".".join(groups)) if groups else settings
    rows = len(raw.train.targets)
    if raw.train.groups is not None:
        sizes = np.unique(raw.train.groups, return_counts=True)[1]
        where[last] = own.nodes or len(sizes)
        return int(sizes.min())
    where[last] = own.nodes or max(2, min(int(where[last]), rows // EACH))
    return rows // int(where[last])


_FOR_TABLES = ("mlp", "logistic")


def fit_run(settings: dict[str, Any], own: OwnData, raw: RawSplits) -> None:
    """A run's nodes, and batches that the least of them can fill; in place."""
    if raw.regression:
        settings["data"]["amounts"] = "standard"
    model = settings.get("model")
    if (model["name"] if isinstance(model, Mapping) else model) not in (None, *_FOR_TABLES):
        settings["model"] = _FOR_TABLES[0]  # an algorithm's example may be one of images
    least, train = fit_nodes(settings, own, raw), settings.get("train") or {}
    if least < 2 * train.get("batch_size", 16):
        settings["train"] = {**train, "drop_last": False}


def fit_ensemble(settings: dict[str, Any], own: OwnData, raw: RawSplits) -> None:
    """An ensemble's clients, and proxies that are many enough; in place."""
    fit_nodes(settings, own, raw, "clients")
    if len(raw.train.targets) < 40 * max(2, len(raw.class_names)):  # a tenth of them is held back
        settings["proxies"] = "crossed"


def fit_members(settings: dict[str, Any], own: OwnData, raw: RawSplits) -> None:
    """The clients of robust inference, and no rule that learns from next to nothing; in place."""
    fit_nodes(settings, own, raw, "clients.members")
    if len(raw.train.targets) < 100 * max(2, len(raw.class_names)):  # the server has a tenth
        rules = settings["aggregators"]
        kept = [r for r in rules if not (isinstance(r, Mapping) and "training" in r)]
        if len(kept) < len(rules):
            own.remarks.append("rules that learn need more rows, and are left out")
        settings["aggregators"] = kept


def fit_sweep(settings: dict[str, Any], own: OwnData, raw: RawSplits) -> None:
    """The run that is swept; in place."""
    fit_run(settings["run"], own, raw)


def inside(settings: Mapping[str, Any], at: str) -> Any:
    """What stands at a dotted name; None where nothing does."""
    value: Any = settings
    for key in at.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _rated(own: OwnData, source: str) -> dict[str, Any]:
    if own.groups:
        raise ConfigError("group", own.groups[0], "users are the groups of ratings", "no --group")
    part = {"name": source, "path": own.written}
    if own.label is not None:
        part["rating"] = own.column("label", own.label, "")
    return part


def _columns(own: OwnData) -> dict[str, Any]:
    """What a source of tables is told of the columns."""
    question = f"which column of {own.path} is to be predicted?"
    label = own.column("label", own.label, question)
    if len(own.groups) > 1:
        problem = "one column says whose a row is"
        raise ConfigError("group", ", ".join(own.groups), problem, "one --group")
    part: dict[str, Any] = {"label": label, "missing": "impute", "categories": "one_hot"}
    owned: tuple[str, ...] = (label,)
    for group in own.groups:
        part["group"] = own.column("group", group, "")
        if group == label:
            raise ConfigError("group", group, "is the label", "another column")
        owned += (group,)
    if unfit := own.unfit(owned):
        part["exclude"] = [*unfit]
        own.remarks.extend(f"column {name!r} is left out: {why}" for name, why in unfit.items())
    return part
