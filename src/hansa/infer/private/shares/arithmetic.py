"""Integers in circuits: two's complement numbers whose range is known, and what is done to them.

A number takes as many bits as its range needs, so that clipping, comparing and adding cost no more
AND gates than they must.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hansa.infer.private.shares.circuit import FALSE, TRUE, Builder


def width_of(low: int, high: int) -> int:
    """Bits that hold all integers of [low, high], with a sign only where low is below zero."""
    above = max(high, 0).bit_length()
    return max(above, (-low - 1).bit_length()) + 1 if low < 0 else above


@dataclass(frozen=True)
class Number:
    """An integer of [low, high] as literals, the lowest bit first."""

    bits: tuple[int, ...]
    low: int
    high: int

    def bit(self, place: int) -> int:
        """The literal at any place: beyond the width the sign, or zero."""
        if place < len(self.bits):
            return self.bits[place]
        return self.bits[-1] if self.low < 0 else FALSE


def number(bits: Sequence[int], low: int, high: int) -> Number:
    """Of at least ``width_of(low, high)`` bits those that count."""
    return Number(tuple(bits[: width_of(low, high)]), low, high)


def constant(value: int) -> Number:
    """The number ``value``."""
    width = width_of(value, value)
    return Number(tuple(TRUE if value >> i & 1 else FALSE for i in range(width)), value, value)


def subtract_modulo(build: Builder, left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Bits of left - right modulo 2^width, both of the same width."""
    carried, out = TRUE, []
    for one, two in zip(left, right, strict=True):
        out.append(build.xor(build.xor(one, two ^ 1), carried))
        carried = build.carry(one, two ^ 1, carried)
    return out


def add_modulo(build: Builder, left: Number, right: Sequence[int]) -> list[int]:
    """Bits of left + right modulo 2^width of ``right``."""
    carried, out = FALSE, []
    for place, two in enumerate(right):
        one = left.bit(place)
        out.append(build.xor(build.xor(one, two), carried))
        carried = build.carry(one, two, carried)
    return out


def add(build: Builder, left: Number, right: Number) -> Number:
    """Left + right."""
    low, high = left.low + right.low, left.high + right.high
    bits = [right.bit(place) for place in range(width_of(low, high))]
    return number(add_modulo(build, left, bits), low, high)


def at_least(build: Builder, left: Number, right: Number) -> int:
    """The bit left >= right: the sign of their difference, inverted."""
    if left.low >= right.high:
        return TRUE
    if left.high < right.low:
        return FALSE
    width = 1 + max(width_of(min(one.low, -1), max(one.high, 0)) for one in (left, right))
    carried = TRUE
    for place in range(width - 1):
        carried = build.carry(left.bit(place), right.bit(place) ^ 1, carried)
    top = build.xor(left.bit(width - 1), right.bit(width - 1) ^ 1)
    return build.xor(top, carried) ^ 1


def choose(build: Builder, which: int, one: Number, zero: Number) -> Number:
    """``one`` where ``which`` holds, else ``zero``."""
    low, high = min(one.low, zero.low), max(one.high, zero.high)
    places = range(width_of(low, high))
    bits = [build.choose(which, one.bit(place), zero.bit(place)) for place in places]
    return number(bits, low, high)


def clip(build: Builder, value: Number, low: int, high: int) -> Number:
    """The value, at least ``low`` and at most ``high``."""
    if value.low >= low and value.high <= high:
        return value
    if value.high <= low or value.low >= high:
        return constant(low if value.high <= low else high)
    over = at_least(build, value, constant(high + 1))
    under = at_least(build, value, constant(low)) ^ 1
    inside = build.conjunction(over ^ 1, under ^ 1)
    least, most = max(low, value.low), min(high, value.high)
    bits = []
    for place in range(width_of(least, most)):
        # Outside, the bit is that of one bound or the other: at most the bit that tells which.
        top, bottom = high >> place & 1, low >> place & 1
        edge = build.xor(over if top != bottom else FALSE, bottom)
        bits.append(build.choose(inside, value.bit(place), edge))
    return number(bits, least, most)


