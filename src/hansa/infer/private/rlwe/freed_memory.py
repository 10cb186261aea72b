"""Freed memory kept for the next polynomials: a quarter of the time of a reply on some systems."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 29


def keep_freed() -> bool:
    """Tell the C library not to hand memory back to the system at once (glibc; process-wide).

    For the processes of ``serve`` and ``client``; never called by importing.

    Returns:
        Whether there was someone to tell.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(tell(_MMAP_THRESHOLD, 1 << 25)) and bool(tell(_TRIM_THRESHOLD, KEPT_BYTES))
