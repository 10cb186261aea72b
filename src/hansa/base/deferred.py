"""A module that is imported under its own name when something of it is first asked for.

``import numpy as np`` stands at the top of most modules, and few of them need it to say that a
setting is wrong. A command defers it: the name is bound at once, the library is loaded by the
first attribute. It is loaded into the module that was bound, in the way and under the locks of
every import, so threads that ask at once wait for each other, and there is only one ``numpy``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from copy import copy
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from threading import Lock
from types import ModuleType
from typing import Any

_begins = Lock()


class _Deferred(ModuleType):
    """What is bound until the library is there; afterwards it is a module as any other."""

    def __getattr__(self, name: str) -> Any:
        with _begins:  # of threads that ask at once, one makes way for the import
            if sys.modules.get(self.__name__) is self and "__file__" not in vars(self):
                del sys.modules[self.__name__]
        importlib.import_module(self.__name__)  # waits where another thread is at it
        if name in vars(self):
            return vars(self)[name]
        if own := vars(self).get("__getattr__"):  # the library's, for what it imports late itself
            return own(name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Into(SourceFileLoader):
    """Loads a library into the module that stands for it."""

    module: _Deferred

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # Complete before the import system looks, or looking would ask for the library again.
        vars(self.module).update(
            __file__=spec.origin,
            __cached__=spec.cached,
            __path__=spec.submodule_search_locations,
        )
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.__class__ = ModuleType  # attributes are found as fast as ever


class _There(Loader):
    """Leaves a part as it is that the library has brought itself."""

    def __init__(self, part: ModuleType) -> None:
        self._part, self._spec = part, part.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._part

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    """Gives the loader of a library that is deferred, and of what came with it.

    Who imports a part first looks for its file only after it has asked the library for its path.
    That loads the library and often the part, which must not be run once more.
    """

    def __init__(self, spec: ModuleSpec) -> None:
        self._spec = spec

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == self._spec.name:
            return self._spec
        part = sys.modules.get(name) if name.startswith(f"{self._spec.name}.") else None
        if part is None or target is not None or part.__spec__ is None:  # or is loaded anew
            return None
        spec = copy(part.__spec__)
        spec.loader = _There(part)
        return spec


def defer(library: str) -> None:
    """Let imports of a library bind its name only, until something of it is used.

    Nothing happens where it is imported already, or is no package of Python files.
    """
    if library in sys.modules:
        return
    spec = PathFinder.find_spec(library)
    if spec is None or type(spec.loader) is not SourceFileLoader:
        return
    loader = _Into(spec.loader.name, spec.loader.path)
    loader.module = module = _Deferred(library)
    spec.loader = module.__loader__ = loader
    module.__spec__ = spec  # the import system takes it for imported; find_spec finds it
    sys.meta_path.insert(0, _Finder(spec))
    sys.modules[library] = module
