"""Ascending positions in a row <-> bits: Elias gamma, Golomb-Rice, bitmap.

All three code k ascending positions below ``size``. Gamma and Rice code the gaps between them,
first gap = first position + 1, so that every gap is at least 1. Decoders never read past their
input and refuse what no encoder writes.
"""

from __future__ import annotations

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy

kernels = Lazy("hansa.codec.bit_kernels")  # they need numba

MAX_RICE = 30


def gamma_bits(positions: np.ndarray) -> int:
    """Length of the Elias gamma code in bits (Elias, 1975): 2 floor(log2 gap) + 1 each."""
    if not len(positions):
        return 0
    return int((2 * _log2(_gaps(positions)) + 1).sum())


def gamma_encode(positions: np.ndarray) -> bytes:
    """Elias gamma codes of the gaps, most significant bit first, zero-padded to whole bytes."""
    out = np.zeros(-(-gamma_bits(positions) // 8), np.uint8)
    kernels.gamma_write(_gaps(positions), out)
    return out.tobytes()


def gamma_decode(data: bytes | memoryview, count: int, size: int) -> np.ndarray:
    """The positions, int64 [count].

    Raises:
        WireError: truncated, not canonical, or a position at or past ``size``.
    """
    return _checked(kernels.gamma_read, data, count, size, 0)


def rice_parameter(positions: np.ndarray) -> int:
    """The parameter that makes the Golomb-Rice code shortest, from the mean gap's neighbours."""
    if not len(positions):
        return 0
    gaps = _gaps(positions) - 1
    guess = min(int(np.log2(max(float(gaps.mean()), 1.0))), MAX_RICE)
    tries = [r for r in (guess - 1, guess, guess + 1) if 0 <= r <= MAX_RICE]
    return min(tries, key=lambda r: int((gaps >> r).sum()) + r * len(gaps))


def rice_bits(positions: np.ndarray, parameter: int) -> int:
    """Length of the Golomb-Rice code in bits (Rice and Plaunt, 1971)."""
    gaps = _gaps(positions) - 1
    return int((gaps >> parameter).sum()) + (1 + parameter) * len(gaps)


def rice_encode(positions: np.ndarray, parameter: int) -> bytes:
    """Golomb-Rice codes: gap - 1 as a unary quotient by 2^parameter and a binary remainder.

    Optimal among prefix codes for positions drawn at random, whose gaps are geometric
    (Gallager and Van Voorhis, 1975).
    """
    out = np.zeros(-(-rice_bits(positions, parameter) // 8), np.uint8)
    kernels.rice_write(_gaps(positions) - 1, parameter, out)
    return out.tobytes()


def rice_decode(data: bytes | memoryview, count: int, size: int, parameter: int) -> np.ndarray:
    """The positions, int64 [count].

    Raises:
        WireError: truncated, not canonical, or a position at or past ``size``.
    """
    return _checked(kernels.rice_read, data, count, size, parameter)


def bitmap_encode(positions: np.ndarray, size: int) -> bytes:
    """One bit a number of the row."""
    mask = np.zeros(size, bool)
    mask[positions] = True
    return np.packbits(mask).tobytes()


def bitmap_decode(data: bytes | memoryview, count: int, size: int) -> np.ndarray:
    """The positions, int64 [count].

    Raises:
        WireError: wrong length, or not ``count`` bits set.
    """
    raw = np.frombuffer(data, np.uint8)
    if len(raw) != -(-size // 8):
        raise WireError(f"bitmap of {len(raw)} bytes for {size} numbers")
    bits = np.unpackbits(raw)
    positions = np.flatnonzero(bits)
    if len(positions) != count or (count and positions[-1] >= size):
        raise WireError(f"bitmap with {len(positions)} positions, announced were {count}")
    return positions.astype(np.int64)


def _gaps(positions: np.ndarray) -> np.ndarray:
    gaps = np.asarray(positions, dtype=np.int64) + 1
    gaps[1:] -= gaps[:-1].copy()
    return gaps


def _log2(values: np.ndarray) -> np.ndarray:
    """floor(log2) of positive int64, exactly."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1


def _checked(read, data, count, size, parameter):  # type: ignore[no-untyped-def]
    raw = np.frombuffer(data, np.uint8)
    if count < 0 or count > size or count > 8 * len(raw):
        raise WireError(f"{count} positions in {len(raw)} bytes, for {size} numbers")
    positions = np.empty(count, np.int64)
    used = read(raw, positions, size, parameter)
    if used < 0 or -(-used // 8) != len(raw):
        raise WireError("malformed index code")
    if used % 8 and raw[-1] & ((1 << (8 - used % 8)) - 1):
        raise WireError("an index code with bits after its end")
    return positions
