"""What people are told while something runs: lines on standard error, and what is being done."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def say(text: str) -> None:
    """A line for people, beside a command's answer."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def doing(what: str) -> None:
    """Tell whoever listens what begins now, such as ``loading cifar10``."""
    if (listener := _listener.get()) is not None:
        listener(what)


@contextlib.contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Have a listener told of all that is done meanwhile in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
