"""Columns of a table made into arrays: labels to classes, owners to groups, numbers to inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data.raw import Arrays, RawSplits

SPLIT = Streams(0)
"""The splits that a source makes itself come from this seed, so that a test set is the same in
every run, whatever the run's seed is."""


def labels(values: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Targets [N] and class names from a column of labels.

    Floats stay floats (float32, a regression, no names); whole numbers that start at 0 without
    gaps are classes already; anything else is numbered in sorted order.

    Raises:
        DataError: labels are missing.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise DataError(f"{where}: labels of shape {values.shape}; one number each is needed")
    if values.dtype.kind == "f":
        return values.astype(np.float32), ()
    codes, names = numbered(values, where)
    return codes, names


def numbered(values: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Ids 0, 1, ... [N] int64 of the distinct values in sorted order, and their names.

    Raises:
        DataError: a value is missing.
    """
    values = np.asarray(values)
    if values.dtype.kind == "O":
        missing = sum(value is None for value in values)
        if missing:
            raise DataError(f"{where}: {missing} values are missing; drop those rows")
        values = values.astype(str)
    elif values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{where}: values are missing; drop those rows")
    names, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), tuple(str(name) for name in names)


def numbers(columns: dict[str, np.ndarray], where: str) -> np.ndarray:
    """Columns of numbers (or booleans) [N] or of vectors [N, k] side by side, float32 [N, F].

    Raises:
        DataError: there is no column, or one holds text or missing values. Names the column.
    """
    if not columns:
        raise DataError(f"{where}: there is no input column besides label and group")
    blocks = []
    for name, column in columns.items():
        if len(column) and isinstance(column[0], (list, np.ndarray)) and column.dtype == object:
            column = _stacked(column, f"{where}: column {name!r}")
        if column.dtype.kind not in "fiub":
            raise DataError(
                f"{where}: column {name!r} holds text or missing values, not numbers; encode it, "
                "or leave it out by naming the input columns"
            )
        block = column.astype(np.float32).reshape(len(column), -1)
        if not np.isfinite(block).all():
            bad = int((~np.isfinite(block)).any(axis=1).sum())
            raise DataError(
                f"{where}: column {name!r} has {bad} rows with missing or infinite values; fill "
                "or drop them"
            )
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def _stacked(column: np.ndarray, where: str) -> np.ndarray:
    """A column of lists as a matrix."""
    lengths = {len(item) if item is not None else -1 for item in column}
    if len(lengths) > 1:
        raise DataError(f"{where} holds lists of different lengths; make them equal")
    return np.array([list(item) for item in column])


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
    test_fraction: float,
    class_names: tuple[str, ...] = (),
) -> RawSplits:
    """Splits from columns in which the test rows follow the training rows.

    Args:
        inputs: columns of numbers by name, or images [N, H, W, C] or features [N, F].
        label: [N]; see :func:`labels`.
        group: [N] natural owners of any type, or None.
        where: what the data are called in errors.
        first_test_row: where the test rows begin; None = hold out ``test_fraction`` by a fixed
            draw, stratified by class.
        class_names: if known, the labels are class ids already.

    Raises:
        DataError: a column cannot be used.
    """
    values = numbers(inputs, where) if isinstance(inputs, dict) else inputs
    if class_names and np.asarray(label).dtype.kind in "iu":
        targets, names = np.asarray(label).astype(np.int64), class_names
    else:
        targets, names = labels(label, f"{where}: labels")
    owners: tuple[str, ...] = ()
    groups = None
    if group is not None:
        groups, owners = numbered(group, f"{where}: groups")
    if first_test_row is None:
        by = targets if names else np.zeros(len(targets), np.int64)
        parts = split_rows(test_fraction, "columns", by)
    else:
        parts = np.arange(first_test_row), np.arange(first_test_row, len(targets))
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
    )
