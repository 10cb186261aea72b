"""Rows from a file, as the network reads them, and predictions to one."""

from __future__ import annotations

import csv
import json
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, DataError, HansaWarning
from hansa.base.files import atomic_write
from hansa.base.lazy import safetensors
from hansa.infer.private.sessions.outline import fits

ARRAYS = (".npy", ".npz", ".safetensors")
OUTPUTS = (".npz", ".csv", ".json")
_NAMES = ("inputs", "input", "x", "rows", "test", "data")
"""An array of a file of several that is taken for the rows, the first that there is."""
_OFTEN = 0.01
_MOSTLY = 0.2
"""Shares of numbers out of range that are warned of, and refused."""


def check_input(path: Path) -> None:
    """That there is a file of a kind that can be read.

    Raises:
        ConfigError: there is not.
    """
    if path.suffix.lower() not in ARRAYS and not _is_table(path):
        fix = f"{', '.join((*ARRAYS, '.csv', '.parquet'))}"
        raise ConfigError("input", str(path), "is of no known kind", fix)
    if not path.is_file():
        raise ConfigError("input", str(path), "there is no such file", "check the path")


def check_output(path: Path) -> None:
    """That predictions can be written so.

    Raises:
        ConfigError: they cannot.
    """
    if path.suffix.lower() not in OUTPUTS:
        raise ConfigError("out", str(path), "is of no known kind", " or ".join(OUTPUTS))


def read_rows(path: Path) -> np.ndarray:
    """The numbers of a file, float64 [n, ...]: an array, or a table's columns in their order.

    Raises:
        ConfigError, DataError: there are none; names the file.
    """
    check_input(path)
    array = _table(path) if _is_table(path) else _array(path)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: holds {array.dtype}, not numbers")
    if array.ndim < 2 or not array.size:
        raise DataError(f"{path}: holds {list(array.shape)}, not rows of numbers")
    real = array.astype(np.float64)
    if not np.isfinite(real).all():
        raise DataError(f"{path}: holds numbers that are not finite; fill them in first")
    return real


def fitted(rows: np.ndarray, shape: Sequence[int], path: Path) -> np.ndarray:
    """Rows in the network's shape [n, *shape].

    Raises:
        ConfigError: each has another number of numbers, or the same in another order of axes.
    """
    wanted, held = math.prod(shape), math.prod(rows.shape[1:])
    if wanted != held:
        problem = f"holds rows of {held} numbers, and the network reads {wanted}: {list(shape)}"
        raise ConfigError("input", str(path), problem, "a file without labels and other columns")
    if not fits(rows.shape[1:], tuple(shape)):
        problem = f"holds rows {list(rows.shape[1:])}, and the network reads {list(shape)}"
        raise ConfigError("input", str(path), problem, "the axes in the network's order")
    return rows.reshape(len(rows), *shape)


def out_of_range(
    rows: np.ndarray, low: np.ndarray, high: np.ndarray, path: Path, stored: str
) -> ConfigError | None:
    """Warn where many numbers lie outside of what the network's integers can stand for.

    Args:
        rows: [n, channels, ...] or [n, features].
        low, high: the least and the largest, by channel.
        stored: the way out of rows that nobody scaled.

    Returns:
        the error of rows of which so many do that they are not scaled as the network's were. It
        is to be raised when the session is over: a server that says what range it reads must not
        see whether these rows are in it.
    """
    sides = (-1, *(1 for _ in rows.shape[2:]))
    off = (rows < low.reshape(sides)) | (rows > high.reshape(sides))
    share = float(off.mean())
    if share > _MOSTLY:
        problem = (
            f"{share:.0%} of its numbers lie outside of {low.min():.3g} to {high.max():.3g}, which "
            "is what the network reads"
        )
        return ConfigError("input", str(path), problem, f"rows scaled as in training{stored}")
    if share > _OFTEN:
        text = (
            f"{share:.0%} of the input's numbers lie outside of {low.min():.3g} to "
            f"{high.max():.3g}, which is what the network was compiled for, and are clipped: "
            "are they scaled as in training?"
        )
        warnings.warn(HansaWarning(text), stacklevel=2)
    return None


def write_predictions(path: Path, columns: dict[str, Any], classes: Sequence[str]) -> None:
    """Write classes and logits.

    Args:
        columns: ``classes`` [n] (but of a network of one output, which has none), and where
            they are told ``logits`` [n, outputs] (real numbers) and ``accumulators``, the integers
            that they stand for.
        classes: their names, or none.

    Raises:
        DiskError: it cannot be written.
    """
    check_output(path)
    if path.suffix.lower() == ".npz":
        with atomic_write(path) as file:
            np.savez(file, **columns, class_names=np.array(list(classes), dtype=str))
        return
    logits = columns.get("logits")
    told: dict[str, Any] = {}
    if "classes" in columns:
        numbers = columns["classes"].tolist()
        told["classes"] = [classes[k] if k < len(classes) else str(k) for k in numbers]
        told["class_numbers"] = numbers
    if path.suffix.lower() == ".json":
        plain: dict[str, Any] = dict(told)
        if logits is not None:
            plain |= {"logits": logits.tolist(), "accumulators": columns["accumulators"].tolist()}
        with atomic_write(path, "w") as file:
            json.dump(plain, file)
            file.write("\n")
        return
    heads = [] if logits is None else [f"logit_{k}" for k in range(logits.shape[1])]
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        named = [[name] for name in told["classes"]] if told else [[]] * len(columns["logits"])
        writer.writerow(["row", *(["class"] if told else []), *heads])
        for k, name in enumerate(named):
            writer.writerow([k, *name, *([] if logits is None else map(repr, logits[k].tolist()))])


def _is_table(path: Path) -> bool:
    if path.suffix.lower() in ARRAYS:
        return False
    from hansa.data.tablefile import BINARY, TEXT  # takes long to import, and arrays need it not

    return path.suffix.lower() in (*TEXT, *BINARY)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _array(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        arrays = _arrays(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    name = next((one for one in _NAMES if one in arrays), None)
    if name is None:
        held = ", ".join(arrays) or "nothing"
        raise DataError(f"{path}: holds {held}; call the array with the rows {_NAMES[0]}")
    return arrays[name]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def _table(path: Path) -> np.ndarray:
    from hansa.data.tablefile import read_frame

    frame = read_frame(path)
    counted = [[str(k + first) for k in range(len(frame.columns))] for first in (0, 1)]
    if list(frame.columns) not in counted and all(map(_is_number, frame.columns)):
        raise DataError(f"{path}: its first line holds numbers; give it a line of columns' names")
    columns = []
    for name in frame.columns:
        try:
            columns.append(frame[name].cast(float).to_numpy())
        except Exception as error:
            problem = f"column {name!r} holds something that is no number"
            raise DataError(f"{path}: {problem} ({str(error).splitlines()[0]})") from error
    return np.stack(columns, 1) if columns else np.zeros((0, 0))
