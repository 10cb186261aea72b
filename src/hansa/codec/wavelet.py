"""Wavelet transforms of whole rows, batched.

The coefficients of a row of P numbers are laid out as [cA_l, cD_l, ..., cD_1], with half-sample
symmetric extension at both ends, exactly as PyWavelets' ``wavedec`` with ``mode="symmetric"``;
the filters are PyWavelets' own. P' is a little larger than P. Tests hold both directions to
PyWavelets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, torch
from hansa.base.threads import over_rows

if TYPE_CHECKING:
    from torch import Tensor

kernels = Lazy("hansa.codec.wavelet_kernels")  # they need numba


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
        counts, n = [], self.size
        for _ in range(self.levels):
            n = (n + len(self._filters[0]) - 1) // 2
            counts.append(n)
        return tuple(counts)

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
        """Coefficients [n, P'] of rows [n, P], float32 or float64; on the CPU, as all parts are."""
        source = rows.detach().cpu().contiguous().numpy()
        out = np.empty((len(source), self.coefficients), source.dtype)
        low, high, _, _ = (f.astype(source.dtype) for f in self._filters)
        places = np.array(self.offsets), np.array(self.lengths)
        over_rows(kernels.forward_rows, len(source), source, out, low, high, *places)
        return torch.from_numpy(out)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Rows [n, P] from coefficients [n, P']."""
        source = coefficients.detach().cpu().contiguous().numpy()
        out = np.empty((len(source), self.size), source.dtype)
        _, _, low, high = (f.astype(source.dtype) for f in self._filters)
        places = np.array(self.offsets), np.array(self.lengths)
        over_rows(kernels.inverse_rows, len(source), source, out, low, high, *places)
        return torch.from_numpy(out)

    @cached_property
    def _filters(self) -> tuple[np.ndarray, ...]:
        import pywt

        return tuple(np.array(f, np.float64) for f in pywt.Wavelet(self.wavelet).filter_bank)


@lru_cache(maxsize=16)
def transform(size: int, wavelet: str, levels: int) -> WaveletTransform:
    """The transform for rows of ``size`` numbers, made once."""
    return WaveletTransform(size, wavelet, levels)
