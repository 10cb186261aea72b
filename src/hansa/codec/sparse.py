"""Some numbers of a row: their positions in the shortest code, their values in any dense codec."""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.codec.bits import (
    MAX_RICE,
    bitmap_decode,
    bitmap_encode,
    gamma_bits,
    gamma_decode,
    gamma_encode,
    rice_bits,
    rice_decode,
    rice_encode,
    rice_parameter,
)
from hansa.codec.codec import Codec, values_size, values_through
from hansa.codec.dense import Dense
from hansa.codec.messages import Messages, SparseRows, whole_rows

_HEAD = struct.Struct("<BBHII")  # index code, Rice parameter, group - 1, positions, their bytes
_WHOLE, _GAMMA, _RICE, _BITMAP, _PLAIN = range(5)
_BY_NAME = {"gamma": _GAMMA, "rice": _RICE, "bitmap": _BITMAP, "plain": _PLAIN}


@register("sparse")
class Sparse(Codec):
    """Positions as Elias gamma gaps, Golomb-Rice gaps, a bitmap or int32, the shortest a message.

    A message with every number of the row carries no positions at all. Where numbers go in groups
    there is one position for a group.
    """

    index: Literal["shortest", "gamma", "rice", "bitmap", "plain"] = Field(
        "shortest", description="how positions are coded; shortest decides for each message"
    )
    values: Codec = Field(Dense(), description="how the values are coded")

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        messages = self._sparse(rows)
        payloads: list[bytes | memoryview] = []
        for k in range(len(messages)):
            positions, values = messages.row(k)
            code, parameter, _ = self._choose(positions, messages.places)
            index = _encode_positions(positions, messages.places, code, parameter)
            head = _HEAD.pack(code, parameter, messages.group - 1, len(positions), len(index))
            payloads.append(b"".join((head, index, self.values.encode(values.unsqueeze(0))[0])))
        return payloads

    def decode(self, payload: bytes | memoryview, elements: int) -> SparseRows:
        view = memoryview(payload)
        if len(view) < _HEAD.size:
            raise WireError(f"sparse payload of {len(view)} bytes has no head")
        code, parameter, further, count, length = _HEAD.unpack(view[: _HEAD.size])
        body = view[_HEAD.size :]
        valid = parameter <= (MAX_RICE if code == _RICE else 0)
        places, rest = divmod(elements, further + 1)
        if rest or count > places or length > len(body) or not valid:
            raise WireError("malformed head of a sparse payload")
        values = whole_rows(self.values.decode(body[length:], count * (further + 1)))
        positions = _decode_positions(body[:length], count, places, code, parameter)
        return SparseRows(
            np.array([0, count]), positions, values.reshape(-1), elements, group=further + 1
        )

    def size(self, rows: Messages) -> np.ndarray:
        messages = self._sparse(rows)
        index = [self._choose(messages.row(k)[0], messages.places)[2] for k in range(len(messages))]
        return _HEAD.size + np.array(index, dtype=np.int64) + values_size(self.values, messages)

    def through(self, rows: Messages) -> SparseRows:
        messages = self._sparse(rows)
        return values_through(self.values, messages)

    def _choose(self, positions: np.ndarray, size: int) -> tuple[int, int, int]:
        """(code, Rice parameter, bytes) of these positions."""
        if len(positions) == size:
            return _WHOLE, 0, 0
        parameter = rice_parameter(positions)
        wanted = list(_BY_NAME) if self.index == "shortest" else [self.index]
        lengths = {}
        for name in wanted:
            if name == "gamma":
                lengths[name] = -(-gamma_bits(positions) // 8)
            elif name == "rice":
                lengths[name] = -(-rice_bits(positions, parameter) // 8)
            else:
                lengths[name] = -(-size // 8) if name == "bitmap" else 4 * len(positions)
        best = min(lengths, key=lambda name: lengths[name])
        return _BY_NAME[best], parameter if best == "rice" else 0, lengths[best]

    @staticmethod
    def _sparse(rows: Messages) -> SparseRows:
        if not isinstance(rows, SparseRows):
            raise TypeError("the sparse codec codes SparseRows; use dense for whole rows")
        if rows.group > 1 << 16:
            raise ValueError(f"groups of {rows.group} numbers are over the limit of {1 << 16}")
        return rows


def _encode_positions(positions: np.ndarray, size: int, code: int, parameter: int) -> bytes:
    if code == _WHOLE:
        return b""
    if code == _GAMMA:
        return gamma_encode(positions)
    if code == _RICE:
        return rice_encode(positions, parameter)
    if code == _BITMAP:
        return bitmap_encode(positions, size)
    return positions.astype("<i4").tobytes()


def _decode_positions(
    data: memoryview, count: int, size: int, code: int, parameter: int
) -> np.ndarray:
    if code == _WHOLE:
        if len(data) or count != size:
            raise WireError("a whole row that carries positions or lacks numbers")
        return np.arange(size)
    if code == _GAMMA:
        return gamma_decode(data, count, size)
    if code == _RICE:
        return rice_decode(data, count, size, parameter)
    if code == _BITMAP:
        return bitmap_decode(data, count, size)
    if code != _PLAIN or len(data) != 4 * count:
        raise WireError(f"unknown or malformed index code {code}")
    positions = np.frombuffer(data, "<i4").astype(np.int64)
    if count and (positions[0] < 0 or positions[-1] >= size or (np.diff(positions) <= 0).any()):
        raise WireError("positions out of order or out of range")
    return positions
