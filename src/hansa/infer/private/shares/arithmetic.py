"""Integers in circuits: two's complement numbers whose range is known, and what is done to them.

A number takes as many bits as its range needs, so that clipping, comparing and adding cost no more
AND gates than they must.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """``values[k]`` from ``thresholds[k - 1]`` on: as many comparisons as the range has steps.

    The comparisons hold one after the other, so that every bit of the result is the XOR of those
    at which it changes.
    """
    reached = [at_least(build, value, constant(one)) for one in thresholds]
    possible = [values[0]] if not thresholds or value.low < thresholds[0] else []
    possible += [
        values[k + 1]
        for k, one in enumerate(thresholds)
        if one <= value.high and (k + 1 == len(thresholds) or value.low < thresholds[k + 1])
    ]
    low, high = min(possible), max(possible)
    bits = []
    for place in range(width_of(low, high)):
        bit = values[0] >> place & 1
        for k, one in enumerate(reached):
            if (values[k] ^ values[k + 1]) >> place & 1:
                bit = build.xor(bit, one)
        bits.append(bit)
    return number(bits, low, high)


def first_largest(build: Builder, values: Sequence[Number]) -> Number:
    """The place of the largest; of equals the first."""
    row = [(value, constant(place)) for place, value in enumerate(values)]
    while len(row) > 1:
        winners = []
        for (left, first), (right, second) in zip(row[::2], row[1::2], strict=False):
            keeps = at_least(build, left, right)
            winners.append((choose(build, keeps, left, right), choose(build, keeps, first, second)))
        row = winners + row[len(row) // 2 * 2 :]
    return row[0][1]
