"""Wavelet transforms of whole rows against PyWavelets."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.codec import WaveletTransform, transform

SOME = ["haar", "sym2", "db2", "db4", "db7", "sym8", "coif3", "bior2.4", "rbio3.1", "dmey"]
MODELS = {
    89_834: 89_843,
    1_690_046: 1_690_055,
    30_242: 30_250,
    2_683_708: 2_683_718,
    206_680: 206_690,
}
"""P and P' of spec 2.2."""


def rows(n: int, size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    random = torch.Generator().manual_seed(size)
    return torch.randn(n, size, generator=random, dtype=torch.float64).to(dtype)


def by_pywt(x: torch.Tensor, wavelet: str, levels: int) -> np.ndarray:
    return np.concatenate(
        pywt.wavedec(x.numpy(), wavelet, mode="symmetric", level=levels, axis=-1), axis=-1
    )


def back_by_pywt(found: WaveletTransform, coefficients: torch.Tensor) -> np.ndarray:
    cuts = np.cumsum([found.lengths[-1], *found.lengths[::-1]])[:-1]
    parts = np.split(coefficients.numpy(), cuts, axis=-1)
    return pywt.waverec(parts, found.wavelet, mode="symmetric", axis=-1)[:, : found.size]


def agrees(size: int, wavelet: str, levels: int) -> None:
    found, x = transform(size, wavelet, levels), rows(3, size)
    coefficients = found.forward(x)
    assert coefficients.shape == (3, found.coefficients)
    np.testing.assert_allclose(coefficients.numpy(), by_pywt(x, wavelet, levels), atol=1e-10)
    np.testing.assert_allclose(
        found.inverse(coefficients).numpy(), back_by_pywt(found, coefficients), atol=1e-10
    )
    # Coefficients that are no transform of anything, as after averaging with parts of others'.
    other = rows(2, found.coefficients)
    np.testing.assert_allclose(found.inverse(other).numpy(), back_by_pywt(found, other), atol=1e-10)


@pytest.mark.parametrize("wavelet", pywt.wavelist(kind="discrete"))
def test_every_wavelet_of_pywavelets(wavelet: str) -> None:
    taps = pywt.Wavelet(wavelet).dec_len
    agrees(2 * taps + 1, wavelet, 1)
    agrees(4 * taps + 2, wavelet, 2)


@settings(max_examples=60)
@given(st.integers(2, 700), st.sampled_from(SOME), st.data())
def test_any_length_and_level(size: int, wavelet: str, data: st.DataObject) -> None:
    deepest = pywt.dwt_max_level(size, wavelet)
    if not deepest:
        with pytest.raises(ConfigError, match="too long"):
            transform(size, wavelet, 1)
        return
    agrees(size, wavelet, data.draw(st.integers(1, deepest)))


@pytest.mark.parametrize(("size", "levels"), [(7, 1), (33, 3), (33, 1), (2049, 4), (5000, 9)])
def test_short_and_odd_rows(size: int, levels: int) -> None:
    agrees(size, "sym2", levels)
    agrees(size, "haar", levels if size > 7 else 2)


@pytest.mark.parametrize("size", MODELS)
def test_the_models_of_the_published_experiments(size: int) -> None:
    found, x = WaveletTransform(size), rows(1, size)
    assert found.coefficients == MODELS[size]
    coefficients = found.forward(x)
    np.testing.assert_allclose(coefficients.numpy(), by_pywt(x, "sym2", 4), atol=1e-10)
    # PyWavelets' taps of sym2 are good to 1e-11 only.
    torch.testing.assert_close(found.inverse(coefficients), x, rtol=0, atol=1e-10)
    single = x.float()
    torch.testing.assert_close(found.forward(single).double(), coefficients, rtol=0, atol=3e-6)
    again = found.inverse(found.forward(single))
    assert again.dtype == torch.float32
    assert (again - single).abs().max() / single.abs().max() < 1e-6


def test_energy_is_kept_but_for_the_borders() -> None:
    x = rows(1, 89_834)
    ratio = WaveletTransform(89_834).forward(x).square().sum() / x.square().sum()
    assert float(ratio) == pytest.approx(1.00003, abs=1e-4)
    assert ratio > 1


def test_linear_and_each_row_alone() -> None:
    found, x, y = transform(1001, "sym2", 4), rows(3, 1001), rows(3, 1001).flip(1)
    mixed = found.forward(2 * x - 0.5 * y)
    torch.testing.assert_close(
        mixed, 2 * found.forward(x) - 0.5 * found.forward(y), rtol=0, atol=1e-12
    )
    assert torch.equal(found.forward(x)[1:2], found.forward(x[1:2]))
    assert torch.equal(found.inverse(mixed)[2:], found.inverse(mixed[2:]))


def test_threads_change_nothing() -> None:
    found, x = transform(500, "db4", 3), rows(7, 500)
    alone = found.inverse(found.forward(x))
    torch.set_num_threads(3)
    try:
        assert torch.equal(found.inverse(found.forward(x)), alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("size", "wavelet", "levels", "field"),
    [
        (33, "sym2", 4, "levels"),
        (33, "sym2", 0, "levels"),
        (33, "nothing", 1, "wavelet"),
        (33, "mexh", 1, "wavelet"),
        (5, "sym2", 1, "wavelet"),
        (1, "haar", 1, "wavelet"),
    ],
)
def test_what_cannot_be_split_is_refused(size: int, wavelet: str, levels: int, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WaveletTransform(size, wavelet, levels)
    assert caught.value.field == field
    assert caught.value.value == {"levels": levels, "wavelet": wavelet}[field]
    assert caught.value.fix
