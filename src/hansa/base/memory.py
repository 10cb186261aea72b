"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _libc() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def give_back() -> None:
    """Return freed pages to the system, where its C library can (glibc).

    Tensors of some megabytes lie on the heap, which keeps its freed pages between those in use: a
    loop over blocks of different sizes would grow to several times what it ever holds at once.
    """
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)
