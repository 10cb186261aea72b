"""Ring-LWE against known implementations, answer by answer: Microsoft SEAL, twice.

Through seal-python every residue can be seen; TenSEAL brings a SEAL of its own. Where one is
missing or cannot be imported, its tests are skipped and say why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.infer.private.rlwe import ciphers, ntt
from hansa.infer.private.rlwe.draws import Draws
from hansa.infer.private.rlwe.keys import SecretKey
from hansa.infer.private.rlwe.profiles import PROFILES, Profile, profile
from hansa.infer.private.rlwe.residues import lift

NAMES = list(PROFILES)
PLAIN_BITS = {"n4096": 20, "n2048": 16, "n8192": 20}
SPECIAL = {"n4096": 19, "n2048": 25, "n8192": 40}
"""Bits of the prime that SEAL keeps for key switching; our two are then its data's."""
CIPHER_HEADER, KEY_HEADER = 113, 88
MAGIC = b"\x5e\xa1\x10"


def oracle(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not here", exc_type=ImportError)


class Seal:
    """SEAL's BFV over our primes, with our secret."""

    def __init__(self, secret: SecretKey, plain_bits: int) -> None:
        seal = self.seal = oracle("seal")
        ring = self.ring = secret.profile
        settings = seal.EncryptionParameters(seal.scheme_type.bfv)
        settings.set_poly_modulus_degree(ring.n)
        special = seal.CoeffModulus.Create(ring.n, [SPECIAL[ring.name]])[0].value()
        if special in ring.primes:
            special = seal.CoeffModulus.Create(ring.n, [SPECIAL[ring.name]] * 3)[0].value()
        self.primes = (*ring.primes, special)
        settings.set_coeff_modulus([seal.Modulus(prime) for prime in self.primes])
        settings.set_plain_modulus(seal.Modulus(1 << plain_bits))
        # its table ends at 54 bits for N = 2048, which leaves no room for a third prime
        level = seal.sec_level_type.none if ring.n == 2048 else seal.sec_level_type.tc128
        self.context = seal.SEALContext(settings, True, level)
        assert self.context.parameters_set(), self.context.parameter_error_message()
        wide = Profile("with SEAL's own prime", ring.n, self.primes)
        values = ntt.forward(wide, lift(wide, secret.coefficients))
        template = seal.KeyGenerator(self.context).secret_key().to_string()
        assert len(template) == KEY_HEADER + values.nbytes
        self.secret = self.context.from_secret_str(template[:KEY_HEADER] + values.tobytes())
        self.encryptor = seal.Encryptor(self.context, self.secret)
        self.decryptor = seal.Decryptor(self.context, self.secret)
        self.evaluator = seal.Evaluator(self.context)
        self.plain_bits = plain_bits

    def plain(self, numbers: np.ndarray) -> Any:
        t = 1 << self.plain_bits
        terms = [f"{int(numbers[at]) % t:X}x^{at}" for at in np.flatnonzero(numbers)[::-1]]
        return self.seal.Plaintext(" + ".join(terms).replace("x^0", "") if terms else "0")

    def numbers(self, plain: Any) -> np.ndarray:
        made, t = np.zeros(self.ring.n, np.int64), 1 << self.plain_bits
        for term in plain.to_string().split(" + "):
            digits, _, at = term.partition("x^")
            made[int(at or 0)] = int(digits, 16)
        return (made + t // 2) % t - t // 2

    def encrypt(self, numbers: np.ndarray) -> Any:
        return self.encryptor.encrypt_symmetric(self.plain(numbers))

    def residues(self, cipher: Any) -> np.ndarray:
        """uint64 [2, L, N]."""
        data = np.frombuffer(cipher.to_string()[CIPHER_HEADER:], np.uint64)
        return data.reshape(2, self.ring.levels, self.ring.n).copy()

    def cipher(self, residues: np.ndarray) -> Any:
        header = self.encrypt(np.zeros(self.ring.n, np.int64)).to_string()[:CIPHER_HEADER]
        return self.context.from_cipher_str(header + residues.tobytes())

    def decrypt(self, cipher: Any) -> np.ndarray:
        return self.numbers(self.decryptor.decrypt(cipher))


def setting(name: str) -> tuple[Profile, SecretKey, Draws, Seal, np.random.Generator]:
    ring, draws = profile(name), Draws(b"o" * 32, name)
    secret = SecretKey.make(ring, draws)
    return ring, secret, draws, Seal(secret, PLAIN_BITS[name]), np.random.default_rng(1)


def negated(ring: Profile, polys: np.ndarray) -> np.ndarray:
    """Ours is b - a·s where SEAL's is c0 + c1·s."""
    primes = np.array(ring.primes, np.uint64)[:, None]
    return (primes - polys) % primes


def ours(secret: SecretKey, cipher: np.ndarray, plain_bits: int) -> np.ndarray:
    """SEAL's residues [2, L, N] decrypted by us."""
    ring = secret.profile
    a, b = negated(ring, cipher[1:]), cipher[:1]
    words = ciphers.switch(ring, np.ascontiguousarray(a)), ciphers.switch(ring, b)
    return ciphers.decrypt(secret, *words, np.arange(ring.n)[None], plain_bits)[0]


def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    full = np.convolve(x, y)
    return full[: len(x)] - np.append(full[len(x) :], 0)


@pytest.mark.parametrize("name", NAMES)
def test_transforms_are_seals_bit_for_bit(name: str) -> None:
    ring, _, draws, seal, _ = setting(name)
    polys = draws.uniform(ring, 2)
    cipher = seal.cipher(polys)
    seal.evaluator.transform_to_ntt_inplace(cipher)
    assert (seal.residues(cipher) == ntt.forward(ring, polys.copy())).all()
    seal.evaluator.transform_from_ntt_inplace(cipher)
    assert (seal.residues(cipher) == polys).all()
    assert (ntt.inverse(ring, ntt.forward(ring, polys.copy())) == polys).all()


@pytest.mark.parametrize("name", NAMES)
def test_each_side_decrypts_the_others_ciphertexts(name: str) -> None:
    ring, secret, draws, seal, generator = setting(name)
    t = 1 << PLAIN_BITS[name]
    numbers = generator.integers(-t // 2, t // 2, (1, ring.n))
    assert (
        ours(secret, seal.residues(seal.encrypt(numbers[0])), PLAIN_BITS[name]) == numbers
    ).all()
    sealed = ciphers.encrypt(secret, numbers, PLAIN_BITS[name], draws)
    a = ntt.inverse(ring, ciphers.masks(ring, sealed.mask_seed, 1))
    b = ntt.inverse(ring, sealed.b_ntt)
    assert (seal.decrypt(seal.cipher(np.concatenate([b, negated(ring, a)]))) == numbers).all()


@pytest.mark.parametrize("name", NAMES)
def test_ciphertext_times_plaintext_is_the_integers_product_on_both_sides(name: str) -> None:
    ring, secret, draws, seal, generator = setting(name)
    numbers = generator.integers(-64, 64, (1, ring.n))
    weights = np.zeros((1, ring.n), np.int64)
    weights[0, :70] = generator.integers(-8, 8, 70)
    wanted = product(numbers[0], weights[0])
    theirs = seal.evaluator.multiply_plain(seal.encrypt(numbers[0]), seal.plain(weights[0]))
    assert (seal.decrypt(theirs) == wanted).all()
    assert (ours(secret, seal.residues(theirs), PLAIN_BITS[name]) == wanted).all()
    sealed = ciphers.encrypt(secret, numbers, PLAIN_BITS[name], draws)
    a, b = ciphers.multiply_add(
        ring,
        ciphers.masks(ring, sealed.mask_seed, 1),
        sealed.b_ntt,
        ciphers.to_ntt(ring, weights)[None],
    )
    a, b = ntt.inverse(ring, a), ntt.inverse(ring, b)
    both = np.concatenate([b, negated(ring, a)])
    assert (seal.decrypt(seal.cipher(both)) == wanted).all()
    assert (ours(secret, both, PLAIN_BITS[name]) == wanted).all()


@pytest.mark.parametrize("name", NAMES)
def test_products_with_seals_ciphertext_are_residue_for_residue_seals(name: str) -> None:
    ring, _, _, seal, generator = setting(name)
    weights = generator.integers(1, 64, (1, ring.n))
    cipher = seal.encrypt(generator.integers(-64, 64, ring.n))
    values = ntt.forward(ring, seal.residues(cipher))
    a, b = ciphers.multiply_add(ring, values[1:], values[:1], ciphers.to_ntt(ring, weights)[None])
    theirs = seal.residues(seal.evaluator.multiply_plain(cipher, seal.plain(weights[0])))
    assert (ntt.inverse(ring, np.concatenate([b, a])) == theirs).all()


@pytest.mark.parametrize("name", ["n4096", "n8192"])
def test_tenseals_seal_decrypts_ours_and_multiplies_alike(name: str, tmp_path: Path) -> None:
    """The other SEAL takes what the first one wrote, once the header names its version."""
    ring, secret, draws, first, generator = setting(name)
    api = oracle("tenseal.sealapi")
    settings = api.EncryptionParameters(api.SCHEME_TYPE.BFV)
    settings.set_poly_modulus_degree(ring.n)
    settings.set_coeff_modulus([api.Modulus(prime) for prime in first.primes])
    settings.set_plain_modulus(1 << PLAIN_BITS[name])
    context = api.SEALContext(settings, True, api.SEC_LEVEL_TYPE.TC128)
    api.KeyGenerator(context).secret_key().save(str(tmp_path / "version"))
    major_minor = (tmp_path / "version").read_bytes()[3:5]

    def other(kind: Any, data: bytes) -> Any:
        parts = data.split(MAGIC)  # a header stands within the header of a key and a ciphertext
        path = tmp_path / "moved"
        path.write_bytes(MAGIC.join(parts[:1] + [major_minor + part[2:] for part in parts[1:]]))
        made = kind()
        made.load(context, str(path))
        return made

    decryptor = api.Decryptor(context, other(api.SecretKey, first.secret.to_string()))
    numbers, plain = generator.integers(-64, 64, (1, ring.n)), api.Plaintext()
    sealed = ciphers.encrypt(secret, numbers, PLAIN_BITS[name], draws)
    a = ntt.inverse(ring, ciphers.masks(ring, sealed.mask_seed, 1))
    both = np.concatenate([ntt.inverse(ring, sealed.b_ntt), negated(ring, a)])
    cipher = other(api.Ciphertext, first.cipher(both).to_string())
    decryptor.decrypt(cipher, plain)
    assert (first.numbers(plain) == numbers).all()
    weights = np.zeros(ring.n, np.int64)
    weights[:70] = generator.integers(-8, 8, 70)
    times = api.Plaintext(first.plain(weights).to_string())
    api.Evaluator(context).multiply_plain_inplace(cipher, times)
    decryptor.decrypt(cipher, plain)
    assert (first.numbers(plain) == product(numbers[0], weights)).all()
