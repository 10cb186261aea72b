"""Worst-case bounds of what can go wrong, from the parameters alone: no meter at run time.

Every draw of the errors is bounded (``draws.largest_error``), so that bounds on errors hold
always; only the rounding of the switch to words has a probability, and flooding a distance.
Quantities are in units of a coefficient modulo q unless they say words (2^bits / q of them).
"""

from __future__ import annotations

import math

from hansa.base.errors import ConfigError
from hansa.infer.private.rlwe.draws import largest_error
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.residues import WORD_BITS, check_plain_bits, most_bits

FAILURE_LOG2 = -40
"""An inference fails with no larger probability, whatever its size."""
WIDEST_IN_WORDS = 22
"""Bits of messages for which words of 32 bits do, at N = 4096."""
COEFFICIENTS_LOG2 = 24
"""So many decrypted coefficients that probability is for."""


def fresh_bound(profile: Profile) -> int:
    """Of a fresh ciphertext: its error, and the rounding of q·m / t (taken as 1)."""
    return largest_error(profile) + 1


def zero_bound(profile: Profile) -> int:
    """Of a public encryption of zero: u·e + e0 - e1·s, ternary u and s."""
    return largest_error(profile) * (2 * profile.n + 1)


def residual_bound(profile: Profile, l1: int, extra: int = 0) -> int:
    """Of a weighted sum: ``l1`` is the sum of the sizes of an output's weights.

    ``extra`` is what else was added before hiding: by packing rows (``packing_bound``).

    What tells of the weights and flooding has to drown. Products that wrap modulo t add nothing:
    the rounding is of q·m / t (see ``residues.scaled``). One more is a bias's rounding.
    """
    return l1 * fresh_bound(profile) + 1 + extra


def switch_bound(profile: Profile, coefficients_log2: float = COEFFICIENTS_LOG2) -> float:
    """In words: what rounding both halves moves a coefficient by, but with 2^-40 for all of them.

    The roundings of ``a`` meet a ternary secret; of a hidden ciphertext they are independent of
    it and uniform in ±1/2, whose sums have tails no heavier than a normal distribution's of the
    same variance, 1/12 each: sinh(x/2) / (x/2) <= exp(x²/24) (Chernoff's bound).
    """
    wanted = (coefficients_log2 - FAILURE_LOG2 + 1) * math.log(2)
    return 1 + math.sqrt(profile.n * wanted / 6)


def word_bits(profile: Profile, plain_bits: int) -> int:
    """Bits of a reply's words: 32, or more where that leaves messages no room beside rounding."""
    if plain_bits <= WIDEST_IN_WORDS:
        return WORD_BITS
    return min(plain_bits + 11, most_bits(profile))


def flooding_ceiling(
    profile: Profile,
    plain_bits: int,
    l1: int,
    bits: int = WORD_BITS,
    coefficients_log2: float = COEFFICIENTS_LOG2,
    extra: int = 0,
) -> int:
    """The most bits of flooding with which every answer decrypts, but with 2^-40.

    Raises:
        ConfigError: not even without any.
    """
    left = _left(profile, plain_bits, l1, 0, extra) - _of_words(
        profile, switch_bound(profile, coefficients_log2), bits
    )
    if left < 1:
        raise ConfigError(
            "plain_bits",
            plain_bits,
            f"leaves no room for noise in profile {profile.name} at weights of size {l1}",
            "fewer bits, or a larger profile",
        )
    return left.bit_length() - 1


def failure_log2(
    profile: Profile,
    plain_bits: int,
    l1: int,
    flooding_bits: int,
    bits: int = WORD_BITS,
    coefficients_log2: float = COEFFICIENTS_LOG2,
    extra: int = 0,
) -> float:
    """log2 of the probability that any of 2^coefficients_log2 answers decrypts wrongly."""
    left = _left(profile, plain_bits, l1, 1 << flooding_bits, extra) / _of_words(profile, 1, bits)
    room = left - 1
    if room <= 0:
        return 0.0
    each = 1 - 6 * room * room / profile.n / math.log(2)
    return min(0.0, each + coefficients_log2)


def statistical_distance_log2(
    profile: Profile, l1: int, flooding_bits: int, extra: int = 0
) -> float:
    """log2 of the distance, a coefficient, of flooded errors from errors that tell nothing.

    Two uniform draws of a range 2^(bits+1), one shifted by d, differ with d / 2^(bits+1); the
    errors of two layers differ by twice the bound. For honest noise only: a client may make its
    own noise as large as it likes.
    """
    shift = 2 * residual_bound(profile, l1, extra)
    return math.log2(shift) - (flooding_bits + 1)


def _left(profile: Profile, plain_bits: int, l1: int, flooding: int, extra: int) -> int:
    check_plain_bits(plain_bits)
    half = profile.q >> (plain_bits + 1)
    return half - 1 - residual_bound(profile, l1, extra) - zero_bound(profile) - flooding


def _of_words(profile: Profile, words: float, bits: int) -> int:
    return math.ceil(words * 1024) * profile.q >> (10 + bits)
