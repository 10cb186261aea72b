"""Settings that are paths: relative to the file they are written in, absolute once they are read.

A field annotated ``Path`` is one by that alone, in a user's own component too. One that names code
is a :data:`ObjectPath` or a :data:`ModulePath`, one that may be a name instead a
:data:`NameOrPath`; of what own code is called with (:data:`Arguments`), texts are paths that are
written as such. ``~`` is the home folder everywhere.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel


class Written(str):
    """Text from a settings file; ``folder`` is where that file is."""

    __slots__ = ("folder",)
    folder: Path


def written(value: Any, folder: Path) -> Any:
    """Settings as they stand in a file in ``folder``, whose paths will know of it."""
    if isinstance(value, str):
        text = Written(value)
        text.folder = folder
        return text
    if isinstance(value, Mapping):
        return {key: written(item, folder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [written(item, folder) for item in value]
    return value


def located(value: str | Path) -> Path:
    """Where a path leads, as an absolute one: from its file's folder, or from the working folder.

    A link at its end stays: a data set may be a link to a name without an extension.
    """
    folder = value.folder if isinstance(value, Written) else Path()
    try:
        path = folder / Path(value).expanduser()
    except RuntimeError:  # ~somebody who does not exist here
        path = folder / value
    if path.name in ("", ".."):
        return path.resolve()
    return path.parent.resolve() / path.name


def located_module(value: str) -> str:
    """A module's dotted name as it is, the path of a file made absolute."""
    return str(located(value)) if value.endswith(".py") else value


def located_object(value: str) -> str:
    """``package.module:name`` or a plain name as it is, ``file.py:name`` with its whole path."""
    module, colon, name = value.rpartition(":")
    if not colon or not module.endswith(".py"):
        return value
    if isinstance(value, Written):
        module = written(module, value.folder)
    return f"{located_module(module)}:{name}"


def located_name(value: str) -> str:
    """A name as it is, unless a folder is meant: there is one, or it is written as a path."""
    meant = value.startswith(("./", "../", "/", "~"))
    return str(located(value)) if meant or located(value).is_dir() else value


def located_argument(value: str | Path) -> str:
    """Text for code that is not ours: a path if it is written as one, or if such a file exists."""
    text = str(value)
    meant = text.startswith(("./", "../", "~/"))
    if not meant and ("/" in text or "." in text):
        meant = os.path.exists(located(value))  # noqa: PTH110 - Path's raises for long texts
    if meant:
        return str(located(value))
    return text


def short(name: str) -> str:
    """A component's name for people: of ``/long/way/file.py:Class`` the file and the class."""
    module, colon, last = name.rpartition(":")
    return f"{Path(module).name}:{last}" if colon and module.endswith(".py") else name


ObjectPath = Annotated[str, located_object]
"""``package.module:name`` or ``file.py:name``."""
ModulePath = Annotated[str, located_module]
"""A module, or the path of its file."""
NameOrPath = Annotated[str, located_name]
"""A name that others gave, or the path of a folder."""
Arguments = Annotated[dict[str, Any], located_argument]
"""What code is called with that is not ours."""
_HOW = (located_object, located_module, located_name, located_argument)


def locate(cls: type[BaseModel], settings: Any) -> Any:
    """The settings of a class with those that are paths made absolute."""
    if not isinstance(settings, Mapping):
        return settings
    located_settings = dict(settings)
    for field, how in path_fields(cls).items():
        if field in located_settings:
            located_settings[field] = _each(located_settings[field], how)
    return located_settings


@functools.cache
def path_fields(cls: type[BaseModel]) -> dict[str, Callable[[Any], Any]]:
    """The fields of a class that are paths, and what makes each absolute."""
    markers: dict[str, Callable[[Any], Any]] = {}
    for field, info in cls.model_fields.items():
        inside = [info.annotation, *info.metadata, *_inside(info.annotation)]
        marked = [how for how in _HOW if how in inside]
        if marked or Path in inside:
            markers[field] = marked[0] if marked else located
    return markers


def _inside(annotation: Any) -> list[Any]:
    """What an annotation is made of."""
    parts = []
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        parts += [part, *_inside(part)]
    return parts


def _each(value: Any, how: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_each(item, how) for item in value]
    if isinstance(value, Mapping):
        return {key: _each(item, how) for key, item in value.items()}
    return how(value) if isinstance(value, str | Path) else value
