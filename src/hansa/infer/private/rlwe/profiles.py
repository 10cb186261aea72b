"""The parameters of ring-LWE: a table, and nothing that could be chosen beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hansa.base.errors import ConfigError

SOURCE = (
    "128 bits, ternary secret, sigma 3.19: log2 q at most 53 / 107 / 214 (classical) and "
    "50 / 101 / 203 (quantum) at N = 2048 / 4096 / 8192; public lattice estimates as recorded on "
    "2026-11-28 (compare Bossuat et al., 2024, IACR ePrint 2024/463)"
)
QUANTUM_BITS = {2048: 50, 4096: 101, 8192: 203}
"""The largest log2 q with 128 bits of security against quantum computers, by N."""

AUXILIARY_PRIME = 70368743669761
"""46 bits, 1 modulo 2·8192: in which a ciphertext of 32-bit words is multiplied by a secret."""
WIDE_PRIME = 1152921504606748673
"""60 bits, the same of wider words."""


@dataclass(frozen=True)
class Profile:
    """One set of parameters.

    Attributes:
        name: in settings and on the wire.
        n: coefficients of a polynomial.
        primes: 1 modulo 2N each; their product is the modulus q.
        sigma: standard deviation of the errors.
        source: of the security estimate.
    """

    name: str
    n: int
    primes: tuple[int, ...]
    sigma: float = 3.19
    source: str = SOURCE

    @cached_property
    def q(self) -> int:
        """The modulus."""
        product = 1
        for prime in self.primes:
            product *= prime
        return product

    @property
    def levels(self) -> int:
        """Residues that a coefficient has (L)."""
        return len(self.primes)

    @property
    def prime_bits(self) -> tuple[int, ...]:
        """Bits that a residue takes on the wire, of each prime."""
        return tuple(prime.bit_length() for prime in self.primes)

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of a packed polynomial."""
        return self.n * sum(self.prime_bits) // 8


PROFILES: dict[str, Profile] = {
    one.name: one
    for one in (
        Profile("n4096", 4096, (35184371703809, 35184371884033)),
        Profile("n2048", 2048, (33538049, 33550337)),
        Profile("n8192", 8192, (1152921504606748673, 1152921504606830593)),
    )
}
"""By name; the first is the default, n2048 the fast one."""


def profile(name: str) -> Profile:
    """The profile of a name.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(name, str) or name not in PROFILES:
        raise ConfigError(
            "profile",
            name,
            "is not in the table of parameters, and no others are taken",
            f"one of {', '.join(PROFILES)}",
        )
    return PROFILES[name]
