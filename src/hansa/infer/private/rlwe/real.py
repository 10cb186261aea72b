"""Where residues are computed in float64, exactly: primes below 2^46 on processors that fuse."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache

import numpy as np

from hansa.base.lazy import Lazy

binding = Lazy("llvmlite.binding")

LARGEST_BITS = 46


@cache
def fuses() -> bool:
    """Whether the processor multiplies and adds at once; without, the integer kernels are faster.

    Both give the same residues.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    return bool(binding.get_host_cpu_features().get("fma"))


def suits(primes: tuple[int, ...]) -> bool:
    """Whether these primes are computed with in float64 here."""
    return max(primes).bit_length() <= LARGEST_BITS and fuses()


@cache
def constants(primes: tuple[int, ...]) -> np.ndarray:
    """float64 [L, 5]; see ``real_kernels``."""
    return np.array(
        [
            [prime, 1 / prime, *(centred(1 << bits, prime) for bits in (32, 64, 96))]
            for prime in primes
        ]
    )


def centred(number: int, prime: int) -> int:
    """The residue that is nearest to zero."""
    rest = number % prime
    return rest - prime if rest > prime // 2 else rest


@dataclass(frozen=True, eq=False)
class Ratios:
    """Factors near zero and their ratios to the prime, of products by known numbers.

    Attributes:
        factors, ratios: float64 [L, n].
        last, last_ratios: float64 [L, 7, n / 8], those of the three last stages, group by group.
    """

    factors: np.ndarray
    ratios: np.ndarray
    last: np.ndarray
    last_ratios: np.ndarray


def ratios(table: np.ndarray, primes: tuple[int, ...]) -> Ratios:
    """Of a table of residues uint64 [L, n]."""
    factors = np.empty(table.shape)
    for row, into, prime in zip(table, factors, primes, strict=True):
        signed = row.astype(np.int64)
        into[:] = np.where(signed > prime // 2, signed - prime, signed)
    parts = factors / np.array(primes, np.float64)[:, None]
    return Ratios(factors, parts, _last(factors), _last(parts))


def _last(table: np.ndarray) -> np.ndarray:
    eighth, rows = table.shape[1] // 8, []
    for groups in (1, 2, 4):
        stage = table[:, groups * eighth : 2 * groups * eighth]
        rows += [stage[:, first::groups] for first in range(groups)]
    return np.ascontiguousarray(np.stack(rows, 1))
