"""What the client does to the integers that it decrypts: exact, elementwise or over windows.

No step reads floating-point numbers, so that every machine comes to the same integers, and none
looks across channels, so that a client may hold its channels in an order that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

Pair: TypeAlias = tuple[int, int]
Sides: TypeAlias = tuple[int, int, int, int]
"""Rows above, below, columns left, right."""


@dataclass(frozen=True)
class Relu:
    """max(y, 0)."""

    windows = False

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [n, C, H, W] to the same shape."""
        return np.maximum(numbers, 0)


@dataclass(frozen=True)
class Shift:
    """Divide by a power of two, halves upwards, and clip: (y + 2^(bits-1)) >> bits.

    Attributes:
        bits: 0: clip only.
        low, high: what is clipped to, both possible.
    """

    bits: int
    low: int
    high: int

    windows = False

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [n, C, H, W] to the same shape."""
        half = (1 << self.bits) >> 1
        return np.clip((numbers + half) >> self.bits, self.low, self.high)


@dataclass(frozen=True)
class Table:
    """Any function of one integer, as the places where its value changes.

    Attributes:
        thresholds: ascending; ``values[k]`` holds from ``thresholds[k - 1]`` on.
        values: one more than thresholds.
    """

    thresholds: tuple[int, ...]
    values: tuple[int, ...]

    windows = False

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [n, C, H, W] to the same shape."""
        at = np.searchsorted(np.asarray(self.thresholds, np.int64), numbers, side="right")
        return np.asarray(self.values, np.int64)[at]


@dataclass(frozen=True)
class _Pool:
    kernel: Pair
    stride: Pair
    padding: Sides

    windows = True

    def windowed(self, numbers: np.ndarray, fill: int) -> np.ndarray:
        """[n, C, H, W] to [n, C, H', W', kernel height, kernel width], ``fill`` at the padding."""
        top, bottom, left, right = self.padding
        sides = ((0, 0), (0, 0), (top, bottom), (left, right))
        padded = np.pad(numbers, sides, constant_values=fill) if any(self.padding) else numbers
        views = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, (2, 3))
        return views[:, :, :: self.stride[0], :: self.stride[1]]


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest of each window; what is padded never is."""

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [n, C, H, W] to [n, C, H', W']."""
        return self.windowed(numbers, np.iinfo(np.int64).min).max((4, 5))


@dataclass(frozen=True)
class SumPool(_Pool):
    """The sum of each window: a mean whose division is part of the next scale."""

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [n, C, H, W] to [n, C, H', W']."""
        return self.windowed(numbers, 0).sum((4, 5))


Step: TypeAlias = Relu | Shift | Table | MaxPool | SumPool
KINDS: dict[str, type[Any]] = {
    "relu": Relu,
    "shift": Shift,
    "table": Table,
    "max_pool": MaxPool,
    "sum_pool": SumPool,
}
_LISTS = {"kernel": 2, "stride": 2, "padding": 4, "thresholds": None, "values": None}
"""Settings of steps that are lists, and how long they are."""
_LARGEST = 1 << 61
_NAMES = {kind: name for name, kind in KINDS.items()}


def apply(steps: Sequence[Step], numbers: np.ndarray) -> np.ndarray:
    """All steps, one after the other, on int64 [n, C, H, W]."""
    for step in steps:
        numbers = step.apply(numbers)
    return numbers


def plain(step: Step) -> dict[str, Any]:
    """A step as JSON can hold it."""
    return {"kind": _NAMES[type(step)], **asdict(step)}


def step_of(facts: Mapping[str, Any]) -> Step:
    """The step that :func:`plain` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    given = {name: value for name, value in facts.items() if name != "kind"}
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _LISTS:
            settings[name] = _whole(value)
            continue
        if not isinstance(value, list | tuple) or len(value) != (_LISTS[name] or len(value)):
            raise ValueError(f"{name} is {value!r}")
        settings[name] = tuple(_whole(one) for one in value)
    return KINDS[facts["kind"]](**settings)


def _whole(value: Any) -> int:
    if type(value) is not int or not -_LARGEST < value < _LARGEST:
        raise ValueError(f"{value!r} is no integer of 62 bits")
    return value
