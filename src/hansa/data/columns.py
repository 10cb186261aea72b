"""Columns of a table made into splits: inputs, labels and owners side by side, gaps dealt with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data.features import Categories, Feature, matrix, refuse_commas
from hansa.data.labels import Task, labels, missing, numbered
from hansa.data.raw import Arrays, RawSplits

SPLIT = Streams(0)
"""The splits that a source makes itself come from this seed, so that a test set is the same in
every run, whatever the run's seed is."""

Gaps = Literal["refuse", "drop", "impute"]


@dataclass(frozen=True)
class Reading:
    """How columns are to be understood; the settings of the same names say more."""

    task: Task | None = None
    missing: Gaps = "refuse"
    categories: Categories = "refuse"
    test_fraction: float = 0.2


def split_rows(
    fraction: float, purpose: str, by: np.ndarray | Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted train and test indices; every distinct value of ``by`` [N] is split alike.

    Each value with n rows gives round(fraction * n) of them to the test set, and always keeps
    one for training. Pass classes for a stratified split, owners for a split per owner, zeros
    for a plain one.
    """
    _, codes = np.unique(np.asarray(by), return_inverse=True)
    rows = len(codes)
    # Shuffled, then grouped by value: a row's rank within its group is its place in the draw.
    order = SPLIT.numpy(purpose).permutation(rows)
    order = order[np.argsort(codes[order], kind="stable")]
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(rows) - np.repeat(starts, sizes)
    quota = np.minimum(np.floor(fraction * sizes + 0.5), sizes - 1)
    is_test = np.zeros(rows, bool)
    is_test[order] = rank < np.repeat(quota, sizes)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def assemble(
    inputs: dict[str, np.ndarray] | np.ndarray,
    label: np.ndarray,
    group: np.ndarray | None,
    *,
    where: str,
    first_test_row: int | None,
    reading: Reading,
    class_names: tuple[str, ...] = (),
    notes: Sequence[str] = (),
) -> RawSplits:
    """Splits from columns in which the test rows follow the training rows.

    Args:
        inputs: columns by name, or images [N, H, W, C] or features [N, F].
        label: [N]; see :func:`labels`.
        group: [N] natural owners of any type, or None.
        where: what the data are called in errors.
        first_test_row: where the test rows begin; None = hold out a fraction by a fixed draw,
            stratified by class.
        reading: how the columns are to be understood.
        class_names: if known, the labels are class ids already.
        notes: what a person should know of how the columns were read.

    Raises:
        ConfigError: the columns can be understood in more than one way, and no setting says in
            which; names it.
        DataError: a column cannot be used.
    """
    label = np.asarray(label)
    if not len(label):
        raise DataError(f"{where}: there is no row")
    if isinstance(inputs, dict):
        values, features = matrix(inputs, where, reading.categories)
        gaps = {name: np.isnan(block).any(1) for name, block in _blocks(values, features)}
        gaps = {name: gap for name, gap in gaps.items() if gap.any()}
    else:
        values = inputs.astype(np.float32) if inputs.ndim == 2 else inputs
        gaps, features = {}, []
    bare = missing(label) if label.ndim == 1 else np.zeros(len(label), bool)
    owner = np.zeros(len(label), bool) if group is None else missing(group)
    kept, notes = _kept(gaps, bare, owner, reading.missing, where, list(notes))
    if not kept.all():
        values, label = values[kept], label[kept]
        group = None if group is None else group[kept]
        if first_test_row is not None:
            first_test_row = int(kept[:first_test_row].sum())
    if class_names and label.dtype.kind in "iu":
        targets, names = label.astype(np.int64), class_names
    else:
        targets, names = labels(label, f"{where}: labels", reading.task)
        if label.dtype.kind in "OU":
            refuse_commas("labels", np.array(names), where)
            notes += _alike(names, where)
    owners: tuple[str, ...] = ()
    groups = None
    if group is not None:
        groups, owners = numbered(group, f"{where}: groups")
    if first_test_row is None:
        by = targets if names else np.zeros(len(targets), np.int64)
        parts = split_rows(reading.test_fraction, "columns", by)
        if len(parts[1]) == 0:
            labelled = bool(class_names)
            raise _no_test(len(targets), names, reading.test_fraction, where, labelled)
    else:
        parts = np.arange(first_test_row), np.arange(first_test_row, len(targets))
        notes += _unseen(targets, names, values, features, first_test_row, where)
    train, test = (
        Arrays(values[rows], targets[rows], None if groups is None else groups[rows])
        for rows in parts
    )
    return RawSplits(
        train,
        test,
        kind="image" if values.ndim == 4 else "table",
        outputs=len(names) or 1,
        class_names=names,
        group_names=owners,
        gaps=values.ndim == 2 and bool(np.isnan(values).any()),
        features=tuple(features),
        notes=tuple(notes),
    )


def _kept(
    gaps: dict[str, np.ndarray],
    label: np.ndarray,
    owner: np.ndarray,
    way: Gaps,
    where: str,
    notes: list[str],
) -> tuple[np.ndarray, list[str]]:
    """bool [N] of the rows to keep, and what to say of it.

    Raises:
        ConfigError: values are missing and nobody said what to do. Names columns and counts.
    """
    anywhere = np.any([label, owner, *gaps.values()], axis=0)
    if not anywhere.any():
        return ~anywhere, notes
    lacking = {"the label": label, "the group": owner} | {repr(k): gap for k, gap in gaps.items()}
    counts = [f"{name} {int(gap.sum())}" for name, gap in lacking.items() if gap.any()]
    shown = ", ".join(counts[:8]) + (" ..." if len(counts) > 8 else "")
    rows = f"{int(anywhere.sum())} of {len(label)} rows"
    if way == "refuse":
        raise ConfigError(
            "missing",
            way,
            f"{where}: values are missing in {rows}: {shown}",
            "missing: impute fills inputs with the training examples' means, missing: drop leaves "
            "those rows out; exclude: [...] leaves columns out",
        )
    gone = anywhere if way == "drop" else label | owner
    if way == "impute" and gaps:
        notes.append(f"{where}: missing values were filled with means: {', '.join(counts)}")
    if gone.any():
        what = "with missing values" if way == "drop" else "without label or group"
        notes.append(f"{where}: {int(gone.sum())} of {len(gone)} rows {what} were left out")
    if gone.all():
        raise ConfigError("missing", way, f"{where}: no row is whole: {shown}", "missing: impute")
    return ~gone, notes


def _blocks(values: np.ndarray, features: Sequence[Feature]) -> Iterator[tuple[str, np.ndarray]]:
    """Each column's name and its part of a matrix."""
    at = 0
    for feature in features:
        yield feature["name"], values[:, at : at + feature["width"]]
        at += feature["width"]


def _unseen(
    targets: np.ndarray,
    names: Sequence[str],
    values: np.ndarray,
    features: Sequence[Feature],
    first_test_row: int,
    where: str,
) -> list[str]:
    """Remarks on classes and words that the test set alone has."""
    seen = np.unique(targets[:first_test_row])
    unseen = {"classes": [name for k, name in enumerate(names) if k not in seen]}
    for feature, (name, block) in zip(features, _blocks(values, features), strict=True):
        trained_on = (block[:first_test_row] == 1).any(0)
        words = zip(feature["words"] or (), trained_on, strict=False)
        unseen[f"words of {name!r}"] = [word for word, trained in words if not trained]
    return [
        f"{where}: {what} in the test set only, which no model can learn: {', '.join(only[:8])}"
        for what, only in unseen.items()
        if only
    ]


def _alike(names: tuple[str, ...], where: str) -> list[str]:
    """A remark where two classes differ in capitals only."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            return [f"{where}: classes {other!r} and {name!r} differ in capitals only"]
    return []


def _no_test(
    rows: int, names: tuple[str, ...], fraction: float, where: str, known: bool
) -> DataError:
    """Why nothing was left for the test set; ``known``: the labels are surely classes."""
    if not names:
        problem = f"{fraction:g} of {rows} rows is less than one"
        return DataError(f"{where}: the test set is empty: {problem}; use more, or test_path")
    return DataError(
        f"{where}: the test set is empty: {len(names)} classes in {rows} rows, and {fraction:g} of "
        "no class is a row; use more rows, a larger test_fraction, or a test set of its own "
        f"(test_path){'' if known else ', or, if the labels are amounts, task: regression'}"
    )
