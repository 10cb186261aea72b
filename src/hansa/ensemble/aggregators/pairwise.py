"""How far rows are from each other, in many sets at once or in long rows.

A pair's distance is computed in the same way wherever the two stand among the rows, so that their
order does not matter to the last bit. Differences are taken before they are squared: near rows are
told apart however far from 0 they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_COLUMNS = 1 << 14
"""Numbers of a long row that are looked at at a time."""
_CACHED = 1 << 17
"""Distances of a chunk, so that a chunk stays in a core's cache."""
_SHORT = 256
"""Rows of so many numbers are short."""


def squared_distances(rows: Tensor) -> Tensor:
    """Of each pair of rows [m, n, D]: [m, n, n]; infinite where one of the two is not finite."""
    m, n, size = rows.shape
    rows = rows.detach()
    if short_sets(rows):
        squares = torch.empty(m, n, n, dtype=rows.dtype)
        for span, lanes in pieces(rows.numpy()):
            squares[span] = torch.from_numpy(lanes).permute(2, 0, 1)
        return squares
    squares = torch.zeros(m, n, n, dtype=rows.dtype, device=rows.device)
    for first in range(0, size, _COLUMNS):
        piece = rows[:, :, first : first + _COLUMNS]
        mode = "donot_use_mm_for_euclid_dist"
        squares += torch.cdist(piece, piece, compute_mode=mode).square()
    squares.diagonal(dim1=1, dim2=2).zero_()
    return squares.nan_to_num_(nan=float("inf"), posinf=float("inf"))


def short_sets(rows: Tensor) -> bool:
    """Whether rows [m, n, D] are many short sets here, which :func:`pieces` takes."""
    return rows.device.type == "cpu" and rows.shape[0] > 1 and rows.shape[2] <= _SHORT


def pieces(rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some sets of rows [m, n, D] at a time: which, and their squared distances [n, n, c].

    The distances are the caller's to change, until the next are asked for.
    """
    m, n, size = rows.shape
    sets = max(1, min(_CACHED // (n * n), 4 * _CACHED // (n * size)))
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, m, sets):
            span = slice(first, min(m, first + sets))
            lanes = np.ascontiguousarray(rows[span].transpose(1, 2, 0))
            yield span, apart(lanes)


def apart(lanes: np.ndarray) -> np.ndarray:
    """The squared distances [n, n, c] of the rows of c sets, [n, D, c]."""
    n = len(lanes)
    squares = np.zeros((n, n, lanes.shape[2]), dtype=lanes.dtype)
    for i in range(n - 1):
        ways = lanes[i + 1 :] - lanes[i]
        ways *= ways
        squares[i, i + 1 :] = squares[i + 1 :, i] = ways.sum(1)
    if np.isnan(squares.max()):
        squares[np.isnan(squares)] = np.inf
    return squares
