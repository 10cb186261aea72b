"""Inputs that are zero but for single numbers, placed so that each output shows one weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hansa.infer.private.program import Term


@dataclass
class Impulses:
    """One chosen input.

    Attributes:
        places: (channel, row, column) of each number that is not zero.
        reads: (channel, kernel row, kernel column, output row, output column) of each weight that
            it shows, the same for every output channel.
    """

    places: list[tuple[int, int, int]] = field(default_factory=list)
    reads: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def image(self, shape: tuple[int, int, int], height: int = 1) -> np.ndarray:
        """int64 [C, H, W]: the input, its impulses so high."""
        image = np.zeros(shape, np.int64)
        for place in self.places:
            image[place] = height
        return image


def plan_impulses(term: Term, shape: tuple[int, int, int]) -> list[Impulses]:
    """The chosen inputs that show all weights of a convolution, few of them.

    Impulses of all channels share an input as long as no output sees two of them (a 3 x 3 kernel:
    three apart).

    Args:
        term: whose shapes count, not its weights; groups of one.
        shape: (channels, height, width) of its input.
    """
    seen = _Sights(term, shape)
    left = {c: set(seen.taps) for c in range(shape[0])}
    inputs: list[Impulses] = []
    while any(left.values()):
        one, taken = Impulses(), np.zeros(term.output_shape(shape)[1:], bool)
        for channel, taps in left.items():
            while (place := seen.best(taps, taken)) is not None:
                shown = [sight for sight in seen.at[place] if sight[0] in taps]
                one.places.append((channel, *place))
                one.reads += [(channel, *tap, *out) for tap, out in shown]
                for tap, out in seen.at[place]:
                    taken[out] = True
                    taps.discard(tap)
        inputs.append(one)
    return inputs


def tile_impulses(term: Term, shape: tuple[int, int, int], channel: int) -> Impulses:
    """One input with as many impulses of one channel as no output sees two of: each weight is
    shown many times."""
    seen, one, taken = (
        _Sights(term, shape),
        Impulses(),
        np.zeros(term.output_shape(shape)[1:], bool),
    )
    every = set(seen.taps)
    while (place := seen.best(every, taken)) is not None:
        one.places.append((channel, *place))
        one.reads += [(channel, *tap, *out) for tap, out in seen.at[place]]
        for _, out in seen.at[place]:
            taken[out] = True
    return one


def read_impulses(
    inputs: Sequence[Impulses], replies: Sequence[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """The weights int64 [O, C, kh, kw] out of accumulators [O, H', W'], one array an input, from
    which what a zero input gives has been taken away."""
    weights = np.zeros(shape, np.int64)
    for one, reply in zip(inputs, replies, strict=True):
        for channel, i, j, row, column in one.reads:
            weights[:, channel, i, j] = reply[:, row, column]
    return weights


class _Sights:
    """Which output sees an input place through which tap of the kernel."""

    def __init__(self, term: Term, shape: tuple[int, int, int]) -> None:
        kernel, (_, rows, columns) = term.weight.shape[2:], term.output_shape(shape)
        self.taps = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
        self.at: dict[tuple[int, int], list[tuple[tuple[int, int], tuple[int, int]]]] = {}
        for place in ((r, c) for r in range(shape[1]) for c in range(shape[2])):
            sights = []
            for tap in self.taps:
                out = [
                    divmod(at + pad - k * step, stride)
                    for at, pad, k, step, stride in zip(
                        place, term.padding[::2], tap, term.dilation, term.stride, strict=True
                    )
                ]
                inside = 0 <= out[0][0] < rows and 0 <= out[1][0] < columns
                if inside and not (out[0][1] or out[1][1]):
                    sights.append((tap, (out[0][0], out[1][0])))
            self.at[place] = sights

    def best(self, taps: set[tuple[int, int]], taken: np.ndarray) -> tuple[int, int] | None:
        """The first free place that shows as many of these taps as any place can."""
        counts = {place: sum(tap in taps for tap, _ in at) for place, at in self.at.items()}
        most = max(counts.values())
        if not most:  # no input reaches these weights: they change no answer
            taps.clear()
            return None
        free = (
            place
            for place, count in counts.items()
            if count == most and not any(taken[out] for _, out in self.at[place])
        )
        return next(free, None)
