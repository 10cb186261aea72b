"""Wavelet transforms of whole rows, batched.

The coefficients of a row of P numbers are laid out as [cA_l, cD_l, ..., cD_1], with half-sample
symmetric extension at both ends, exactly as PyWavelets' ``wavedec`` with ``mode="symmetric"``;
the filters are PyWavelets' own. P' is a little larger than P. Tests hold both directions to
PyWavelets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

from hansa.base.errors import ConfigError
from hansa.base.threads import over_rows

_BLOCK = 1024  # coefficients at a time, so that they stay in the first-level cache


@dataclass(frozen=True)
class WaveletTransform:
    """The transform of rows [n, P] with a discrete wavelet; linear and inverted exactly.

    Args:
        size: P, numbers in a row.
        wavelet: a discrete wavelet's name in PyWavelets, such as ``sym2``.
        levels: how often the approximation is split again.

    Raises:
        ConfigError: no such wavelet, or the row is too short for so many levels.
    """

    size: int
    wavelet: str = "sym2"
    levels: int = 4

    def __post_init__(self) -> None:
        import pywt

        if self.wavelet not in pywt.wavelist(kind="discrete"):
            raise ConfigError(
                "wavelet", self.wavelet, "is not a discrete wavelet of PyWavelets", "sym2, db2 ..."
            )
        deepest = pywt.dwt_max_level(self.size, self.wavelet)
        if not deepest:
            raise ConfigError(
                "wavelet",
                self.wavelet,
                f"is too long for rows of {self.size} numbers",
                "a shorter one such as haar, or none",
            )
        if not 1 <= self.levels <= deepest:
            raise ConfigError(
                "levels",
                self.levels,
                f"rows of {self.size} numbers can be split {deepest} times with {self.wavelet}",
                f"1 to {deepest}",
            )

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Coefficients of each level, the finest first."""
        found, n = [], self.size
        for _ in range(self.levels):
            n = (n + len(self._filters[0]) - 1) // 2
            found.append(n)
        return tuple(found)

    @cached_property
    def coefficients(self) -> int:
        """P': how many coefficients a row has."""
        return sum(self.lengths) + self.lengths[-1]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where the details of each level begin, the finest first."""
        ends = self.coefficients - np.cumsum((0, *self.lengths[:-1]))
        return tuple(int(end - n) for end, n in zip(ends, self.lengths, strict=True))

    def forward(self, rows: Tensor) -> Tensor:
        """Coefficients [n, P'] of rows [n, P], float32 or float64 on the CPU."""
        source = rows.detach().contiguous().numpy()
        out = np.empty((len(source), self.coefficients), source.dtype)
        low, high, _, _ = (f.astype(source.dtype) for f in self._filters)
        places = np.array(self.offsets), np.array(self.lengths)
        over_rows(_forward_rows, len(source), source, out, low, high, *places)
        return torch.from_numpy(out)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Rows [n, P] from coefficients [n, P']."""
        source = coefficients.detach().contiguous().numpy()
        out = np.empty((len(source), self.size), source.dtype)
        _, _, low, high = (f.astype(source.dtype) for f in self._filters)
        places = np.array(self.offsets), np.array(self.lengths)
        over_rows(_inverse_rows, len(source), source, out, low, high, *places)
        return torch.from_numpy(out)

    @cached_property
    def _filters(self) -> tuple[np.ndarray, ...]:
        import pywt

        return tuple(np.array(f, np.float64) for f in pywt.Wavelet(self.wavelet).filter_bank)


@lru_cache(maxsize=16)
def transform(size: int, wavelet: str, levels: int) -> WaveletTransform:
    """The transform for rows of ``size`` numbers, made once."""
    return WaveletTransform(size, wavelet, levels)


@njit(cache=True, nogil=True)
def _mirrored(x, n, i):  # type: ignore[no-untyped-def]  # pragma: no cover
    r = i % (2 * n)
    return x[r] if r < n else x[2 * n - 1 - r]


@njit(cache=True, nogil=True)
def _split(x, n, low, high, even, odd, approximation, detail):  # type: ignore[no-untyped-def]  # pragma: no cover
    taps = low.size
    m, pad, half = (n + taps - 1) // 2, taps // 2, n // 2
    # Numbers at even and odd places apart, so that the filters run over adjacent memory.
    for p in range(half):
        even[pad + p] = x[2 * p]
        odd[pad + p] = x[2 * p + 1]
    for q in range(pad):
        even[q] = _mirrored(x, n, 2 * (q - pad))
        odd[q] = _mirrored(x, n, 2 * (q - pad) + 1)
    for q in range(pad + half, pad + m):
        even[q] = _mirrored(x, n, 2 * (q - pad))
        odd[q] = _mirrored(x, n, 2 * (q - pad) + 1)
    for first in range(0, m, _BLOCK):
        last = min(m, first + _BLOCK)
        a, d = approximation[first:last], detail[first:last]
        a[:] = 0
        d[:] = 0
        for t in range(pad):
            o = odd[pad + first - t : pad + last - t]
            e = even[pad + first - t : pad + last - t]
            l0, l1, h0, h1 = low[2 * t], low[2 * t + 1], high[2 * t], high[2 * t + 1]
            for k in range(last - first):
                a[k] += l0 * o[k] + l1 * e[k]
                d[k] += h0 * o[k] + h1 * e[k]


@njit(cache=True, nogil=True)
def _forward_rows(rows, out, low, high, offsets, lengths, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, taps = rows.shape[1], low.size
    even = np.empty(n // 2 + 2 * taps, rows.dtype)
    odd = np.empty(n // 2 + 2 * taps, rows.dtype)
    here = np.empty(lengths[0] + 1, rows.dtype)
    there = np.empty(lengths[0] + 1, rows.dtype)
    for r in range(first, last):
        m = lengths[0]
        _split(rows[r], n, low, high, even, odd, here, out[r, offsets[0] : offsets[0] + m])
        for level in range(1, lengths.size):
            before, m = m, lengths[level]
            place = out[r, offsets[level] : offsets[level] + m]
            _split(here, before, low, high, even, odd, there, place)
            here, there = there, here
        out[r, :m] = here[:m]


@njit(cache=True, nogil=True)
def _join(approximation, detail, m, n, low, high, even, odd, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    pad = low.size // 2
    half = (n + 1) // 2
    # out[2k] takes the even taps and out[2k + 1] the odd ones, of coefficients k .. k + pad - 1.
    for first in range(0, half, _BLOCK):
        last = min(half, first + _BLOCK)
        e, o = even[: last - first], odd[: last - first]
        e[:] = 0
        o[:] = 0
        for t in range(pad):
            shift = pad - 1 - t
            a = approximation[first + shift : last + shift]
            d = detail[first + shift : last + shift]
            l0, l1, h0, h1 = low[2 * t], low[2 * t + 1], high[2 * t], high[2 * t + 1]
            for k in range(last - first):
                e[k] += l0 * a[k] + h0 * d[k]
                o[k] += l1 * a[k] + h1 * d[k]
        for k in range(last - first):
            out[2 * (first + k)] = e[k]
            out[2 * (first + k) + 1] = o[k]


@njit(cache=True, nogil=True)
def _inverse_rows(rows, out, low, high, offsets, lengths, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    levels, size = lengths.size, out.shape[1]
    even = np.empty(_BLOCK, rows.dtype)
    odd = np.empty(_BLOCK, rows.dtype)
    here = np.empty(size + 2, rows.dtype)
    there = np.empty(size + 2, rows.dtype)
    for r in range(first, last):
        m = lengths[levels - 1]
        here[:m] = rows[r, :m]
        for level in range(levels - 1, -1, -1):
            n = size if level == 0 else lengths[level - 1]
            detail = rows[r, offsets[level] : offsets[level] + m]
            _join(here, detail, m, n, low, high, even, odd, there)
            here, there = there, here
            m = n
        out[r, :] = here[:size]
