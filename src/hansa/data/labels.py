"""Labels and owners: a column of anything made into class ids, amounts or group ids."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hansa.base.errors import ConfigError, DataError

Task = Literal["classification", "regression"]
FEW = 20
"""Up to so many different whole numbers are classes without further question."""


def missing(values: np.ndarray) -> np.ndarray:
    """bool [N]: where a column of numbers (nan), objects (None, nan) or dates has no value."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind == "O":
        return np.array([v is None or (isinstance(v, float) and v != v) for v in values], bool)
    return np.zeros(len(values), bool)


def text(values: np.ndarray) -> np.ndarray:
    """Words without the spaces around them, so that " yes" and "yes" are one; others as given."""
    if values.dtype.kind not in "OUS":
        return values
    return np.char.strip(values.astype(str))


def labels(
    values: np.ndarray, where: str, task: Task | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Targets [N] and class names from a column of labels.

    Text, booleans and whole numbers are classes, numbered in sorted order; fractions are the
    amounts of a regression (float32, no names). ``task`` says it where the numbers do not:
    whole numbers that are stored as floats, or so many and rare that they may be amounts.

    Raises:
        ConfigError: the numbers do not tell the task, or do not fit the one that is set.
        DataError: labels are missing, or not one a row.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    listed = (list, tuple, np.ndarray)
    lists = values.dtype.kind == "O" and any(isinstance(v, listed) for v in values.flat)
    if values.ndim != 1 or lists:
        raise DataError(
            f"{where}: labels of shape {_shape(values)}; one a row is needed, so a class's number "
            "instead of a row of zeros with a one"
        )
    if gaps := int(missing(values).sum()):
        raise DataError(f"{where}: {gaps} values are missing; drop those rows")
    if values.dtype.kind == "O":
        kept = np.array(values.tolist())  # whole numbers and booleans beside which values lacked
        values = kept if kept.dtype.kind in "biu" else text(values)
    if values.dtype.kind not in "fiu":
        if task == "regression":
            shown = "text" if values.dtype.kind in "US" else str(values.dtype)
            raise ConfigError(
                "task", task, f"{where} are {shown}, not amounts", "task: classification"
            )
        return numbered(values, where)
    if not np.isfinite(values).all():
        raise DataError(f"{where}: {int((~np.isfinite(values)).sum())} values are infinite")
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    if task is None:
        task = _told(values, whole, where)
    if task == "regression":
        return values.astype(np.float32), ()
    if not whole:
        example = values[values != np.rint(values)][0]
        problem = f"{where} are amounts such as {example:g}, not classes"
        raise ConfigError("task", task, problem, "task: regression")
    return numbered(values.astype(np.int64), where)


def _shape(values: np.ndarray) -> tuple[int | str, ...]:
    """The shape of labels, also where each is a list of its own."""
    return values.shape if values.ndim != 1 else (len(values), "...")


def _told(values: np.ndarray, whole: bool, where: str) -> Task:
    """The task that numbers tell by themselves."""
    if not whole:
        return "regression"
    different = np.unique(values)
    count, rows = len(different), len(values)
    shown = f"{count} different whole numbers in {rows} rows"
    listed = different[0] in (0, 1) and different[-1] - different[0] == count - 1
    if values.dtype.kind in "iu":
        often = 1.5 if count <= 5 or listed else 5
        if (count <= FEW or listed) and rows >= often * count:
            return "classification"
        problem = f"{where} are {shown} ({different[0]} to {different[-1]}): classes or amounts?"
    elif count > FEW:
        return "regression"
    else:
        shown = ", ".join(f"{v:.1f}" for v in different[:3]) + (" ..." if count > 3 else "")
        problem = f"{where} are whole numbers stored as fractions ({shown}): classes or amounts?"
    raise ConfigError("task", None, problem, "task: classification, or task: regression")


def numbered(values: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Ids 0, 1, ... [N] int64 of the distinct values in sorted order, and their names.

    Raises:
        DataError: a value is missing.
    """
    values = np.asarray(values)
    if gaps := int(missing(values).sum()):
        raise DataError(f"{where}: {gaps} values are missing; drop those rows")
    names, codes = np.unique(text(values), return_inverse=True)
    return codes.astype(np.int64), tuple(str(name) for name in names)
