"""Secret and public randomness: the key stream of AES-256 in counter mode.

A seed and a label make a key (BLAKE2b), so that streams of different labels have nothing to do
with each other and the same seed and label draw the same numbers. Seeds come from the operating
system or from another stream, never from numpy's generator.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.rlwe.profiles import Profile

ciphers = Lazy("cryptography.hazmat.primitives.ciphers")
kernels = Lazy("hansa.infer.private.rlwe.draw_kernels")

SEED_BYTES = 32
_ZEROS = bytes(1 << 16)
MOST_FLOODING = 126
SPARE = 32
"""Words more than a uniform polynomial has residues, for those that are rejected."""


class Draws:
    """A stream of random numbers, of which each call takes the next.

    Args:
        seed: 16 to 64 bytes.
        label: what they are for; two streams that must not be equal have different ones.
    """

    def __init__(self, seed: bytes, label: str | bytes) -> None:
        if not 16 <= len(seed) <= 64:
            raise ConfigError("seed", len(seed), "a seed has 16 to 64 bytes", "draw 32")
        name = label.encode() if isinstance(label, str) else bytes(label)
        self._key = hashlib.blake2b(
            len(name).to_bytes(8, "little") + name, key=seed, digest_size=32, person=b"hansa rlwe"
        ).digest()
        algorithm = ciphers.algorithms.AES(self._key)
        self._stream = ciphers.Cipher(algorithm, ciphers.modes.CTR(bytes(16))).encryptor()

    def child(self, label: str | bytes) -> Draws:
        """A stream of its own, the same however much of this one is drawn."""
        return Draws(self._key, label)

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        return self.words(-(-count // 8)).tobytes()[:count]

    def words(self, count: int) -> np.ndarray:
        """uint64 [count], uniform."""
        return self.fill(np.empty(count, np.uint64))

    def fill(self, words: np.ndarray) -> np.ndarray:
        """The same into an array uint64 [count], which is returned."""
        view = words.view(np.uint8).data
        for start in range(0, len(view), len(_ZEROS)):
            part = view[start : start + len(_ZEROS)]
            self._stream.update_into(_ZEROS[: len(part)], part)
        return words

    def bits(self, count: int) -> np.ndarray:
        """uint8 [count] of zeros and ones."""
        return np.unpackbits(
            self.words(-(-count // 64)).view(np.uint8), count=count, bitorder="little"
        )

    def uniform(self, profile: Profile, k: int) -> np.ndarray:
        """uint64 [k, L, N], residues uniform modulo each prime, exactly: by rejection.

        What is rejected tells nothing of what is kept.
        """
        count = k * profile.levels * profile.n
        words = self.words(count + SPARE * k)
        made, spare = words[:count].reshape(k, profile.levels, profile.n), words[count:]
        primes = np.array(profile.primes, np.uint64)
        while kernels.confine(made, spare, primes):
            spare = self.words(SPARE)  # all were used and this was not enough
        return made

    def ternary(self, profile: Profile, k: int) -> np.ndarray:
        """int8 [k, N], uniform in {-1, 0, 1}, exactly: a byte that is 255 is drawn again."""
        made = self.words(k * profile.n // 8).view(np.uint8)
        while (bad := np.flatnonzero(made == 255)).size:
            made[bad] = self.words(-(-bad.size // 8)).view(np.uint8)[: bad.size]
        third = (made.astype(np.uint16) * np.uint16(171)) >> np.uint16(9)
        return (made - 3 * third - 1).astype(np.uint8).view(np.int8).reshape(k, profile.n)

    def gaussian(self, profile: Profile, k: int) -> np.ndarray:
        """int8 [k, N], the discrete Gaussian of the profile's sigma, every threshold compared.

        Cut where 2^-63 ends, at ``largest_error``; a draw is within 2^-58 of the distribution in
        statistical distance.
        """
        made = np.empty((k, profile.n), np.int8)
        kernels.gaussian(self.words(made.size), padded_thresholds(profile.sigma), made.reshape(-1))
        return made

    def flooding(self, k: int, n: int, bits: int) -> np.ndarray:
        """uint64 [k, 2, n], integers uniform in [-2^bits, 2^bits): words, two's complement.

        Low words first. ``residues.lift_wide`` adds them to polynomials.
        """
        if not 0 <= bits <= MOST_FLOODING:
            raise ConfigError("flooding_bits", bits, f"flooding has 0 to {MOST_FLOODING} bits")
        made = self.words(2 * k * n).reshape(k, 2, n)
        kernels.spread_around(made, bits)
        return made

    def permutation(self, n: int) -> np.ndarray:
        """int64 [n], uniform over all orders, exactly: the ranks of words that all differ."""
        while True:
            words = self.words(n)
            order = np.argsort(words, kind="stable")
            if n < 2 or (np.diff(words[order]) != 0).all():
                return order


@cache
def thresholds(sigma: float) -> np.ndarray:
    """uint64 [largest error]: floor(2^63 · P(|x| < j)), j = 1, 2, ..., of the discrete Gaussian."""
    largest = math.ceil(sigma * math.sqrt(2 * 64 * math.log(2)))
    weights = [_exponential(j, sigma) for j in range(largest + 40)]
    total, below, made = weights[0] + 2 * sum(weights[1:]), 0, []
    for j, weight in enumerate(weights):
        below += weight if j == 0 else 2 * weight
        level = (below << 63) // total
        if level >= (1 << 63) - 1:
            break
        made.append(level)
    return np.array(made, np.uint64)


@cache
def padded_thresholds(sigma: float) -> np.ndarray:
    """The thresholds and as many that no word reaches as make a multiple of four."""
    own = thresholds(sigma)
    return np.append(own, np.full(-len(own) % 4, 1 << 63, np.uint64))


def _exponential(j: int, sigma: float) -> int:
    """exp(-j² / 2σ²) in units of 2^-200, by its decimal expansion."""
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 90
        power = (-Decimal(j * j) / (2 * Decimal(str(sigma)) ** 2)).exp()
        return int(power * Decimal(1 << 200))


def largest_error(profile: Profile) -> int:
    """No draw of the errors is larger in size."""
    return len(thresholds(profile.sigma))
