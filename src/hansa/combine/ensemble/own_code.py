"""Code of the user's own that an ensemble needs, copied beside its card so that both travel.

::

    code/nets.py               a module or plugin that forms in the card name: ``code/nets.py:Net``

It is run only where somebody says that the ensemble is trusted. What is installed, and what lies
in a package, is named by import path and has to be installed where the ensemble is used.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.modules import load_module

FOLDER = "code"
_FIELDS = ("name", "path")
"""Settings of a form that may name an object by import path."""


class OwnCode:
    """Copies code below a folder, and says what a card has to know of it.

    Args:
        path: the folder of the card.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.copied: dict[Path, dict[str, str]] = {}

    @property
    def entries(self) -> list[dict[str, str]]:
        """Each file that was copied: ``file``, within the folder, and the ``module`` that it was
        imported as."""
        return list(self.copied.values())

    def form(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A form's settings, with what they name by import path copied."""
        copied = dict(settings)
        for field in _FIELDS:
            module, colon, name = str(copied.get(field, "")).rpartition(":")
            entry = self.module(module) if colon else None
            if entry is not None:
                copied[field] = f"{entry['file']}:{name}"
        return copied

    def module(self, name: str) -> dict[str, str] | None:
        """Copy a module by its name or its file, or None where it does not travel."""
        file = _file(name)
        if file is None:
            return None
        if file not in self.copied:
            taken = {entry["file"] for entry in self.copied.values()}
            relative = f"{FOLDER}/{file.name}"
            if relative in taken:  # another file of that name
                relative = f"{FOLDER}/{len(taken)}/{file.name}"
            target = self.path / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (target.exists() and target.samefile(file)):
                shutil.copyfile(file, target)
            self.copied[file] = {"file": relative}
            if not name.endswith(".py"):
                self.copied[file]["module"] = name
        return self.copied[file]


def located(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A form of a card with the code that lies beside the card by its whole path."""
    copied = dict(settings)
    for field in _FIELDS:
        if str(copied.get(field, "")).startswith(f"{FOLDER}/"):
            copied[field] = str(path.absolute() / copied[field])
    return copied


def carried(settings: Any, path: Path) -> Any:
    """Settings of a run, in plain data, that name files of code which are gone by the copies that
    came with its card.

    Args:
        path: the folder of the card.
    """
    if isinstance(settings, Mapping):
        return {key: carried(value, path) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [carried(value, path) for value in settings]
    if not isinstance(settings, str):
        return settings
    module, colon, name = settings.rpartition(":")
    file = Path(module if colon else name)
    if file.suffix != ".py" or file.exists():
        return settings
    copies = list((path.absolute() / FOLDER).rglob(file.name))
    return f"{copies[0]}{colon}{name if colon else ''}" if len(copies) == 1 else settings


def run(entries: list[dict[str, str]], path: Path) -> None:
    """Load the code that came with a card; nothing is run twice.

    Raises:
        ConfigError: a file is missing.
    """
    for entry in entries:
        module = load_module(str(path.absolute() / entry["file"]))
        name = entry.get("module")  # skops looks for a class where it was
        if name and name not in sys.modules and _spec(name) is None:
            sys.modules[name] = module


def _file(name: str) -> Path | None:
    """The file of a module that lies in no package and is not installed."""
    if name.endswith(".py"):
        return Path(name).expanduser().resolve()
    if "." in name:
        return None
    spec = _spec(name)
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        return None
    file = Path(spec.origin)
    installed = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")]
    own = file.suffix == ".py" and not any(place in file.parents for place in installed)
    return file.resolve() if own else None


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
