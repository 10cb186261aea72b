"""Randomness of ring-LWE: the right distributions to the tails, and nowhere numpy's generator."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import hansa.infer.private
from hansa.infer.private.rlwe.draws import Draws, largest_error, thresholds
from hansa.infer.private.rlwe.profiles import PROFILES, profile

LEAST_P = 1e-6
"""Of a test on fixed seeds."""


def draws(seed: int = 0, label: str = "tests") -> Draws:
    return Draws(seed.to_bytes(32, "big"), label)


def test_streams_are_aes_in_counter_mode_and_do_not_depend_on_the_calls_sizes() -> None:
    one, two = draws(), draws()
    whole = one.words(30_000)
    pieces = np.concatenate([two.words(size) for size in (1, 2, 20_000, 0, 9_997)])
    assert (whole == pieces).all()
    key = one._key
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(240_000))
    assert whole.tobytes() == stream


def test_labels_and_seeds_separate_streams() -> None:
    starts = {
        one.bytes(16)
        for one in (
            draws(),
            draws(1),
            draws(0, "test"),
            draws(0, "tests "),
            draws().child("tests"),
            draws().child(b""),
            draws().child("a").child("b"),
            draws().child("ab"),
        )
    }
    assert len(starts) == 8
    used = draws()
    used.words(1000)
    assert used.child("x").bytes(16) == draws().child("x").bytes(16)


@pytest.mark.parametrize("name", list(PROFILES))
def test_residues_are_uniform(name: str) -> None:
    ring = profile(name)
    made = draws(2).uniform(ring, 40)
    for layer, prime in enumerate(ring.primes):
        residues = made[:, layer].ravel()
        assert residues.max() < prime
        counts, _ = np.histogram(residues.astype(np.float64) / prime, 256, (0, 1))
        assert stats.chisquare(counts).pvalue > LEAST_P
        assert stats.chisquare(np.bincount(residues % np.uint64(97))).pvalue > LEAST_P


def test_a_prime_far_from_a_power_of_two_is_drawn_uniformly_too() -> None:
    from hansa.infer.private.rlwe.profiles import Profile

    made = draws(3).uniform(Profile("small", 4096, (521,)), 20).ravel()  # half is rejected
    assert stats.chisquare(np.bincount(made, minlength=521)).pvalue > LEAST_P


def test_ternary_numbers_are_uniform() -> None:
    made = draws(4).ternary(profile("n8192"), 100)
    assert made.dtype == np.int8
    counts = np.bincount(made.ravel() + 1)
    assert len(counts) == 3
    assert stats.chisquare(counts).pvalue > LEAST_P


def test_errors_follow_the_discrete_gaussian_to_its_tails() -> None:
    ring = profile("n8192")
    made = draws(5).gaussian(ring, 250).ravel().astype(np.int64)  # two million
    sigma, reach = ring.sigma, np.arange(-60, 61)
    density = np.exp(-(reach**2) / (2 * sigma**2))
    density /= density.sum()
    counts = np.bincount(made + 60, minlength=121)
    wanted = density * made.size
    kept = wanted > 5
    tails = counts[~kept].sum(), wanted[~kept].sum()
    chi = ((counts[kept] - wanted[kept]) ** 2 / wanted[kept]).sum()
    chi += (tails[0] - tails[1]) ** 2 / tails[1]
    assert stats.chi2.sf(chi, kept.sum()) > LEAST_P
    assert abs(made.std() / sigma - 1) < 0.003
    for far in (10, 13, 15):  # both tails, against the density
        expected = density[np.abs(reach) >= far].sum() * made.size
        assert abs((np.abs(made) >= far).sum() - expected) < 5 * math.sqrt(expected) + 1
    assert np.abs(made).max() <= largest_error(ring)


def test_thresholds_end_where_63_bits_do() -> None:
    levels = [int(level) for level in thresholds(3.19)]
    assert levels == sorted(set(levels))
    assert 25 < len(levels) < 32
    weights = [math.exp(-(j**2) / (2 * 3.19**2)) for j in range(60)]
    total, below = weights[0] + 2 * sum(weights[1:]), 0.0
    for j, level in enumerate(levels):
        below += weights[j] * (2 if j else 1)
        assert abs(level / 2**63 - below / total) < 1e-14


@pytest.mark.parametrize("bits", [0, 1, 5, 62, 63, 64, 65, 88, 126])
def test_flooding_is_uniform_over_its_range(bits: int) -> None:
    made = draws(6).flooding(4, 4096, bits)
    numbers = [
        int(low) + (int(up) << 64) - (int(up) >> 63 << 128)
        for low, up in made.transpose(0, 2, 1).reshape(-1, 2)
    ]
    assert -(1 << bits) <= min(numbers)
    assert max(numbers) < 1 << bits
    bins = min(2 << bits, 64)
    places = np.array([((number + (1 << bits)) * bins) >> (bits + 1) for number in numbers])
    assert stats.chisquare(np.bincount(places, minlength=bins)).pvalue > LEAST_P
    assert stats.chisquare(np.bincount([number % 2 for number in numbers])).pvalue > LEAST_P


@settings(deadline=None)
@given(n=st.integers(0, 300), seed=st.integers(0, 1000))
def test_permutations_permute(n: int, seed: int) -> None:
    assert sorted(draws(seed).permutation(n)) == list(range(n))


def test_permutations_are_uniform_over_all_orders() -> None:
    stream = draws(7)
    counts = dict.fromkeys(range(24), 0)
    for _ in range(4800):
        order = stream.permutation(4)
        code = sum(int(at) * 4**k for k, at in enumerate(order))
        counts[code] = counts.get(code, 0) + 1
    seen = [count for count in counts.values() if count]
    assert len(seen) == 24
    assert stats.chisquare(seen).pvalue > LEAST_P


def test_bits_are_fair() -> None:
    made = draws(8).bits(100_001)
    assert made.shape == (100_001,)
    assert stats.chisquare(np.bincount(made)).pvalue > LEAST_P


def test_no_file_of_private_inference_draws_from_numpy_or_the_like() -> None:
    """Secrets come from the operating system through ``Draws``; compiling makes examples only."""
    forbidden = {"random", "default_rng", "RandomState", "SeedSequence", "Philox"}
    wrong = []
    for path in Path(hansa.infer.private.__file__).parent.rglob("*.py"):
        if "compiling" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Attribute):
                names = [node.attr]
            elif isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            wrong += [(path.name, node.lineno) for name in names if name in forbidden]
    assert not wrong
