"""A process that ends with the one that started it: ``python -m hansa.base.child PARENT MODULE``.

Imports take seconds, so the watch begins before the first of them. The kernel ends the process
when its parent dies; where there is no such kernel, a thread looks.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_LOOK = 1.0  # seconds between two looks at the parent
GONE = 3
"""The exit status of a process whose parent is gone."""


def command(module: str, *arguments: str) -> Sequence[str]:
    """The command line with which this process starts a module that is to end with it."""
    return [sys.executable, "-m", __spec__.name, str(os.getpid()), module, *arguments]


def end_with(parent: int) -> None:
    """End this process when ``parent`` does, however that comes about.

    Raises:
        SystemExit: it is gone already.
    """
    if not _told_by_kernel():
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before the kernel could be asked
        sys.exit(GONE)


def _told_by_kernel() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0


def _watch(parent: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_LOOK)
    os._exit(GONE)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
