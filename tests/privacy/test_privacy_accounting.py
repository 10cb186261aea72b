"""The accountant against published figures, integrals done by hand, and its own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from hansa.privacy import accounting
from hansa.privacy.accounting import ORDERS, calibrated, epsilon, gaussian, most

ORDER = np.array(ORDERS)
noises = st.floats(0.6, 8.0).map(lambda value: round(value, 2))


@pytest.mark.parametrize(
    ("noise", "epochs", "published"), [(1.12, 60, 2.92), (0.6, 30, 9.74), (1.2, 10, 1.20)]
)
def test_divergences_give_the_table_of_tensorflow_privacy(
    noise: float, epochs: int, published: float
) -> None:
    # tutorials/README.md of tensorflow/privacy: MNIST, whole batches of 256, delta 1e-5.
    # It converts by Mironov (2017), which is looser than what epsilon() does.
    steps = epochs * (60_000 // 256)
    cost = steps * gaussian(noise, 256 / 60_000)
    looser = (cost + math.log(1e5) / (ORDER - 1)).min()
    assert float(looser) == pytest.approx(published, rel=2e-3)
    assert epsilon(cost, 1e-5) < published


def test_epsilon_is_that_of_opacus_own_test() -> None:
    # opacus/tests/accountants_test.py, test_rdp_accountant; up to other orders.
    assert epsilon(2250 * gaussian(1.5, 0.04), 1e-5) == pytest.approx(7.32911117143, rel=2e-3)


def test_epsilon_is_below_the_moments_accountant_of_abadi() -> None:
    # Abadi et al. (2016), section 3.2: q = 0.01, sigma = 4, 10,000 steps: 1.26 at delta 1e-5.
    found = epsilon(10_000 * gaussian(4.0, 0.01), 1e-5)
    assert 0.9 < found < 1.26


@given(noises)
def test_without_sampling_it_is_the_gaussian_mechanism(noise: float) -> None:
    want = ORDER[:-1] / (2 * noise**2)  # Mironov (2017), corollary 3
    np.testing.assert_allclose(gaussian(noise)[:-1], want, rtol=1e-9)


@pytest.mark.parametrize(
    ("noise", "rate", "order"), [(1.0, 0.1, 4), (2.0, 0.3, 2.5), (0.8, 0.02, 3)]
)
def test_a_sampled_divergence_is_the_integral(noise: float, rate: float, order: float) -> None:
    # Mironov et al. (2019), theorem 4: the divergence of (1-q) N(0) + q N(1) from N(0).
    def inside(x: float) -> float:
        ratio = (1 - rate) + rate * math.exp((2 * x - 1) / (2 * noise**2))
        return float(norm.pdf(x, scale=noise) * ratio**order)

    want = math.log(quad(inside, -40, 40, limit=200)[0]) / (order - 1)
    place = int(np.argmin(np.abs(ORDER - order)))
    assert ORDER[place] == order
    assert gaussian(noise, rate)[place] == pytest.approx(want, rel=1e-6)


@given(noises, st.integers(1, 400))
def test_more_releases_cost_more_and_more_noise_costs_less(noise: float, times: int) -> None:
    here = epsilon(times * gaussian(noise), 1e-5)
    assert 0 < here <= epsilon((times + 1) * gaussian(noise), 1e-5)
    assert epsilon(times * gaussian(noise + 0.5), 1e-5) <= here


@given(noises, st.floats(0.5, 20.0))
def test_the_most_releases_are_the_most(noise: float, limit: float) -> None:
    one = gaussian(noise)
    times = most(one, 1e-5, limit)
    assert epsilon(times * one, 1e-5) <= limit < epsilon((times + 1) * one, 1e-5)


@pytest.mark.parametrize(("limit", "rate"), [(0.5, 0.01), (12.0, 0.25), (3.0, 1.0)])
def test_calibrated_noise_is_enough_and_hardly_more(limit: float, rate: float) -> None:
    noise = calibrated(limit, 1e-5, rate, 100)
    assert epsilon(100 * gaussian(noise, rate), 1e-5) <= limit
    assert epsilon(100 * gaussian(noise * 0.994, rate), 1e-5) > limit


def test_no_noise_is_no_guarantee_and_no_release_costs_nothing() -> None:
    assert math.isinf(epsilon(gaussian(0.0), 1e-5))
    assert epsilon(np.zeros(len(ORDERS)), 1e-5) == 0
    assert most(gaussian(0.0), 1e-5, 8.0) == 0


@given(st.floats(1e-6, 1e6), st.integers(2, 6))
def test_rounding_is_upwards(number: float, digits: int) -> None:
    found = accounting.up(number, digits)
    assert number * (1 - 1e-8) <= found <= number * (1 + 10.0 ** (1 - digits))
