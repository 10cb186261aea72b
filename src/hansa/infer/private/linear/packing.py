"""Integers into the coefficients of polynomials, and out of them: the client's half of a layout."""

from __future__ import annotations

import numpy as np

from hansa.infer.private.linear.layout import Axis, Landing, Placement


def pack(placement: Placement, n: int, numbers: np.ndarray) -> np.ndarray:
    """A value's integers int64 [batch, C, H, W] as polynomials int64 [batch·polynomials, n].

    Polynomials of a row of the batch follow each other: tiles (rows, then columns) times groups.
    """
    rows, columns = placement.rows, placement.columns
    batch, channels = len(numbers), placement.channels
    numbers = _padded(numbers, 2, rows)
    numbers = _padded(numbers, 3, columns)
    count, together = channels * len(placement.phases), placement.together
    tiles = np.zeros(
        (batch, rows.tiles, columns.tiles, placement.groups * together, placement.plane), np.int64
    )
    room = np.zeros((*tiles.shape[:3], channels, rows.count, placement.width), np.int64)
    for at, (row, column) in enumerate(placement.phases):
        cut = numbers[:, :, row :: rows.cut, column :: columns.cut]
        for down in range(rows.tiles):
            for right in range(columns.tiles):
                top, left = down * rows.tile, right * columns.tile
                piece = cut[:, :, top : top + rows.count, left : left + columns.count]
                room[:, down, right, :, :, : columns.count] = piece
        # the last row's empty end may reach beyond the plane
        flat = room.reshape(*room.shape[:4], -1)[..., : placement.plane]
        tiles[:, :, :, at : count : len(placement.phases), : flat.shape[-1]] = flat
    polynomials = np.zeros((batch * placement.polynomials, n), np.int64)
    used = together * placement.plane
    polynomials[:, :used] = tiles.reshape(len(polynomials), used)
    return polynomials


def _padded(numbers: np.ndarray, axis: int, cut: Axis) -> np.ndarray:
    """Numbers whose tile 0 starts at 0 and whose phases are as long as the last tile needs."""
    before = -cut.start * cut.cut
    whole = (cut.start + (cut.tiles - 1) * cut.tile + cut.count) * cut.cut
    after = whole - numbers.shape[axis]
    sides = [(0, 0)] * numbers.ndim
    sides[axis] = (before, max(after, 0))
    padded = np.pad(numbers, sides)
    return padded.take(range(whole + before), axis) if after < 0 else padded


def positions(landing: Landing) -> np.ndarray:
    """Which coefficients of each polynomial of a row of the batch hold accumulators.

    Returns:
        int64 [polynomials, P], the same number for each; -1: none.
    """
    high, wide = (
        -(-landing.shape[1] // landing.rows.cut),
        -(-landing.shape[2] // landing.columns.cut),
    )
    rows, columns = landing.rows, landing.columns
    width = rows.count * columns.count
    found = np.full((rows.tiles, columns.tiles, landing.groups, landing.together, width), -1)
    inside = np.arange(rows.count)[:, None] * landing.width + np.arange(columns.count)[None, :]
    numbers = np.arange(landing.groups * landing.together).reshape(landing.groups, -1)
    at = np.arange(landing.together)[None, :, None] * landing.spacing + inside.reshape(1, 1, -1)
    at = np.where(numbers[:, :, None] < landing.numbers, at, -1)
    for down in range(rows.tiles):
        for right in range(columns.tiles):
            held = (
                (np.arange(rows.count) + down * rows.tile < high)[:, None]
                & (np.arange(columns.count) + right * columns.tile < wide)[None, :]
            ).reshape(-1)
            found[down, right] = np.where(held, at, -1)
    return found.reshape(landing.polynomials, -1)


def unpack(landing: Landing, found: np.ndarray) -> np.ndarray:
    """Accumulators int64 [batch, C, H, W] of what stands at :func:`positions`.

    Args:
        found: int64 [batch·polynomials, P]; what stands at -1 does not matter.
    """
    rows, columns = landing.rows, landing.columns
    batch = len(found) // landing.polynomials
    shape = (batch, rows.tiles, columns.tiles, -1, rows.count, columns.count)
    tiles = found.reshape(shape)[:, :, :, : landing.numbers]
    # batch, tile rows, tile columns, channel, phase row, phase column, row, column
    tiles = tiles.reshape(
        batch, rows.tiles, columns.tiles, landing.shape[0], rows.cut, columns.cut,
        rows.count, columns.count,
    )  # fmt: skip
    whole = tiles.transpose(0, 3, 1, 6, 4, 2, 7, 5)
    whole = whole.reshape(
        batch, landing.shape[0], rows.tiles * rows.count * rows.cut,
        columns.tiles * columns.count * columns.cut,
    )  # fmt: skip
    return np.ascontiguousarray(whole[:, :, : landing.shape[1], : landing.shape[2]])