def shift_right(build: Builder, value: Number, bits: int) -> Number:
    """(value + 2^(bits - 1)) >> bits, halves upwards; bits = 0 leaves it."""
    if not bits:
        return value
    return floor_shift(add(build, value, constant((1 << bits) >> 1)), bits)


def floor_shift(value: Number, bits: int) -> Number:
    """value >> bits: free."""
    low, high = value.low >> bits, value.high >> bits
    places = range(bits, bits + width_of(low, high))
    return number([value.bit(place) for place in places], low, high)


def largest(build: Builder, values: Sequence[Number]) -> Number:
    """The largest of one or more."""
    best = values[0]
    for other in values[1:]:
        best = choose(build, at_least(build, best, other), best, other)
    return best


def total(build: Builder, values: Sequence[Number]) -> Number:
    """The sum of one or more, in a tree, so that the early sums are narrow."""
    row = list(values)
    while len(row) > 1:
        pairs = [add(build, row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        row = pairs + row[len(row) // 2 * 2 :]
    return row[0]


def stairs(
    build: Builder, value: Number, thresholds: Sequence[int], values: Sequence[int]
) -> Number:
    """``values[k]`` from ``thresholds[k - 1]`` on, in about an AND a threshold and one comparison.

    The range is halved until each part holds one threshold at most. One bit a part tells whether
    the number lies there; XORs of those bits are the part's threshold, what holds below it and what
    changes at it, since only one of them is set.
    """
    tree = _Parts(build, value, thresholds, values)
    low, high = min(tree.found), max(tree.found)
    threshold = [tree.chosen(_threshold, i) for i in range(tree.width)]
    carried = TRUE
    for one, two in zip(tree.bits, threshold, strict=True):
        carried = build.carry(one, two ^ 1, carried)
    bits = []
    for place in range(width_of(low, high)):
        below = tree.chosen(_below, place)
        change = tree.chosen(_change, place)
        bits.append(build.xor(below, build.conjunction(carried, change)))
    return number(bits, low, high)


@dataclass(frozen=True)
class _Part:
    """A part of a range: ``below`` holds in it up to its threshold, and ``above`` from there on.

    Attributes:
        here: the literal that tells whether the number lies in it.
        threshold: of the number without its sign.
    """

    here: int
    threshold: int
    below: int
    above: int


def _threshold(part: _Part) -> int:
    return part.threshold


def _below(part: _Part) -> int:
    return part.below


def _change(part: _Part) -> int:
    return part.below ^ part.above


class _Parts:
    """The halving of a number's range.

    Attributes:
        bits: of the number plus what makes it positive.
        found: the values that it can come to.
    """

    def __init__(
        self, build: Builder, value: Number, thresholds: Sequence[int], values: Sequence[int]
    ) -> None:
        self.width, self.found = len(value.bits), set[int]()
        self._shift = 1 << (self.width - 1) if value.low < 0 else 0
        self.bits = list(value.bits)
        if self._shift:
            self.bits[-1] ^= 1
        self._build, self._thresholds, self._values = build, thresholds, values
        self._range = value.low + self._shift, value.high + self._shift
        self._parts: list[_Part] = []
        self._halve(self.width, 0, TRUE)

    def _halve(self, level: int, start: int, here: int) -> None:
        """The part of 2^level numbers from ``start`` on."""
        first, last = max(start, self._range[0]), min(start + (1 << level) - 1, self._range[1])
        if first > last:
            return
        below = bisect_right(self._thresholds, first - self._shift)
        above = bisect_right(self._thresholds, last - self._shift)
        if above - below <= 1:
            at = self._thresholds[below] + self._shift if above > below else 0
            self._parts.append(_Part(here, at, self._values[below], self._values[above]))
            self.found |= {self._values[below], self._values[above]}
            return
        upper = self._build.conjunction(here, self.bits[level - 1])
        self._halve(level - 1, start, self._build.xor(here, upper))
        self._halve(level - 1, start + (1 << (level - 1)), upper)

    def chosen(self, fact: Callable[[_Part], int], place: int) -> int:
        """A bit of a fact of the part in which the number lies."""
        found = FALSE
        for part in self._parts:
            if fact(part) >> place & 1:
                found = self._build.xor(found, part.here)
        return found
