"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
LONG = 300.0  # seconds; only a test that fails waits so long


def until(
    holds: Callable[[], T],
    what: str | Callable[[], str],
    pause: Callable[[float], object] = time.sleep,
) -> T:
    """Look again and again until something holds; returns what ``holds`` gives then.

    Args:
        what: what is waited for, for the failure after a long time; or who says that then.
        pause: waits for so many seconds at most between two looks.
    """
    end = time.monotonic() + LONG
    while not (value := holds()):
        if time.monotonic() > end:
            why = what if isinstance(what, str) else what()
            pytest.fail(f"waited {LONG:g} s in vain: {why}")
        pause(0.02)
    return value
