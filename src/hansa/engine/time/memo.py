"""What is worked out once a run: device tables, drawn speeds, who is online when."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from hansa.base.streams import Streams

T = TypeVar("T")
_known: WeakKeyDictionary[Streams, dict[Hashable, Any]] = WeakKeyDictionary()


def remembered(streams: Streams, key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` returned when it was first asked for under ``key`` in this run.

    A run has a :class:`Streams` of its own, so another run makes its own, and the memory goes
    with the run.
    """
    values = _known.setdefault(streams, {})
    if key not in values:
        values[key] = make()
    value: T = values[key]
    return value
