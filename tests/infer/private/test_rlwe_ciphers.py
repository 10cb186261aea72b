"""Ring-LWE: what is encrypted, summed, hidden and rounded decrypts to the integers' own sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, WireError
from hansa.infer.private.rlwe import ciphers, noise, ntt, real
from hansa.infer.private.rlwe.draws import Draws, largest_error
from hansa.infer.private.rlwe.freed_memory import keep_freed
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey
from hansa.infer.private.rlwe.profiles import (
    AUXILIARY_PRIME,
    PROFILES,
    QUANTUM_BITS,
    WIDE_PRIME,
    Profile,
    profile,
)
from hansa.infer.private.rlwe.residues import (
    constants,
    lift,
    lift_wide,
    most_bits,
    pack_numbers,
    product_add,
    scaled,
    unpack_numbers,
)
from hansa.infer.private.rlwe.spreading import spread

NAMES = list(PROFILES)
PLAIN_BITS = {"n4096": 20, "n2048": 16, "n8192": 20}


def keys(name: str, seed: int = 0) -> tuple[Profile, SecretKey, PublicKey, Draws]:
    ring, draws = profile(name), Draws(seed.to_bytes(32, "big"), "tests")
    secret = SecretKey.make(ring, draws)
    return ring, secret, PublicKey.make(secret, b"m" * 32, draws), draws


def negacyclic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The product modulo X^N + 1 of int64 polynomials whose sums fit into words."""
    total = np.zeros(len(x), np.int64)
    for at in np.flatnonzero(y):
        turned = np.roll(x, at)
        turned[:at] = -turned[:at]
        total += turned * int(y[at])
    return total


def sparse(generator: np.random.Generator, k: int, n: int, size: int) -> np.ndarray:
    """int64 [k, n] with 30 numbers that are not zero in each row."""
    made = np.zeros((k, n), np.int64)
    for row in made:
        row[generator.choice(n, 30, replace=False)] = generator.integers(-size, size + 1, 30)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_secure_as_the_table_says(name: str) -> None:
    ring = profile(name)
    assert ring.q.bit_length() <= QUANTUM_BITS[ring.n]
    for prime in (*ring.primes, AUXILIARY_PRIME, WIDE_PRIME):
        assert prime % (2 * ring.n) == 1
        assert prime < 1 << 62
        assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7, 11, 13, 17, 19, 23))
        assert pow(ntt.smallest_root(ring.n, prime), ring.n, prime) == prime - 1
    assert len(set(ring.primes)) == 2
    # a coefficient of words times a ternary secret, centred, does not wrap
    assert (1 << 31) * ring.n < AUXILIARY_PRIME // 2
    assert (1 << (most_bits(ring) - 1)) * ring.n < WIDE_PRIME // 2


@pytest.mark.parametrize("name", ["n1024", "", None, "N4096", "4096"])
def test_no_other_parameters_are_taken(name: str) -> None:
    with pytest.raises(ConfigError, match="table of parameters"):
        profile(name)


