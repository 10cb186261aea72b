"""Libraries that take long to import, imported when they are first used.

A wrong setting is told before any of them is loaded: modules that define settings take torch and
the like from here, ``from hansa.base.lazy import torch``, and name their types for the type
checker alone. Ruff holds every module to it (``banned-module-level-imports``).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from functools import cache, wraps
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


def on_demand(package: str) -> Callable[[str], Any]:
    """A package's ``__getattr__`` that looks for a name in all of its modules."""

    def find(name: str) -> Any:
        if not name.startswith("_"):
            if importlib.util.find_spec(f"{package}.{name}"):
                return importlib.import_module(f"{package}.{name}")
            for home in load_all(package):
                if home in sys.modules and name in vars(sys.modules[home]):
                    return vars(sys.modules[home])[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

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
