"""What parts and files of settings hansa has, and in which module each is, without importing any.

``index.json`` is made by ``python docs/make_index.py``, and a test compares it with what is there.
A part that it does not know yet is still found: the modules that could hold it are imported where
one of them has its name in it. So nobody waits for hundreds of modules to be told of a slip.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from hansa.base.homes import FILES, ROOMS


@cache
def _index() -> dict[str, Any]:
    text = Path(__file__).with_name("index.json").read_text(encoding="utf-8")
    index: dict[str, Any] = json.loads(text)
    return index


def parts(kind: str) -> dict[str, dict[str, Any]]:
    """Of the built-in parts of a kind by name: their ``module`` and the names of ``settings``."""
    known: dict[str, dict[str, Any]] = _index()["parts"].get(kind, {})
    return known


def settings_files() -> dict[str, dict[str, Any]]:
    """Of the built-in files of settings by verb: ``module``, ``settings``, ``says_verb``, its
    ``command``, and whether ``hansa init`` has it ``begun``.

    Empty where the list of modules has changed since it was made.
    """
    known: dict[str, dict[str, Any]] = _index()["files"]
    return known if [one["module"] for one in known.values()] == list(FILES) else {}


def written_somewhere(kind: str, name: str) -> bool:
    """Whether a module that may hold parts of a kind has a name in quotes in its text."""
    return any(f'"{name}"' in text for room in ROOMS.get(kind, ()) for text in _texts(room))


@cache
def _texts(room: str) -> tuple[str, ...]:
    module = room.removesuffix(".*")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if room.endswith(".*") else [origin]
    return tuple(file.read_text(encoding="utf-8") for file in files)