@pytest.mark.parametrize("name", NAMES)
def test_transforms_are_values_at_the_roots_and_undo_each_other(name: str) -> None:
    ring = profile(name)
    polys = Draws(b"n" * 32, "polys").uniform(ring, 3)
    before = polys.copy()
    values = ntt.forward(ring, polys.copy())
    assert (values < np.array(ring.primes, np.uint64)[:, None]).all()
    order = ntt.bit_reversal(ring.n)
    for layer, prime in enumerate(ring.primes):
        root = ntt.smallest_root(ring.n, prime)
        for j in (0, 1, ring.n // 2 + 3, ring.n - 1):
            point, value = pow(root, 2 * int(order[j]) + 1, prime), 0
            for coefficient in before[0, layer][::-1]:
                value = (value * point + int(coefficient)) % prime
            assert value == values[0, layer, j]
    assert (ntt.inverse(ring, values) == before).all()


@pytest.mark.parametrize("name", NAMES)
def test_pointwise_products_are_products_of_polynomials(name: str) -> None:
    ring, generator = profile(name), np.random.default_rng(1)
    a, b = (sparse(generator, 4, ring.n, 1 << 20) for _ in range(2))
    weights = sparse(generator, 8, ring.n, 200)
    sums = ciphers.multiply_add(
        ring,
        ciphers.to_ntt(ring, a),
        ciphers.to_ntt(ring, b),
        ciphers.to_ntt(ring, weights).reshape(2, 4, ring.levels, ring.n),
    )
    for half, total in zip((a, b), sums, strict=True):
        got = ntt.inverse(ring, total)
        for out in range(2):
            wanted = sum(negacyclic(weights[4 * out + i], half[i]) for i in range(4))
            for layer, prime in enumerate(ring.primes):
                assert (got[out, layer] == wanted % prime).all()


def test_sums_of_more_products_than_two_words_hold_are_reduced_on_the_way() -> None:
    ring = profile("n8192")
    ins = constants(ring.primes).most + 3
    full = np.array(ring.primes, np.uint64)[:, None] - np.uint64(1)
    many = np.broadcast_to(full, (ins, ring.levels, ring.n)).copy()
    total, _ = ciphers.multiply_add(ring, many, many, many[None])
    assert (total == ins).all()  # (-1)·(-1), so many times


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), ins=st.integers(1, 4), outs=st.integers(1, 3))
def test_hidden_sums_decrypt_exactly_at_the_flooding_ceiling(
    name: str, seed: int, ins: int, outs: int
) -> None:
    ring, secret, public, draws = keys(name, seed)
    generator, plain_bits = np.random.default_rng(seed), PLAIN_BITS[name]
    messages = sparse(generator, ins, ring.n, 63)
    weights = sparse(generator, outs * ins, ring.n, 7).reshape(outs, ins, ring.n)
    sealed = ciphers.encrypt(secret, messages, plain_bits, draws)
    sums = ciphers.multiply_add(
        ring,
        ciphers.masks(ring, sealed.mask_seed, ins),
        sealed.b_ntt,
        ciphers.to_ntt(ring, weights.reshape(-1, ring.n)).reshape(outs, ins, ring.levels, ring.n),
    )
    l1 = int(np.abs(weights).sum((1, 2)).max())
    bits = noise.flooding_ceiling(ring, plain_bits, l1)
    assert noise.failure_log2(ring, plain_bits, l1, bits) <= -40
    a, b = ciphers.rerandomise(public, *sums, bits, draws)
    positions = np.tile(np.arange(ring.n), (outs, 1))
    words = ciphers.switch(ring, a), ciphers.switch(ring, b)
    got = ciphers.decrypt(secret, *words, positions, plain_bits)
    for out in range(outs):
        wanted = sum(negacyclic(messages[i], weights[out, i]) for i in range(ins))
        assert (got[out] == wanted).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [26, 32])
