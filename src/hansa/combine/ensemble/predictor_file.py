"""Fitted predictors as files that run no code when they are read (skops, https://skops.io).

A file names the types it is made of, and only those that are known to be safe to make are made.
Trees are arrays of indices that scikit-learn follows without looking: a crafted one could make it
read outside of its memory or never end, so they are looked through first.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hansa.base.errors import CheckpointError, ConfigError

TREES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
TRUSTED = (
    *TREES,  # whose indices are looked through
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",  # lists of arrays
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)
"""Types that skops does not trust by itself and that are safe to make here."""

_UNFIT = (
    TypeError, ValueError, AttributeError, ImportError, KeyError, OSError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What skops raises for objects and files that it cannot take."""


def pack(predictor: Any) -> bytes | None:
    """A predictor as bytes, or None where it has no form that can be read back."""
    from skops.io import dumps, get_untrusted_types, loads  # slow to import, and rarely needed

    try:
        packed = _repeatable(dumps(predictor))
        loads(packed, trusted=get_untrusted_types(data=packed))  # it came from here
    except _UNFIT:
        return None
    return packed


def unpack(data: bytes, inputs: int, trust: bool, what: str) -> Any:
    """The predictor in bytes.

    Args:
        inputs: how many numbers it is asked with.
        trust: also make types that are not known to be safe, which may run their code.
        what: names it in errors.

    Raises:
        ConfigError: it is made of types that nobody said to trust.
        CheckpointError: it is damaged.
    """
    from skops.io import get_untrusted_types, loads

    try:
        asked = get_untrusted_types(data=data)
    except _UNFIT as error:
        raise CheckpointError(f"{what}: cannot be read ({error})") from error
    strange = sorted(set(asked) - set(TRUSTED))
    if strange and not trust:
        problem = f"is made of {', '.join(strange)}, not known to be safe to load"
        fix = "--trust, if you know where the ensemble is from"
        raise ConfigError("members", what, problem, fix)
    try:
        predictor = loads(data, trusted=asked)  # nothing but what was looked at above
    except _UNFIT as error:
        raise CheckpointError(f"{what}: cannot be read ({error})") from error
    for tree in _trees(predictor, set()):
        _look_through(tree, inputs, what)
    return predictor


def _repeatable(data: bytes) -> bytes:
    """The same file with the objects numbered in order: skops takes their places in memory."""
    numbers: dict[str, str] = {}

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(item) for item in value]
        if not isinstance(value, dict):
            return value
        copy = {}
        for key, item in value.items():
            if key == "__id__" and isinstance(item, int):
                item = int(numbers.setdefault(str(item), str(len(numbers) + 1)))
            elif key == "file" and isinstance(item, str):
                stem, dot, suffix = item.partition(".")
                item = numbers.setdefault(stem, str(len(numbers) + 1)) + dot + suffix
            copy[key] = renamed(item)
        return copy

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        schema = renamed(json.loads(old.read("schema.json")))
        for name in old.namelist():
            if name != "schema.json":
                stem, dot, suffix = name.partition(".")
                entry = zipfile.ZipInfo(numbers[stem] + dot + suffix)  # of no date
                new.writestr(entry, old.read(name), zipfile.ZIP_DEFLATED)
        entry = zipfile.ZipInfo("schema.json")
        new.writestr(entry, json.dumps(schema), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _trees(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every tree that can be reached from an object."""
    if id(value) in seen:
        return
    seen.add(id(value))
    kind = type(value)
    if f"{kind.__module__}.{kind.__qualname__}" in TREES:
        yield value
        return
    inside: list[Any] = []
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list | tuple | set):
        inside = list(value)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        inside = value.ravel().tolist()
    elif hasattr(value, "__dict__"):
        inside = list(vars(value).values())
    for item in inside:
        yield from _trees(item, seen)


def _look_through(tree: Any, inputs: int, what: str) -> None:
    """Children come after their parents and within the tree, and features are among the inputs.

    Raises:
        CheckpointError: they are not.
    """
    if hasattr(tree, "children_left"):
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        leaf = left == -1
        wrong = not np.array_equal(leaf, right == -1)
    else:
        nodes = tree.nodes
        left, right, feature = nodes["left"], nodes["right"], nodes["feature_idx"]
        leaf = nodes["is_leaf"].astype(bool)
        sets = min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets))
        split = nodes["is_categorical"].astype(bool) & ~leaf
        wrong = bool((nodes["bitset_idx"][split] >= sets).any())
    place, inner = np.arange(len(left)), ~leaf
    for child in (left.astype(np.int64), right.astype(np.int64)):
        wrong |= bool((child[inner] <= place[inner]).any() or (child[inner] >= len(place)).any())
    at = feature.astype(np.int64)[inner]
    if wrong or not len(place) or bool((at < 0).any() or (at >= inputs).any()):
        raise CheckpointError(f"{what}: holds a tree that leads outside of itself or its inputs")
