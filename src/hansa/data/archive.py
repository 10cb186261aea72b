"""The arrays of npz files by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data.sources.table_source import TableSource, require

_INPUT = "x|inputs?|images?|imgs?|features?|data|samples?"
_LABEL = "y|labels?|targets?|classes"
_BETWEEN = "[-_. /]?"
_TRAIN, _TEST = "train|training|tr", "test|testing|te"
Archive: TypeAlias = "Mapping[str, np.ndarray]"
Part: TypeAlias = "dict[str, np.ndarray]"


def halves(
    archives: Sequence[Archive], source: TableSource, paths: Sequence[Path]
) -> tuple[list[Part], list[str]]:
    """The training set, and the test set if there is one, each with its label as ``label``.

    An archive that has the source's label by name is one set: its other arrays are inputs. Else
    inputs and labels are found by their usual names: ``x``, ``images``, ``data`` ... and ``y``,
    ``labels``, ``targets`` ..., in capitals or not, with ``train`` and ``test`` before or behind.

    Returns:
        The sets, and a remark on every array that is used for neither.

    Raises:
        ConfigError: there is no array of labels.
        DataError: the arrays of a set are not of one length, or two fit one name.
    """
    parts: list[Part] = []
    notes: list[str] = []
    for archive, path in zip(archives, paths, strict=True):
        splits = [_named(archive, source, path)]
        if splits == [None]:
            splits = [_usual(archive, half, path) for half in (_TRAIN, _TEST)]
            if splits[0] is None and (alone := _usual(archive, None, path)):
                splits[0] = alone
        sets = [part for part in splits if part is not None]
        if splits[0] is None:
            field = "label"
            require(field, source.label, archive, str(path))
            raise ConfigError(field, source.label, f"{path} has no inputs", "x, or x_train")
        used = {id(array) for part in sets for array in part.values()}
        left = [name for name, array in archive.items() if id(array) not in used]
        if left and not source.inputs:
            notes.append(f"{path}: arrays that are not used: {', '.join(left)}")
        if len(paths) > 1 and len(sets) > 1:
            raise ConfigError(
                "test_path", str(paths[1]), f"{path} has a test set in it", "leave test_path out"
            )
        parts += sets
    for part in parts:
        sizes = {name: len(array) for name, array in part.items() if array.ndim}
        if len(set(sizes.values())) != 1 or len(sizes) < len(part):
            shown = ", ".join(f"{name} {array.shape}" for name, array in part.items())
            raise DataError(f"{paths[0]}: arrays are not of one length: {shown}")
    return parts, notes


def _named(archive: Archive, source: TableSource, path: Path) -> Part | None:
    """The one set of an archive whose label has the name that the settings give it."""
    if source.label not in archive:
        if (
            source.inputs
            or source.group
            or source.label != type(source).model_fields["label"].default
        ):
            require("label", source.label, archive, str(path))
        return None
    inputs = source.columns(list(archive), str(path))
    part = {name: archive[name] for name in inputs} | {"label": archive[source.label]}
    return part | ({source.group: archive[source.group]} if source.group else {})


def _usual(archive: Archive, half: str | None, path: Path) -> Part | None:
    """The set whose arrays have the usual names, with ``half`` before or behind."""
    arrays: Part = {}
    for name, words in (("x", _INPUT), ("label", _LABEL)):
        pattern = (
            f"({words})"
            if half is None
            else f"({words}){_BETWEEN}({half})|({half}){_BETWEEN}({words})"
        )
        fitting = [key for key in archive if re.fullmatch(pattern, key, re.IGNORECASE)]
        if not fitting:
            return None
        if len(fitting) > 1:
            raise DataError(f"{path}: {' and '.join(fitting)} could both be the {name}")
        arrays[name] = archive[fitting[0]]
    return arrays
