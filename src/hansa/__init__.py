"""hansa: collaborative machine learning among parties who do not pool their data.

What a newcomer needs is here by name; it is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hansa.base.component import register
    from hansa.base.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        Diverged,
        HansaError,
        RunError,
        WireError,
    )
    from hansa.codec import Codec
    from hansa.data import DataSource, Partition
    from hansa.engine import (
        Algorithm,
        Asynchronous,
        Block,
        Inbox,
        Put,
        Script,
        Send,
        Share,
        Take,
        Tell,
    )
    from hansa.experiment.export import export, open_run
    from hansa.experiment.run import resume, run
    from hansa.experiment.runfile import RunFile
    from hansa.experiment.sweep.sweeping import sweep
    from hansa.models import Model
    from hansa.report import RunFolder
    from hansa.report.several.result import compare
    from hansa.topology import Graph, Topology

__version__ = "0.1.0"

_HOMES = {
    "hansa.base.component": ("register",),
    "hansa.base.errors": (
        "CheckpointError",
        "ConfigError",
        "DataError",
        "Diverged",
        "HansaError",
        "RunError",
        "WireError",
    ),
    "hansa.codec": ("Codec",),
    "hansa.data": ("DataSource", "Partition"),
    "hansa.engine": (
        "Algorithm",
        "Asynchronous",
        "Block",
        "Inbox",
        "Put",
        "Script",
        "Send",
        "Share",
        "Take",
        "Tell",
    ),
    "hansa.experiment": ("RunFile", "resume", "run"),
    "hansa.experiment.export": ("export", "open_run"),
    "hansa.experiment.sweep.sweeping": ("sweep",),
    "hansa.models": ("Model",),
    "hansa.report": ("RunFolder",),
    "hansa.report.several.result": ("compare",),
    "hansa.topology": ("Graph", "Topology"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Algorithm",
    "Asynchronous",
    "Block",
    "CheckpointError",
    "Codec",
    "ConfigError",
    "DataError",
    "DataSource",
    "Diverged",
    "Graph",
    "HansaError",
    "Inbox",
    "Model",
    "Partition",
    "Put",
    "RunError",
    "RunFile",
    "RunFolder",
    "Script",
    "Send",
    "Share",
    "Take",
    "Tell",
    "Topology",
    "WireError",
    "__version__",
    "compare",
    "export",
    "open_run",
    "register",
    "resume",
    "run",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hansa' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
