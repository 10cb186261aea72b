"""Fewer bits a number: uniform levels, stochastic levels (QSGD), and sign with a norm."""

from __future__ import annotations

import struct
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.codec.codec import Codec
from hansa.codec.messages import Messages, whole_rows

if TYPE_CHECKING:
    from torch import Tensor

_SCALE = struct.Struct("<f")


def pack_bits(codes: np.ndarray, bits: int) -> bytes:
    """Unsigned integers [k] below 2^bits, most significant bit first, end to end."""
    planes = (codes[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8)).tobytes()


def unpack_bits(data: bytes | memoryview, count: int, bits: int) -> np.ndarray:
    """What :func:`pack_bits` packed, int64 [count].

    Raises:
        WireError: wrong length.
    """
    raw = np.frombuffer(data, np.uint8)
    if len(raw) != -(-count * bits // 8):
        raise WireError(f"{len(raw)} bytes for {count} numbers of {bits} bits")
    planes = np.unpackbits(raw, count=count * bits).reshape(count, bits).astype(np.int64)
    return planes @ (1 << np.arange(bits - 1, -1, -1))


def _narrow(scale: Any) -> float:
    """The scale as float32 holds it; infinite where it is too large for that."""
    with np.errstate(over="ignore"):
        return float(np.float32(scale))


class _Scaled(Codec):
    """Codes of fixed width after one float32 scale a row."""

    @abstractmethod
    def _bits(self) -> int:
        """Width of a code."""

    @abstractmethod
    def _codes(self, row: Tensor) -> tuple[float, np.ndarray]:
        """(scale, unsigned codes) of one row. Of a row without a finite scale only that is told."""

    @abstractmethod
    def _values(self, scale: float, codes: np.ndarray) -> np.ndarray:
        """float32 values of codes."""

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        rows = whole_rows(rows)
        payloads: list[bytes | memoryview] = []
        for row in rows:
            scale, codes = self._codes(row.detach().cpu())
            payloads.append(_SCALE.pack(scale) + pack_bits(codes, self._bits()))
        return payloads

    def decode(self, payload: bytes | memoryview, elements: int) -> Tensor:
        view = memoryview(payload)
        if len(view) < _SCALE.size:
            raise WireError(f"quantized payload of {len(view)} bytes has no scale")
        (scale,) = _SCALE.unpack(view[: _SCALE.size])
        codes = unpack_bits(view[_SCALE.size :], elements, self._bits())
        return torch.from_numpy(self._values(scale, codes))

    def size(self, rows: Messages) -> np.ndarray:
        rows = whole_rows(rows)
        return np.full(
            len(rows), _SCALE.size + -(-rows.shape[1] * self._bits() // 8), dtype=np.int64
        )

    def through(self, rows: Messages) -> Tensor:
        rows = whole_rows(rows)
        out = torch.empty_like(rows)
        for k, row in enumerate(rows):
            out[k] = torch.from_numpy(self._values(*self._codes(row.detach().cpu())))
        return out


@register("uniform")
class Uniform(_Scaled):
    """The nearest of evenly spaced levels between minus and plus the row's largest magnitude."""

    bits: int = Field(8, ge=2, le=16, description="bits a number")

    def _bits(self) -> int:
        return self.bits

    def _codes(self, row: Tensor) -> tuple[float, np.ndarray]:
        top = (1 << (self.bits - 1)) - 1
        values = row.numpy()
        scale = _narrow(np.abs(values).max(initial=0.0))
        if not np.isfinite(scale):
            return scale, np.full(len(values), 2 * top)
        levels = np.rint(values.astype(np.float64) / (scale or 1.0) * top).astype(np.int64)
        return scale, np.clip(levels, -top, top) + top

    def _values(self, scale: float, codes: np.ndarray) -> np.ndarray:
        top = (1 << (self.bits - 1)) - 1
        with np.errstate(invalid="ignore", over="ignore"):
            return ((codes - top) * (scale / top)).astype(np.float32)


@register("qsgd", paper="Alistarh et al.", year=2017, url="https://arxiv.org/abs/1610.02132")
class QSGD(_Scaled):
    """Stochastic rounding to 2^(bits-1) - 1 levels of the row's L2 norm (Alistarh et al., 2017).

    Unbiased: the expected value of what arrives is what was sent. The draws are seeded by the
    row's own bytes, so that every runtime rounds alike.
    """

    bits: int = Field(4, ge=2, le=16, description="bits a number, one of them its sign")

    def _bits(self) -> int:
        return self.bits

    def _codes(self, row: Tensor) -> tuple[float, np.ndarray]:
        import zlib

        levels = (1 << (self.bits - 1)) - 1
        values = row.numpy()
        norm = _narrow(np.linalg.norm(values.astype(np.float64)))
        if not np.isfinite(norm):
            return norm, np.full(len(values), levels)
        random = np.random.Generator(np.random.Philox(key=zlib.crc32(values.tobytes())))
        exact = np.abs(values.astype(np.float64)) / (norm or 1.0) * levels
        rounded = np.floor(exact + random.random(len(values))).astype(np.int64)
        sign = (values < 0).astype(np.int64) << (self.bits - 1)
        return norm, np.minimum(rounded, levels) | sign

    def _values(self, scale: float, codes: np.ndarray) -> np.ndarray:
        levels = (1 << (self.bits - 1)) - 1
        with np.errstate(invalid="ignore", over="ignore"):
            magnitude = (codes & levels) * (scale / levels)
        return np.where(codes >> (self.bits - 1), -magnitude, magnitude).astype(np.float32)


@register("sign", paper="Bernstein et al.", year=2018, url="https://arxiv.org/abs/1802.04434")
class Sign(_Scaled):
    """One bit a number and the mean magnitude (Bernstein et al., 2018, with a norm)."""

    def _bits(self) -> int:
        return 1

    def _codes(self, row: Tensor) -> tuple[float, np.ndarray]:
        values = row.numpy()
        scale = _narrow(np.abs(values.astype(np.float64)).mean()) if len(values) else 0.0
        return scale, (values < 0).astype(np.int64)

    def _values(self, scale: float, codes: np.ndarray) -> np.ndarray:
        return np.where(codes, -np.float32(scale), np.float32(scale)).astype(np.float32)
