"""Rows of learning with errors: taken out, combined by any matrix, shuffled, packed, decrypted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, WireError
from hansa.infer.private.lwe.packing import (
    combine_pack,
    levels_of,
    merge,
    pack,
    packing_bound,
    positions,
)
from hansa.infer.private.lwe.rows import Rows, biases, combine, combine_ciphers, extract
from hansa.infer.private.lwe.switch_keys import SwitchKeys, key_bytes, switch_bound, turned
from hansa.infer.private.rlwe import ciphers, noise, ntt
from hansa.infer.private.rlwe.draws import Draws
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey
from hansa.infer.private.rlwe.profiles import Profile, profile
from hansa.infer.private.rlwe.residues import product_add

SEED = b"k" * 32
PLAIN_BITS = 20


class Made:
    """A client's keys and its encrypted numbers, made once."""

    def __init__(self, name: str, levels: int, values: int = 0) -> None:
        self.ring = profile(name)
        self.draws = Draws(b"r" * 32, name)
        self.secret = SecretKey.make(self.ring, self.draws)
        self.keys = SwitchKeys.make(self.secret, SEED, self.draws, levels)
        k = -(-(values or self.ring.n) // self.ring.n)
        self.numbers = np.random.default_rng(0).integers(-64, 64, (k, self.ring.n))
        sealed = ciphers.encrypt(self.secret, self.numbers, PLAIN_BITS, self.draws)
        self.a_ntt = ciphers.masks(self.ring, sealed.mask_seed, k)
        self.b = ntt.inverse(self.ring, sealed.b_ntt)

    def decrypted(self, a_ntt: np.ndarray, b_ntt: np.ndarray, at: np.ndarray) -> np.ndarray:
        a, b = (ntt.inverse(self.ring, half.copy()) for half in (a_ntt, b_ntt))
        words = ciphers.switch(self.ring, a), ciphers.switch(self.ring, b[:, :, at])
        return ciphers.decrypt(self.secret, *words, at[None], PLAIN_BITS)[0]

    def read(self, rows: Rows) -> np.ndarray:
        """Each row by itself: the constant coefficient."""
        b_ntt = np.repeat(rows.bodies[:, :, None], self.ring.n, 2)
        zero = np.zeros(1, np.int64)
        return np.array(
            [
                self.decrypted(rows.masks_ntt[one : one + 1], b_ntt[one : one + 1], zero)[0]
                for one in range(len(rows))
            ]
        )


@pytest.fixture(scope="module", params=["n4096", "n8192"])
def made(request: pytest.FixtureRequest) -> Made:
    return Made(request.param, 4, values=2 * profile(request.param).n)


def layer(made: Made, outs: int, taps: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return (
        generator.integers(0, made.numbers.size, (outs, taps)),
        generator.integers(-127, 128, (outs, taps)),
        generator.integers(-1000, 1000, outs),
    )


def test_extracted_rows_are_the_coefficients(made: Made) -> None:
    n = made.ring.n
    places = np.array([0, 1, 5, n - 1, n, n + 77, 2 * n - 1])
    rows = extract(made.ring, made.a_ntt, made.b, places)
    assert (made.read(rows) == made.numbers.reshape(-1)[places]).all()
    order = np.array([3, 1, 0, 2, 6, 5, 4])
    assert (made.read(rows.at(order)) == made.numbers.reshape(-1)[places[order]]).all()


def test_a_row_is_what_the_literature_calls_one(made: Made) -> None:
    """b - <a, s> with the mask's coefficients turned around is the coefficient's phase."""
    ring, place = made.ring, 9
    row = extract(ring, made.a_ntt, made.b, np.array([place]))
    poly = ntt.inverse(ring, row.masks_ntt.copy())[0]
    first = ntt.inverse(ring, made.a_ntt[:1].copy())[0]
    prime = ring.primes[0]
    wanted = [int(first[0, place - j]) for j in range(place + 1)]
    wanted += [-int(first[0, ring.n + place - j]) % prime for j in range(place + 1, ring.n)]
    vector = [int(poly[0, 0])] + [-int(x) % prime for x in poly[0, :0:-1]]
    assert vector == wanted


@settings(max_examples=6, deadline=None)
@given(outs=st.integers(1, 6), taps=st.integers(1, 20), seed=st.integers(0, 1000))
def test_matrices_times_rows_are_the_integers(made: Made, outs: int, taps: int, seed: int) -> None:
    places, weights, bias = layer(made, outs, taps, seed)
    added = biases(made.ring, bias, PLAIN_BITS)
    used, at = np.unique(places, return_inverse=True)
    rows = extract(made.ring, made.a_ntt, made.b, used)
    by_rows = combine(made.ring, rows, at.reshape(places.shape), weights, added)
    by_rings = combine_ciphers(made.ring, made.a_ntt, made.b, places, weights, added)
    assert (by_rows.masks_ntt == by_rings.masks_ntt).all()
    assert (by_rows.bodies == by_rings.bodies).all()
    wanted = (made.numbers.reshape(-1)[places] * weights).sum(1) + bias
    assert (made.read(by_rows) == wanted).all()


@settings(max_examples=8, deadline=None)
@given(count=st.integers(1, 16), seed=st.integers(0, 1000))
def test_packed_rows_decrypt_at_their_positions(made: Made, count: int, seed: int) -> None:
    places, weights, bias = layer(made, count, 5, seed)
    added = biases(made.ring, bias, PLAIN_BITS)
    shuffle = np.random.default_rng(seed).permutation(count)
    rows = combine_ciphers(made.ring, made.a_ntt, made.b, places, weights, added).at(shuffle)
    wanted = (made.numbers.reshape(-1)[places] * weights).sum(1) + bias
    at = positions(made.ring, count)
    assert len(set(at)) == count
    packed = pack(made.keys, rows)
    assert (made.decrypted(*packed, at) == wanted[shuffle]).all()
    whole = combine_pack(
        made.keys, made.a_ntt, made.b, places[shuffle], weights[shuffle], added[shuffle], threads=2
    )
    assert (packed[0] == whole[0]).all()
    assert (packed[1] == whole[1]).all()


def test_packed_hidden_and_flooded_to_the_ceiling_is_exact(made: Made) -> None:
    ring, count = made.ring, 13
    places, weights, _ = layer(made, count, 784, 3)
    public = PublicKey.make(made.secret, SEED, made.draws)
    packed = combine_pack(made.keys, made.a_ntt, made.b, places, weights)
    l1, extra = int(np.abs(weights).sum(1).max()), packing_bound(ring, count)
    bits = noise.flooding_ceiling(ring, PLAIN_BITS, l1, extra=extra)
    assert noise.failure_log2(ring, PLAIN_BITS, l1, bits, extra=extra) <= -40
    assert noise.statistical_distance_log2(ring, l1, bits, extra=extra) < -20
    a, b = ciphers.rerandomise(public, *packed, bits, made.draws)
    at = positions(ring, count)
    words = ciphers.switch(ring, a), ciphers.switch(ring, b[:, :, at])
    got = ciphers.decrypt(made.secret, *words, at[None], PLAIN_BITS)[0]
    wanted = (made.numbers.reshape(-1)[places] * weights).sum(1)
    t = 1 << PLAIN_BITS
    assert (got == (wanted + t // 2) % t - t // 2).all()


def test_a_whole_ciphertext_of_rows_comes_back() -> None:
    """All of N rows; and the noise of packing is below its bound."""
    whole = Made("n4096", 12)
    n = whole.ring.n
    shuffle = np.random.default_rng(1).permutation(n)
    ones = np.ones((n, 1), np.int64)
    packed = combine_pack(whole.keys, whole.a_ntt, whole.b, shuffle[:, None], ones)
    assert (whole.decrypted(*packed, np.arange(n)) == whole.numbers[0, shuffle]).all()
    errors = _errors(whole, *packed, whole.numbers[:, shuffle])
    assert 0 < np.abs(errors).max() <= packing_bound(whole.ring, n) + noise.fresh_bound(whole.ring)


def _errors(made: Made, a_ntt: np.ndarray, b_ntt: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    ring = made.ring
    product = product_add(ring, made.secret.values, a_ntt, np.zeros_like(a_ntt))
    back, body = ntt.inverse(ring, product), ntt.inverse(ring, b_ntt.copy())
    exact = ciphers.scaled(ring, numbers, PLAIN_BITS)
    left, (p0, p1) = [], ring.primes
    for layer_, prime in enumerate(ring.primes):
        parts = [x[0, layer_].astype(object) for x in (body, back, exact)]
        left.append((parts[0] - parts[1] - parts[2]) % prime)
    whole = (left[0] * p1 * pow(p1, -1, p0) + left[1] * p0 * pow(p0, -1, p1)) % ring.q
    return np.where(whole > ring.q // 2, whole - ring.q, whole)


def test_a_switch_of_keys_turns_and_stays_below_its_bound(made: Made) -> None:
    """One merge of one ciphertext with nothing: f + f(X^g)."""
    ring = made.ring
    b_ntt = ntt.forward(ring, made.b[:1].copy())
    for level in (1, 3):
        got = merge(made.keys, np.concatenate([made.a_ntt[:1], b_ntt]), None, level)
        wanted = made.numbers[:1] + turned(ring, made.numbers[:1], (1 << level) + 1)
        errors = _errors(made, got[:1], got[1:], wanted)
        assert 0 < np.abs(errors).max() <= switch_bound(ring) + 2 * noise.fresh_bound(ring)


def test_keys_come_back_from_bytes_and_others_are_refused(made: Made) -> None:
    data = made.keys.to_bytes()
    assert len(data) == key_bytes(made.ring, 4)
    again = SwitchKeys.from_bytes(made.ring, SEED, data, 4)
    assert (again.a_ntt == made.keys.a_ntt).all()
    assert (again.b_ntt == made.keys.b_ntt).all()
    with pytest.raises(WireError, match="bytes"):
        SwitchKeys.from_bytes(made.ring, SEED, data, 3)
    with pytest.raises(WireError, match="residue"):
        SwitchKeys.from_bytes(made.ring, SEED, b"\xff" * len(data), 4)


def test_what_cannot_be_packed_is_refused_by_name(made: Made) -> None:
    small: Profile = profile("n2048")
    draws = Draws(b"s" * 32, "small")
    with pytest.raises(ConfigError, match="too small a modulus"):
        SwitchKeys.make(SecretKey.make(small, draws), SEED, draws, 1)
    with pytest.raises(ConfigError, match="levels"):
        SwitchKeys.make(made.secret, SEED, draws, 14)
    places, weights, _ = layer(made, 17, 2, 0)
    with pytest.raises(ConfigError, match="up to 16 rows"):
        combine_pack(made.keys, made.a_ntt, made.b, places, weights)
    with pytest.raises(ConfigError, match="taps"):
        combine_pack(made.keys, made.a_ntt, made.b, places[:3] + made.numbers.size, weights[:3])
    with pytest.raises(ConfigError, match="taps"):
        extract(made.ring, made.a_ntt, made.b, np.array([-1]))
    assert levels_of(1) == 0
    assert levels_of(17) == 5
