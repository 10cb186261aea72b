"""What a page takes long to import, imported beside the rounds of a run that will write one."""

from __future__ import annotations

import contextlib
import importlib
import sys
from threading import Thread

_LIBRARIES = ("polars", "altair", "pyarrow.compute", "jinja2")
"""In the order in which a page comes to need them. None of hansa: a module of ours that the run
imports at the same moment must not be met half made."""


def warm() -> None:
    """Begin to import what a page needs, in a thread; nothing where it is there already."""
    if not all(name in sys.modules for name in _LIBRARIES):
        Thread(target=_imported, name="hansa page").start()


def _imported() -> None:
    for name in _LIBRARIES:
        with contextlib.suppress(Exception):  # whoever needs it imports it again, and tells
            importlib.import_module(name)
