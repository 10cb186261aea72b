"""The values that a setting takes in a sweep, as people write them.

A list holds the values; so a value that is itself a list stands in a second pair of brackets:
``model.hidden=[[64, 32], [128]]``. Commas outside all brackets do the same: ``[64, 32],[128]``.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from hansa.base.errors import ConfigError
from hansa.base.yamltext import load_yaml

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(log\s*\(\s*)?({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(\))?")
_DIGITS = 4  # significant, of what is drawn from a range
_OPENING, _CLOSING = "[{(", "]})"


@dataclass(frozen=True)
class Values:
    """What a setting takes, one after the other.

    Attributes:
        listed: they stood in a list, and none of them is one: if the setting itself is a list,
            nobody can tell whether one value was meant or several.
    """

    values: tuple[Any, ...]
    listed: bool = False


@dataclass(frozen=True)
class Range:
    """Numbers to draw from, evenly or evenly in their logarithms; whole if both ends are."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, stream: np.random.Generator) -> float | int:
        """One of them, to four digits: a setting that is read and written down by people."""
        if self.whole and not self.log:
            return int(stream.integers(int(self.low), int(self.high), endpoint=True))
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = stream.uniform(low, high)
        value = math.exp(at) if self.log else at
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


def values_of(field: str, value: Any, again: bool = False) -> Values:
    """The values of a setting, of what stands in a file.

    Args:
        again: one may be there more than once, as where others change beside it.

    Raises:
        ConfigError: there is none, or one of them twice.
    """
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    values = tuple(value) if listed else (value,)
    if not values:
        raise ConfigError(field, value, "is no value at all", "at least one, such as [0.01, 0.05]")
    for k, one in enumerate(() if again else values):
        if one in values[:k] and any(type(one) is type(v) and one == v for v in values[:k]):
            raise ConfigError(field, one, "is there twice", "each value once")
    return Values(values, listed and not any(isinstance(one, list | tuple) for one in values))


def read_values(field: str, text: str) -> Any:
    """What would stand in a file for what stands behind ``field=`` on a command line.

    Raises:
        ConfigError: it is not YAML, or a comma stands where nothing is told apart.
    """
    pieces = _pieces(text)
    if len(pieces) == 1:
        return _yaml(field, text)
    if not all(piece.strip() for piece in pieces):
        raise ConfigError(field, text, "has a comma too many", "values such as 0.01,0.05")
    return [_yaml(field, piece) for piece in pieces]


def range_of(field: str, value: Any) -> Range | Values:
    """What a setting is drawn from: a range, or a list of which each is as likely.

    Raises:
        ConfigError: it is neither, or an empty range.
    """
    match = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str) and ".." in value:
            problem, fix = "is no range", "such as 0.1..0.9, 1..8 or log(0.001..0.1)"
            raise ConfigError(field, str(value), problem, fix)
        return values_of(field, value)
    log, low, high, closed = bool(match[1]), float(match[2]), float(match[3]), bool(match[4])
    if log != closed:
        problem = "opens a bracket and does not close it" if log else "closes a bracket"
        raise ConfigError(field, str(value), problem, "such as log(0.001..0.1)")
    if not low < high:
        raise ConfigError(field, str(value), "is an empty range", f"{match[3]}..{match[2]}")
    if log and low <= 0:
        raise ConfigError(field, str(value), "has no logarithm", "a range above 0")
    whole = all(re.fullmatch(r"[-+]?\d+", number) for number in (match[2], match[3]))
    return Range(low, high, log, whole)


def _pieces(text: str) -> list[str]:
    """A text cut at commas outside brackets and quotes."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "," and depth == 0:
            pieces.append("")
            continue
        depth += (letter in _OPENING) - (letter in _CLOSING) if not quote else 0
        pieces[-1] += letter
    return pieces


def _yaml(field: str, text: str) -> Any:
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(field, text, f"the value is not YAML: {error}") from None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    return value
