"""The client's secret key, and the public key with which the server hides what it computed.

The public key's mask comes from a seed that the server chose: a client that could choose it
itself, zero say, would see the server's sums bare.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hansa.base.errors import WireError
from hansa.infer.private.rlwe import ntt
from hansa.infer.private.rlwe.draws import SPARE, Draws
from hansa.infer.private.rlwe.profiles import AUXILIARY_PRIME, Profile
from hansa.infer.private.rlwe.residues import lift, pack_residues, product_add, unpack_residues
from hansa.infer.private.rlwe.spreading import spread

_PUBLIC = "public key"


def mask(profile: Profile, mask_seed: bytes, one: int, use: str = "masks") -> np.ndarray:
    """The polynomial number ``one`` of :func:`masks`, [1, L, N]."""
    return _stream(profile, mask_seed, one, use).uniform(profile, 1)


def raw_masks(profile: Profile, mask_seed: bytes, now: slice) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`masks` confines to residues: words [k, L, N] and spare ones [k, SPARE]."""
    k, size = now.stop - now.start, profile.levels * profile.n
    words, spare = np.empty((k, size), np.uint64), np.empty((k, SPARE), np.uint64)
    for one in range(k):
        stream = _stream(profile, mask_seed, now.start + one, "masks")
        stream.fill(words[one])
        stream.fill(spare[one])
    return words.reshape(k, profile.levels, profile.n), spare


def _stream(profile: Profile, mask_seed: bytes, one: int, use: str) -> Draws:
    return Draws(mask_seed, f"{use} {profile.name} {one}")


def masks(
    profile: Profile, mask_seed: bytes, k: int, use: str = "masks", threads: int = 1
) -> np.ndarray:
    """Uniform values uint64 [k, L, N] of a public seed: halves ``a`` in the NTT domain.

    Each polynomial has a stream of its own.
    """
    made = np.empty((k, profile.levels, profile.n), np.uint64)

    def work(part: slice) -> None:
        for one in range(part.start, part.stop):
            made[one] = mask(profile, mask_seed, one, use)[0]

    spread(work, k, threads)
    return made


def auxiliary(profile: Profile) -> Profile:
    """The ring of the profile over one prime, in which words are multiplied by secrets."""
    return Profile("auxiliary", profile.n, (AUXILIARY_PRIME,), profile.sigma)


@dataclass(frozen=True, eq=False, repr=False)
class SecretKey:
    """A polynomial of coefficients -1, 0, 1.

    Attributes:
        profile: its parameters.
        coefficients: int8 [1, N].
    """

    profile: Profile
    coefficients: np.ndarray

    @classmethod
    def make(cls, profile: Profile, draws: Draws) -> SecretKey:
        """A key drawn from a secret stream."""
        return cls(profile, draws.ternary(profile, 1))

    @cached_property
    def values(self) -> np.ndarray:
        """uint64 [1, L, N], in the NTT domain."""
        return ntt.forward(self.profile, lift(self.profile, self.coefficients))

    @cached_property
    def auxiliary_values(self) -> np.ndarray:
        """uint64 [1, 1, N], in the NTT domain modulo the auxiliary prime."""
        ring = auxiliary(self.profile)
        return ntt.forward(ring, lift(ring, self.coefficients))

    def to_bytes(self) -> bytes:
        """One byte a coefficient: 0, 1, 2."""
        return (self.coefficients + 1).astype(np.uint8).tobytes()

    @classmethod
    def from_bytes(cls, profile: Profile, data: bytes) -> SecretKey:
        """The key that :meth:`to_bytes` wrote.

        Raises:
            WireError: it is none of this profile.
        """
        digits = np.frombuffer(data, np.uint8)
        if digits.size != profile.n or (digits > 2).any():
            raise WireError(f"not a secret key of profile {profile.name}")
        return cls(profile, (digits.astype(np.int8) - 1).reshape(1, -1))


@dataclass(frozen=True, eq=False)
class PublicKey:
    """An encryption of zero.

    Attributes:
        profile: its parameters.
        a_ntt, b_ntt: uint64 [1, L, N].
    """

    profile: Profile
    a_ntt: np.ndarray
    b_ntt: np.ndarray

    @classmethod
    def make(cls, secret: SecretKey, mask_seed: bytes, draws: Draws) -> PublicKey:
        """The key of a secret, under the mask that the server's seed makes."""
        profile = secret.profile
        a_ntt = masks(profile, mask_seed, 1, _PUBLIC)
        error = ntt.forward(profile, lift(profile, draws.gaussian(profile, 1)))
        return cls(profile, a_ntt, product_add(profile, secret.values, a_ntt, error))

    def to_bytes(self) -> bytes:
        """The half ``b``; the mask's seed is the server's own."""
        return pack_residues(self.profile, self.b_ntt)

    @classmethod
    def from_bytes(cls, profile: Profile, mask_seed: bytes, data: bytes) -> PublicKey:
        """The key that :meth:`to_bytes` wrote, under the mask of the server's own seed.

        Raises:
            WireError: wrong length, or a residue that is none.
        """
        a_ntt = masks(profile, mask_seed, 1, _PUBLIC)
        return cls(profile, a_ntt, unpack_residues(profile, data, 1))
