"""Folders for a while, of which none stays for good where its process was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hansa.base.files import lock

_LOCK = ".lock"
_YOUNG = 60.0  # seconds in which a folder may have been made and not be held yet


@contextlib.contextmanager
def passing_folder(prefix: str) -> Iterator[Path]:
    """A new folder that goes at the end, in the system's place for what is temporary.

    Nothing goes at the end of a process that is killed. So whoever makes a folder first takes away
    those of the same prefix that nobody holds any more.

    Args:
        prefix: of its name, such as ``hansa-sweep-``; it says whose it is.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _take_away(left)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, lock(Path(folder) / _LOCK):
        yield Path(folder)


def _take_away(left: Path) -> None:
    """A folder of ours, unless a process holds it or has just made it."""
    with contextlib.suppress(OSError):  # somebody else takes it away, or it is not ours
        told = (left / _LOCK).lstat()
        if told.st_uid != os.getuid() or time.time() - told.st_mtime < _YOUNG:
            return
        with lock(left / _LOCK, wait=False):
            shutil.rmtree(left, ignore_errors=True)
