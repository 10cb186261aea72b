"""What a run was made from, by digests: it goes on with the same data, or not at all.

Examples are compared as the run has them, so that it makes no difference where they came from and
where they are. Other files that settings name (graphs, traces, cohorts ...) are compared as they
are, and so is code, of which a change is only said: who mends a bug of his own wants to go on.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from hansa.base.component import Component
from hansa.base.errors import ConfigError, HansaWarning
from hansa.base.files import sha256
from hansa.base.paths import located, located_argument, path_fields
from hansa.data import Dataset, Split
from hansa.report import RunFolder

_AT_ONCE = 100_000  # parts, whose bytes are copied

INPUTS = "inputs"
"""Their place in ``environment.json``."""


def describe_inputs(
    settings: BaseModel, dataset: Dataset, parts: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Digests of the examples, of their split over nodes, and of other files by their setting."""
    files: dict[str, str] = {}
    code: dict[str, str] = {}
    for field, path in _files(settings):
        if path.suffix == ".py" and path.is_file():
            code[field] = sha256(path)
        elif path.is_file() and not field.startswith("data."):  # those are told by their examples
            files[field] = sha256(path)
    return {"data": _digest(dataset), "split": _digest_of(parts), "files": files, "code": code}


def check_inputs(
    folder: RunFolder,
    settings: BaseModel,
    dataset: Dataset,
    parts: Sequence[np.ndarray] | None = None,
    held: tuple[str, ...] = (),
) -> None:
    """Refuse to go on with other data than a run was begun with, or another split of them.

    Args:
        held: how the names of settings begin whose files the run's folder holds by now.

    Raises:
        ConfigError: names the setting whose data or file is another now.
    """
    before = folder.environment.get(INPUTS)
    if not isinstance(before, Mapping):  # a run of before there were digests
        return
    now = describe_inputs(settings, dataset, parts or ())
    fix = f"put back what {folder.path} was begun with, or begin a new run"
    paths = {field: str(path) for field, path in _files(settings)}
    if now["data"] != before["data"]:
        field = next((name for name in paths if name.startswith("data.")), "data")
        problem = "these are not the data that the run was begun with"
        raise ConfigError(field, paths.get(field), problem, fix)
    for field, digest in before["files"].items():
        if now["files"].get(field) != digest and not field.startswith(held):
            problem = "is not the file that the run was begun with"
            raise ConfigError(field, paths.get(field), problem, fix)
    if parts is not None and now["split"] != before["split"]:
        problem = "deals other examples to the nodes than when the run was begun"
        raise ConfigError("data.partition", None, problem, fix)
    for field, digest in before["code"].items():
        if now["code"].get(field) != digest:
            text = f"{field}: {paths.get(field)} is not the code that the run was begun with"
            folder.event("warning", text=text)
            warnings.warn(HansaWarning(text), stacklevel=3)


def plugins_of(value: Any) -> set[str]:
    """Where the components that are not hansa's own come from, so that workers can load them."""
    places: set[str] = set()
    for _, part in _parts(value):
        module = type(part).__module__
        if not isinstance(part, Component) or module.startswith("hansa."):
            continue
        if ":" not in type(part).name:
            file = _source(part)
            places.add(str(file) if file and "." not in module else module)
    return places


def _files(settings: BaseModel) -> Iterator[tuple[str, Path]]:
    """Every file that settings name, by the dotted name of the setting; code is a ``.py``."""
    for where, part in _parts(settings):
        for field, how in path_fields(type(part)).items():
            if how is located_argument:  # what own code makes of it is its own
                continue
            value = getattr(part, field)
            many = value if isinstance(value, tuple) else (value,)
            for k, one in enumerate(item for item in many if item is not None):
                name = f"{where}{field}" if len(many) == 1 else f"{where}{field}.{k}"
                text = str(one)
                module, colon, _ = text.rpartition(":")
                yield name, located(module if colon and module.endswith(".py") else text)
        own = isinstance(part, Component) and not type(part).__module__.startswith("hansa.")
        if own and (file := _source(part)):
            yield f"{where}name", file


def _parts(value: Any, where: str = "") -> Iterator[tuple[str, BaseModel]]:
    """A group of settings and all that are in it, each with the name that its fields begin with."""
    if isinstance(value, BaseModel):
        yield where, value
        for field in type(value).model_fields:
            yield from _parts(getattr(value, field), f"{where}{field}.")
    elif isinstance(value, tuple | list):
        for k, item in enumerate(value):
            yield from _parts(item, f"{where}{k}.")


def _source(part: BaseModel) -> Path | None:
    """The file that a component's class is written in."""
    file = getattr(sys.modules.get(type(part).__module__), "__file__", None)
    return Path(file).resolve() if file else None


def _digest(dataset: Dataset) -> str:
    """SHA-256 of all examples as they are stored, with their form and order."""
    digest = hashlib.sha256(repr(dataset.spec).encode())
    for name in ("train", "validation", "test", "public"):
        split: Split | None = getattr(dataset, name)
        for tensor in () if split is None else (split.inputs, split.targets):
            array = np.ascontiguousarray(tensor.cpu().numpy())
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _digest_of(parts: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for first in range(0, len(parts), _AT_ONCE):
        some = parts[first : first + _AT_ONCE]
        words = (w for part in some for w in (b"%d " % len(part), _bytes(part)))
        digest.update(b"".join(words))
    return digest.hexdigest()


def _bytes(part: np.ndarray) -> bytes:
    return np.asarray(part, dtype=np.int64).tobytes()
