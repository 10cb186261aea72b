"""Which number of a cut value each weight of a kernel reads, for each phase of the output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.infer.private.program import Term


@dataclass(frozen=True, eq=False)
class AxisTaps:
    """What a kernel reads along one axis.

    Output e·i + p reads, through its k-th weight, number i + ``offset[p, k]`` of phase
    ``phase[p, k]``.

    Attributes:
        phase, offset: int64 [output phases, kernel].
        used: bool, whether any output reads a number there and not padding alone.
        low, high: the least and the largest number read by a used tap, padding included.
        outputs: numbers of one output phase.
    """

    phase: np.ndarray
    offset: np.ndarray
    used: np.ndarray
    low: int
    high: int
    outputs: int


def axis_taps(term: Term, axis: int, length: int, outputs: int, cut: int, out: int) -> AxisTaps:
    """The taps of a term along rows (axis 0) or columns (1).

    Args:
        length: numbers that its value has there.
        outputs: numbers that its block has there.
        cut, out: phases of the value and of the output.
    """
    before = term.padding[2 * axis]
    kernel = np.arange(term.weight.shape[2 + axis]) * term.dilation[axis] - before
    starts = np.arange(out) * term.stride[axis]
    at = starts[:, None] + kernel[None, :]
    phase, offset = at % cut, at // cut
    each = -(-outputs // out)
    held = -(-(length - phase) // cut)  # numbers of the phase: less for late ones
    used = (offset < held) & (offset + each > 0)
    low = int(offset[used].min(initial=0))
    high = int(offset[used].max(initial=0)) + each - 1
    return AxisTaps(phase, offset, used, low, high, each)