def test_only_asked_coefficients_are_decrypted_and_wrap_modulo_t(name: str, bits: int) -> None:
    ring, secret, _, draws = keys(name)
    t = 1 << 12
    messages = np.random.default_rng(0).integers(-t // 2, t // 2, (2, ring.n))
    sealed = ciphers.encrypt(secret, messages, 12, draws)
    a_ntt = ciphers.masks(ring, sealed.mask_seed, 2)
    three = ciphers.to_ntt(ring, np.eye(1, ring.n, dtype=np.int64) * 3)
    sums = ciphers.multiply_add(ring, a_ntt[1:], sealed.b_ntt[1:], three[None])
    a, b = (ntt.inverse(ring, half) for half in sums)
    bias = np.random.default_rng(1).integers(-(1 << 40), 1 << 40, (1, ring.n))
    scaled(ring, bias, 12, b)
    positions = np.array([[5, 0, ring.n - 1, 77]])
    words = ciphers.switch(ring, a, bits), ciphers.switch(ring, b[:, :, positions[0]], bits)
    got = ciphers.decrypt(secret, *words, positions, 12, bits)
    wanted = (3 * messages[1] + bias[0])[positions[0]]
    assert (got[0] == (wanted + t // 2) % t - t // 2).all()


@pytest.mark.parametrize("name", NAMES)
def test_phases_of_words_are_exact(name: str) -> None:
    ring, secret, _, _ = keys(name)
    generator = np.random.default_rng(3)
    a = generator.integers(0, 1 << 32, (1, ring.n), dtype=np.uint32)
    a[0, :4] = [0, 1 << 31, (1 << 31) - 1, (1 << 32) - 1]
    b = generator.integers(0, 1 << 32, (1, ring.n), dtype=np.uint32)
    got = ciphers.phase(secret, a, b, np.arange(ring.n)[None])
    product = negacyclic(a[0].astype(np.int64), secret.coefficients[0].astype(np.int64))
    assert (got[0] == (b[0].astype(np.int64) - product) % (1 << 32)).all()


@pytest.mark.parametrize("name", NAMES)
def test_switching_rounds_the_quotient(name: str) -> None:
    ring = profile(name)
    polys = Draws(b"s" * 32, "switch").uniform(ring, 1)
    polys[0, :, :3] = [[0, 1, prime - 1] for prime in ring.primes]
    words = ciphers.switch(ring, polys)
    p0, p1 = ring.primes
    for j in range(300):
        r0, r1 = int(polys[0, 0, j]), int(polys[0, 1, j])
        x = (r0 * p1 * pow(p1, -1, p0) + r1 * p0 * pow(p0, -1, p1)) % ring.q
        error = (int(words[0, j]) * ring.q - (x << 32)) % (ring.q << 32)
        error = min(error, (ring.q << 32) - error)
        assert error <= ring.q // 2 + (ring.q >> 30)


@pytest.mark.parametrize("name", NAMES)
def test_more_threads_compute_the_same(name: str) -> None:
    ring, secret, public, _ = keys(name)
    messages = np.random.default_rng(0).integers(-9, 9, (5, ring.n))
    results = []
    for threads in (1, 2, 7):
        draws = Draws(b"t" * 32, "threads")
        sealed = ciphers.encrypt(secret, messages, 16, draws, threads)
        a = ciphers.masks(ring, sealed.mask_seed, 5)
        weights = np.stack([a, sealed.b_ntt, a])
        sums = ciphers.multiply_add(ring, a, sealed.b_ntt, weights, threads)
        hidden = ciphers.rerandomise(public, *sums, 20, draws, threads)
        results.append((sealed.b_ntt, *sums, *hidden))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert (one == two).all()


@pytest.mark.parametrize("name", NAMES)
def test_bytes_come_back_and_others_are_refused(name: str) -> None:
    ring, secret, public, draws = keys(name)
    polys = draws.uniform(ring, 2)
    data = ciphers.pack_residues(ring, polys)
    assert len(data) == 2 * ring.polynomial_bytes
    assert (ciphers.unpack_residues(ring, data, 2) == polys).all()
    with pytest.raises(WireError, match="bytes"):
        ciphers.unpack_residues(ring, data[:-1], 2)
    with pytest.raises(WireError, match="bytes"):
        ciphers.unpack_residues(ring, data, 1)
    with pytest.raises(WireError, match="residue"):
        ciphers.unpack_residues(ring, b"\xff" * len(data), 2)
    again = SecretKey.from_bytes(ring, secret.to_bytes())
    assert (again.values == secret.values).all()
    with pytest.raises(WireError, match="secret key"):
        SecretKey.from_bytes(ring, b"\x03" * ring.n)
    back = PublicKey.from_bytes(ring, b"m" * 32, public.to_bytes())
    assert (back.a_ntt == public.a_ntt).all()
    assert (back.b_ntt == public.b_ntt).all()


@given(bits=st.integers(1, 63), count=st.integers(0, 70), seed=st.integers(0, 99))
def test_numbers_of_any_bits_come_back(bits: int, count: int, seed: int) -> None:
    numbers = Draws(seed.to_bytes(32, "big"), "numbers").words(count) >> np.uint64(64 - bits)
    data = pack_numbers(numbers, bits)
    assert int.from_bytes(data, "little") == sum(int(x) << bits * k for k, x in enumerate(numbers))
    assert (unpack_numbers(data, count, bits) == numbers).all()
    with pytest.raises(WireError, match="bytes"):
        unpack_numbers(data + b"\0", count, bits)
    if count * bits % 8:
        with pytest.raises(WireError, match="behind the last"):
            unpack_numbers(data[:-1] + bytes([data[-1] | 128]), count, bits)


@pytest.mark.parametrize("name", ["n4096", "n2048"])
def test_float_and_integer_kernels_give_the_same_residues(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, generator = profile(name), np.random.default_rng(0)
    assert real.suits(ring.primes) == real.fuses()
    polys = Draws(b"r" * 32, "residues").uniform(ring, 4)
    polys[0, :, :4] = 0
    polys[1, :] = np.array(ring.primes, np.uint64)[:, None] - np.uint64(1)
    wide = np.array([-(1 << 63), (1 << 63) - 1, 0, -1, 1, 1 << 32, -(1 << 32)])
    numbers = np.concatenate([wide, generator.integers(-(1 << 62), 1 << 62, ring.n - 7)])[None]
    small = generator.integers(-128, 128, (4, ring.n)).astype(np.int8)
    results = []
    for suits in (real.suits, lambda _: False):
        monkeypatch.setattr(real, "suits", suits)
        flooding = Draws(b"f" * 32, "flooding").flooding(4, ring.n, 88)
        results.append(
            [
                ntt.forward(ring, polys.copy()),
                ntt.inverse(ring, polys.copy()),
                *ciphers.multiply_add(ring, polys, polys[::-1].copy(), np.stack([polys] * 2)),
                product_add(ring, polys, polys[::-1].copy(), polys),
                lift(ring, numbers),
                lift(ring, small, polys.copy()),
                lift_wide(ring, flooding, polys.copy()),
                scaled(ring, numbers, 18, polys[:1].copy()),
                *_whole_steps(name),
            ]
        )
    for one, two in zip(*results, strict=True):
        assert (one == two).all()


def _whole_steps(name: str) -> list[np.ndarray]:
    ring, secret, public, draws = keys(name)
    messages = np.random.default_rng(2).integers(-8, 8, (5, ring.n))
    sealed = ciphers.encrypt(secret, messages, 12, draws)
    a, b = ciphers.rerandomise(public, sealed.b_ntt, sealed.b_ntt, 12, draws)
    words = ciphers.switch(ring, a), ciphers.switch(ring, b)
    phases = ciphers.phase(secret, *words, np.tile(np.arange(ring.n), (5, 1)))
    return [sealed.b_ntt, a, b, phases]


def test_memory_is_kept_or_not_without_harm() -> None:
    assert keep_freed() in (True, False)


def test_masks_with_many_rejected_residues_are_the_same_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A prime just above a power of two rejects half of all words, more than there are spare."""
    odd = Profile("odd", 4096, (65537, 70368743669761))
    draws = Draws(b"o" * 32, "odd")
    secret = SecretKey.make(odd, draws)
    numbers = np.random.default_rng(0).integers(-8, 8, (6, odd.n))
    sealed = ciphers.encrypt(secret, numbers, 8, draws)
    a = ntt.inverse(odd, ciphers.masks(odd, sealed.mask_seed, 6))
    b = ntt.inverse(odd, sealed.b_ntt.copy())
    positions = np.tile(np.arange(odd.n), (6, 1))
    words = ciphers.switch(odd, a), ciphers.switch(odd, b)
    assert (ciphers.decrypt(secret, *words, positions, 8) == numbers).all()


def test_bad_input_is_refused_by_name() -> None:
    ring, secret, _, draws = keys("n2048")
    with pytest.raises(ConfigError, match="plain_bits"):
        ciphers.encrypt(secret, np.zeros((1, ring.n), np.int64), 31, draws)
    with pytest.raises(ConfigError, match="messages"):
        ciphers.encrypt(secret, np.zeros((1, 7), np.int64), 8, draws)
    with pytest.raises(ConfigError, match="messages"):
        ciphers.encrypt(secret, np.full((1, ring.n), 128), 8, draws)
    words, at = np.zeros((1, ring.n), np.uint32), np.zeros((1, 3), np.int64)
    for wrong in (at - 1, at + ring.n):
        with pytest.raises(ConfigError, match="positions"):
            ciphers.phase(secret, words, words[:, :3], wrong)
    with pytest.raises(ConfigError, match="positions"):
        ciphers.phase(secret, words, words[:, :4], at)
    with pytest.raises(ConfigError, match="a_words"):
        ciphers.phase(secret, words[:, :5], words[:, :3], at)
    with pytest.raises(ConfigError, match="seed"):
        Draws(b"short", "x")
    with pytest.raises(ConfigError, match="flooding_bits"):
        draws.flooding(1, 8, 127)
    with pytest.raises(ConfigError, match="room for noise"):
        noise.flooding_ceiling(ring, 30, 1)


def errors(secret: SecretKey, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """b - a·s of values, as centred coefficients int64 [k, N]; they have to be small."""
    ring = secret.profile
    product = ntt.inverse(ring, product_add(ring, secret.values, a, np.zeros_like(a)))
    body = ntt.inverse(ring, b.copy())
    left = []
    for layer, prime in enumerate(ring.primes):
        rest = (body[:, layer].astype(np.int64) - product[:, layer].astype(np.int64)) % prime
        left.append(np.where(rest > prime // 2, rest - prime, rest))
    assert (left[0] == left[1]).all()  # small numbers have equal residues
    return left[0]


@pytest.mark.parametrize(("name", "k"), [("n4096", 250), ("n2048", 100), ("n8192", 30)])
def test_measured_noise_stays_below_the_bound(name: str, k: int) -> None:
    """A million coefficients in the default profile."""
    ring, secret, _, draws = keys(name, 5)
    generator = np.random.default_rng(5)
    sealed = ciphers.encrypt(secret, np.zeros((k, ring.n), np.int64), 16, draws)
    a_ntt, b_ntt = ciphers.masks(ring, sealed.mask_seed, k), sealed.b_ntt
    assert np.abs(errors(secret, a_ntt, b_ntt)).max() <= largest_error(ring)
    weights = np.zeros((1, ring.n), np.int64)
    weights[0, :72] = generator.integers(-127, 128, 72)
    w_ntt, none = ciphers.to_ntt(ring, weights), np.zeros_like(a_ntt)
    noises = errors(
        secret, product_add(ring, w_ntt, a_ntt, none), product_add(ring, w_ntt, b_ntt, none)
    )
    bound = noise.residual_bound(ring, int(np.abs(weights).sum()))
    assert bound / 100 < np.abs(noises).max() <= bound


@pytest.mark.parametrize("name", NAMES)
def test_noise_of_a_public_zero_stays_below_its_bound(name: str) -> None:
    ring, secret, public, draws = keys(name, 9)
    none = np.zeros((8, ring.levels, ring.n), np.uint64)
    a, b = ciphers.rerandomise(public, none, none, 0, draws)
    noises = errors(secret, ntt.forward(ring, a), ntt.forward(ring, b))
    assert 0 < np.abs(noises).max() <= noise.zero_bound(ring) + 1


@given(bits=st.integers(1, 45), plain_bits=st.integers(4, 20), l1=st.integers(0, 1 << 20))
def test_bounds_grow_with_what_makes_noise(bits: int, plain_bits: int, l1: int) -> None:
    ring = profile("n4096")
    ceiling = noise.flooding_ceiling(ring, plain_bits, l1)
    assert ceiling >= noise.flooding_ceiling(ring, plain_bits, l1 + 1000)
    assert ceiling >= noise.flooding_ceiling(ring, plain_bits + 1, l1)
    assert noise.failure_log2(ring, plain_bits, l1, ceiling) <= -40
    assert noise.failure_log2(ring, plain_bits, l1, ceiling + 1) > -40
    distance = noise.statistical_distance_log2(ring, l1, bits)
    assert distance == pytest.approx(noise.statistical_distance_log2(ring, l1, bits + 1) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_switchs_rounding_stays_below_its_bound(name: str) -> None:
    """Of a thousand uniform halves, and the bound is no more than a tail of 10 sigma."""
    ring, secret, _, draws = keys(name, 3)
    polys = draws.uniform(ring, 8)
    words = ciphers.switch(ring, polys).astype(np.int64)
    exact = [int(x) for x in _composed(ring, polys).ravel()]
    off = [
        (int(w) * ring.q - (x << 32)) / ring.q for w, x in zip(words.ravel(), exact, strict=True)
    ]
    roundings = (np.array(off) + 0.5) % 1 - 0.5
    rolled = [
        np.concatenate(
            [roundings.reshape(8, -1)[k, ::-1][-at:], -roundings.reshape(8, -1)[k, ::-1][:-at]]
        )
        for k in range(8)
        for at in range(1, ring.n, ring.n // 128)
    ]
    sums = np.array(rolled) @ secret.coefficients[0]
    assert np.abs(sums).max() < noise.switch_bound(ring) < 11 * math.sqrt(ring.n / 12)
    assert sums.std() < math.sqrt(ring.n / 12)


def _composed(ring: Profile, polys: np.ndarray) -> np.ndarray:
    p0, p1 = ring.primes
    r0, r1 = (polys[:, layer].astype(object) for layer in range(2))
    return (r0 * p1 * pow(p1, -1, p0) + r1 * p0 * pow(p0, -1, p1)) % ring.q


def test_slices_cover_everything_once_and_errors_come_through() -> None:
    for count in range(12):
        for threads in (1, 2, 5):
            for together in (0, 1, 4):
                seen: list[int] = []
                parts: list[slice] = []

                def note(part: slice, seen: list[int] = seen, parts: list[slice] = parts) -> None:
                    seen.extend(range(part.start, part.stop))
                    parts.append(part)

                spread(note, count, threads, together)
                assert sorted(seen) == list(range(count))
                if together:
                    assert all(part.start % together == 0 for part in parts)

    def fail(part: slice) -> None:
        if part.start:
            raise ValueError("the second part")

    with pytest.raises(ValueError, match="second part"):
        spread(fail, 4, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plain_bits", [24, 30])
def test_replies_of_wider_words_are_exact(name: str, plain_bits: int) -> None:
    ring, secret, _, draws = keys(name)
    bits = noise.word_bits(ring, plain_bits)
    assert 32 < bits <= most_bits(ring)
    half = 1 << (plain_bits - 1)
    numbers = np.random.default_rng(4).integers(-half, half, (2, ring.n))
    sealed = ciphers.encrypt(secret, numbers, plain_bits, draws)
    a = ntt.inverse(ring, ciphers.masks(ring, sealed.mask_seed, 2))
    b = ntt.inverse(ring, sealed.b_ntt.copy())
    positions = np.tile(np.arange(ring.n), (2, 1))
    words = ciphers.switch(ring, a, bits), ciphers.switch(ring, b, bits)
    assert (ciphers.decrypt(secret, *words, positions, plain_bits, bits) == numbers).all()
