"""Somebody's modules, classes and functions, by import path or by the path of their file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from hansa.base import own_code
from hansa.base.errors import ConfigError
from hansa.base.paths import located_module

_ALIAS = "hansa_plugin_"


def load_object(path: str) -> Any:
    """The object at ``package.module:name`` or ``file.py:name``.

    Raises:
        ConfigError: the module or the object cannot be found.
    """
    module_name, _, attribute = path.partition(":")
    module = load_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(
            "name", path, f"{module_name} has no {attribute!r}", "write package.module:Object"
        ) from None


def import_path(cls: type) -> str:
    """Where :func:`load_object` finds a class: ``package.module:Class`` or ``file.py:Class``."""
    module = cls.__module__
    if module == "__main__" or module.startswith(_ALIAS):
        module = str(getattr(sys.modules[module], "__file__", module))
    return f"{module}:{cls.__qualname__}"


def load_module(name: str) -> Any:
    """A module by dotted name or by the path of its file."""
    if name.endswith(".py"):
        path = Path(located_module(name))
        alias = f"{_ALIAS}{path.stem}"
        loaded = sys.modules.get(alias)
        if loaded is not None and getattr(loaded, "__file__", None) == str(path):
            return loaded
        spec = importlib.util.spec_from_file_location(alias, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ConfigError("plugins", name, "there is no such file", "give its path")
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        own_code.loaded.add(str(path))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[alias]
            raise _broken(name, error) from error
        return module
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):
            raise _broken(name, error) from error
        here = Path(*name.split(".")).with_suffix(".py")
        fix = "check the spelling and the installation"
        fix = f"the path of its file, {here}" if here.is_file() else fix
        raise ConfigError("name", name, "cannot be imported", fix) from None
    except Exception as error:
        raise _broken(name, error) from error
    if file := getattr(module, "__file__", None):
        own_code.loaded.add(file)
    return module


def _broken(name: str, error: Exception) -> ConfigError:
    """An error that somebody's module raised when it was imported."""
    if isinstance(error, ConfigError):
        return error
    place = own_code.place_of(error)
    where = f"{place}: " if place else ""
    problem = f"fails when it is imported: {where}{own_code.said(error)}"
    return ConfigError("plugins", name, problem, "a module that can be imported")
