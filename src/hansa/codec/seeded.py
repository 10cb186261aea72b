"""Numbers at random positions that the receiver draws again from a seed."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.codec.codec import Codec, values_size, values_through
from hansa.codec.dense import Dense
from hansa.codec.messages import Messages, SparseRows, whole_rows

if TYPE_CHECKING:
    from torch import Tensor

_HEAD = struct.Struct("<Qd")  # seed, share; negative where numbers go in groups
_GROUP = struct.Struct("<I")  # how many, after such a head


def seeded_positions(seed: int, share: float, size: int) -> np.ndarray:
    """Positions below ``size``, each taken with probability ``share``; all of them at share 1."""
    if share >= 1:
        return np.arange(size)
    draws = np.random.Generator(np.random.Philox(key=seed)).random(size, dtype=np.float32)
    return np.flatnonzero(draws <= share)


def seeded_rows(rows: Tensor, seeds: np.ndarray, share: float, group: int = 1) -> SparseRows:
    """A random part of each row [n, K], by one seed a row, drawn in groups of adjacent numbers.

    Raises:
        ValueError: rows are not of whole groups.
    """
    positions = [seeded_positions(int(seed), share, rows.shape[1] // group) for seed in seeds]
    return replace(SparseRows.of(rows, positions, group), seeds=seeds, share=share)


@register("seeded")
class Seeded(Codec):
    """The seed and the share instead of positions, then the values."""

    values: Codec = Field(Dense(), description="how the values are coded")

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        messages, seeds = self._seeded(rows)
        payloads: list[bytes | memoryview] = []
        for k in range(len(messages)):
            head = _head(int(seeds[k]), messages)
            values = self.values.encode(messages.row(k)[1].unsqueeze(0))[0]
            payloads.append(b"".join((head, values)))
        return payloads

    def decode(self, payload: bytes | memoryview, elements: int) -> SparseRows:
        view = memoryview(payload)
        if len(view) < _HEAD.size:
            raise WireError(f"seeded payload of {len(view)} bytes has no head")
        seed, share = _HEAD.unpack(view[: _HEAD.size])
        body, group = view[_HEAD.size :], 1
        if math.copysign(1, share) < 0:
            if len(body) < _GROUP.size:
                raise WireError(f"a share of {share} of a row, and no group")
            share, (group,), body = -share, _GROUP.unpack(body[: _GROUP.size]), body[_GROUP.size :]
            if group < 2 or elements % group:
                raise WireError(f"a row of {elements} numbers in groups of {group}")
        if not 0 <= share <= 1:
            raise WireError(f"a share of {share} of a row")
        positions = seeded_positions(seed, share, elements // group)
        values = whole_rows(self.values.decode(body, len(positions) * group))
        indptr, seeds = np.array([0, len(positions)]), np.array([seed], np.uint64)
        return SparseRows(
            indptr, positions, values.reshape(-1), elements, seeds, share, group=group
        )

    def size(self, rows: Messages) -> np.ndarray:
        messages, _ = self._seeded(rows)
        head = _HEAD.size + (_GROUP.size if messages.group > 1 else 0)
        return head + values_size(self.values, messages)

    def through(self, rows: Messages) -> SparseRows:
        messages, _ = self._seeded(rows)
        return values_through(self.values, messages)

    @staticmethod
    def _seeded(rows: Messages) -> tuple[SparseRows, np.ndarray]:
        if not isinstance(rows, SparseRows) or rows.seeds is None:
            raise TypeError("the seeded codec codes SparseRows whose positions come from seeds")
        return rows, rows.seeds


def _head(seed: int, messages: SparseRows) -> bytes:
    if messages.group == 1:
        return _HEAD.pack(seed, messages.share)
    return _HEAD.pack(seed, -messages.share) + _GROUP.pack(messages.group)
