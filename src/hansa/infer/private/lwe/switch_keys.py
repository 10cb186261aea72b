"""Keys that bring a turned ciphertext back under the client's secret.

Turning X to X^g turns the secret too. A key of a turn is an encryption of the turned secret times
each part of a gadget: signed digits of each residue (Bajard et al., 2016, section 3; Chen, Dai,
Kim, Song, 2021, section 2). Masks come from a seed that the server chose. That encrypting a
secret under itself is safe is an assumption, the usual one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.infer.private.rlwe import ntt
from hansa.infer.private.rlwe.draws import Draws, largest_error
from hansa.infer.private.rlwe.keys import SecretKey, mask
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.residues import (
    lift,
    pack_residues,
    product_add,
    unpack_residues,
)

DIGIT_BITS = {"n4096": 15, "n8192": 20}
"""Bits of a digit: what packing adds to the noise stays far below the flooding."""
_USE = "switch keys"


def digit_bits(profile: Profile) -> int:
    """Of a profile.

    Raises:
        ConfigError: its modulus has no room for packing.
    """
    if profile.name not in DIGIT_BITS:
        raise ConfigError(
            "profile",
            profile.name,
            "has too small a modulus to pack rows",
            f"one of {', '.join(DIGIT_BITS)}, or packing channels",
        )
    return DIGIT_BITS[profile.name]


def digit_count(profile: Profile) -> int:
    """Digits of a residue."""
    return -(-max(profile.prime_bits) // digit_bits(profile))


def switch_bound(profile: Profile) -> int:
    """Of what one switch of keys adds to the noise of any coefficient."""
    largest = (1 << (digit_bits(profile) - 1)) + 1
    return profile.levels * digit_count(profile) * profile.n * largest * largest_error(profile)


def turned(profile: Profile, numbers: np.ndarray, power: int) -> np.ndarray:
    """f(X^power) of polynomials [k, N] of signed integers, power odd."""
    at = np.arange(profile.n) * power % (2 * profile.n)
    made = np.empty_like(numbers)
    made[:, at % profile.n] = np.where(at < profile.n, numbers, -numbers)
    return made


@dataclass(frozen=True, eq=False)
class SwitchKeys:
    """Keys of the turns X to X^3, X^5, X^9, ..., one for each level of a tree.

    Attributes:
        profile: their parameters.
        a_ntt, b_ntt: uint64 [levels, parts, L, N].
    """

    profile: Profile
    a_ntt: np.ndarray
    b_ntt: np.ndarray

    @property
    def levels(self) -> int:
        """Trees of up to 2^levels rows are packed with them."""
        return len(self.a_ntt)

    @classmethod
    def make(cls, secret: SecretKey, mask_seed: bytes, draws: Draws, levels: int) -> SwitchKeys:
        """The keys of a secret for trees of 2^levels rows, under the masks of the server's seed."""
        profile = secret.profile
        a_ntt = _masks(profile, mask_seed, levels)
        b_ntt = np.empty_like(a_ntt)
        for level in range(levels):
            other = turned(profile, secret.coefficients, (2 << level) + 1)
            other_values = ntt.forward(profile, lift(profile, other))
            errors = draws.gaussian(profile, a_ntt.shape[1])
            for part in range(a_ntt.shape[1]):
                source, digit = divmod(part, digit_count(profile))
                gadget = np.zeros_like(other_values)
                gadget[0, source] = pow(2, digit * digit_bits(profile), profile.primes[source])
                body = ntt.forward(profile, lift(profile, errors[part : part + 1]))
                body = product_add(profile, other_values, gadget, body)
                a = a_ntt[level, part : part + 1]
                product_add(profile, secret.values, a, body, b_ntt[level, part : part + 1])
        return cls(profile, a_ntt, b_ntt)

    def to_bytes(self) -> bytes:
        """The halves ``b``; the masks' seed is the server's own."""
        return pack_residues(self.profile, self.b_ntt.reshape(-1, *self.b_ntt.shape[2:]))

    @classmethod
    def from_bytes(cls, profile: Profile, mask_seed: bytes, data: bytes, levels: int) -> SwitchKeys:
        """The keys that :meth:`to_bytes` wrote, under the masks of the server's own seed.

        Raises:
            WireError: wrong length, or a residue that is none.
        """
        a_ntt = _masks(profile, mask_seed, levels)
        polys = unpack_residues(profile, data, levels * a_ntt.shape[1])
        return cls(profile, a_ntt, polys.reshape(a_ntt.shape))


def key_bytes(profile: Profile, levels: int) -> int:
    """Bytes of the keys on the wire."""
    return levels * profile.levels * digit_count(profile) * profile.polynomial_bytes


def _masks(profile: Profile, mask_seed: bytes, levels: int) -> np.ndarray:
    if not 0 <= levels <= profile.n.bit_length() - 1:
        raise ConfigError("levels", levels, f"a tree has 0 to {profile.n.bit_length() - 1} levels")
    parts = profile.levels * digit_count(profile)
    made = np.empty((levels, parts, profile.levels, profile.n), np.uint64)
    for level in range(levels):
        for part in range(parts):
            made[level, part] = mask(profile, mask_seed, level * parts + part, _USE)[0]
    return made
