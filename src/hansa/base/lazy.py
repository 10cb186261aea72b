"""Libraries that take long to import, imported when they are first used.

A wrong setting is told before any of them is loaded: modules that define settings take torch and
the like from here, ``from hansa.base.lazy import torch``, and name their types for the type
checker alone. Ruff holds every module to it (``banned-module-level-imports``).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Lazy:
    """Stands for a module until something of it is asked for.

    Args:
        module: its full name.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._module), name)
        setattr(self, name, value)  # the next time it is found without coming here
        return value

    def __repr__(self) -> str:
        return f"<{self._module}, imported when used>"


@cache
def load_all(package: str) -> tuple[str, ...]:
    """Import every module of a package, and of those in it, but those that few need.

    Returns:
        the full names of all of them, imported or not.
    """
    names: list[str] = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        names.append(name)
        if module.ispkg:
            names.extend(load_all(name))
        elif not name.endswith(("kernels", "networks")):
            importlib.import_module(name)
    return tuple(names)


class _Front(ModuleType):
    """A package whose public names are not hidden by modules of its own of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in vars(self).get("_homes", ())):
            super().__setattr__(name, value)


def front(package: str) -> Callable[[str], Any]:
    """A package's ``__getattr__`` that imports what its ``if TYPE_CHECKING:`` lists, when asked.

    So the list of public names is written once, and read by the type checker and by this.
    """
    module = sys.modules[package]
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    (listed,) = (node for node in ast.parse(text).body if isinstance(node, ast.If))
    homes = {
        name.asname or name.name: (str(node.module), name.name)
        for node in listed.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    vars(module)["_homes"] = homes
    module.__class__ = _Front

    def find(name: str) -> Any:
        if name not in homes:
            if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
                return importlib.import_module(f"{package}.{name}")
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, own = homes[name]
        value = getattr(importlib.import_module(home), own)
        setattr(module, name, value)  # the next time it is found without coming here
        return value

    return find


if TYPE_CHECKING:
    import altair as altair
    import msgpack as msgpack
    import polars as polars
    import pyarrow as pyarrow
    import pyarrow.compute as pyarrow_compute
    import pyarrow.parquet as pyarrow_parquet
    import safetensors as safetensors
    import safetensors.torch as safetensors_torch
    import torch as torch
    from scipy import sparse as sparse
    from scipy import stats as stats
    from torch import nn as nn
    from torch.nn import functional as functional
else:
    altair = Lazy("altair")
    functional = Lazy("torch.nn.functional")
    msgpack = Lazy("msgpack")
    nn = Lazy("torch.nn")
    polars = Lazy("polars")
    pyarrow = Lazy("pyarrow")
    pyarrow_compute = Lazy("pyarrow.compute")
    pyarrow_parquet = Lazy("pyarrow.parquet")
    safetensors = Lazy("safetensors")
    safetensors_torch = Lazy("safetensors.torch")
    sparse = Lazy("scipy.sparse")
    stats = Lazy("scipy.stats")
    torch = Lazy("torch")


def without_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """``torch.no_grad()`` as a decorator that leaves torch alone until the call."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.no_grad():
            return function(*args, **kwargs)

    return call
