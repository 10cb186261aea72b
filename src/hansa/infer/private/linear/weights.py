"""Weights as polynomials: reversed kernels, whose products with a value are a block's outputs."""

from __future__ import annotations

import numpy as np

from hansa.infer.private.linear.layout import Landing, Placement
from hansa.infer.private.linear.taps import axis_taps
from hansa.infer.private.program import Block


def weight_polynomials(
    block: Block,
    at: int,
    placement: Placement,
    value_shape: tuple[int, int, int],
    landing: Landing,
    n: int,
    into: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """One term's weights, int64 [landing.groups, placement.groups, n].

    Args:
        at: number of the term in its block.
        value_shape: of the value that the placement holds.
        into: where the client holds each channel of the value; None: in its own place.
        out: where the reply holds each channel of the block.
    """
    term = block.terms[at]
    rows, columns = (
        axis_taps(term, axis, value_shape[1 + axis], block.shape[1 + axis], held.cut, written.cut)
        for axis, held, written in (
            (0, placement.rows, landing.rows),
            (1, placement.columns, landing.columns),
        )
    )
    outs, each = term.weight.shape[:2]
    place = np.full((placement.rows.cut, placement.columns.cut), -1)
    for at_phase, (row, column) in enumerate(placement.phases):
        place[row, column] = at_phase
    # [channel out, phase row, phase column, channel in, kernel row, kernel column]
    phase = place[rows.phase[:, None, None, :, None], columns.phase[None, :, None, None, :]]
    used = rows.used[:, None, None, :, None] & columns.used[None, :, None, None, :]
    step = (rows.offset - placement.rows.start)[:, None, None, :, None] * placement.width
    step = step + (columns.offset - placement.columns.start)[None, :, None, None, :]
    first = np.arange(outs) // (outs // term.groups) * each
    read = first[:, None] + np.arange(each)[None, :]
    read = read if into is None else into[read]
    written = np.arange(outs) if out is None else out
    number = (
        written[:, None, None] * landing.rows.cut + np.arange(landing.rows.cut)[:, None]
    ) * landing.columns.cut + np.arange(landing.columns.cut)
    number = number[:, :, :, None, None, None]
    held = read[:, None, None, :, None, None] * len(placement.phases) + phase[None]
    exponent = number % landing.together * landing.spacing - (
        held % placement.together * placement.plane + step[None]
    )
    weights = np.broadcast_to(term.weight[:, None, None], exponent.shape)
    mask = np.broadcast_to(used[None], exponent.shape) & (weights != 0)
    made = np.zeros((landing.groups, placement.groups, n), np.int64)
    target = (number // landing.together * placement.groups + held // placement.together) * n
    target = target + exponent % n
    signed = np.where(exponent < 0, -weights, weights)
    made.reshape(-1)[target[mask]] = signed[mask]
    return made
