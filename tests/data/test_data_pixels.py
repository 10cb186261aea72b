"""The same pictures in any type of number are the same model input."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Arrays, Dataset, DataSource, File, RawSplits, Torch
from hansa.data.pixels import span

TYPES = ("uint8", "int16", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64")
BYTES = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 3))


class Given(DataSource):
    """Images that a test gives."""

    raw: Any = None

    def read(self) -> RawSplits:
        return self.raw


def splits(train: np.ndarray, test: np.ndarray | None = None, **more: Any) -> RawSplits:
    two = np.arange(len(train)) % 2
    test = train if test is None else test
    return RawSplits(
        Arrays(train, two), Arrays(test, two[: len(test)]), kind="image", outputs=2, **more
    )


def shown(data: Dataset) -> torch.Tensor:
    return data.gather(data.train, torch.arange(len(data.train)))[0]


def loaded(pixels: np.ndarray, **settings: Any) -> torch.Tensor:
    return shown(Given(raw=splits(pixels), **settings).load(Streams(0)))


@pytest.mark.parametrize("normalize", ["half", "unit", "standardize", "none"])
@pytest.mark.parametrize("kind", TYPES[1:])
def test_bytes_are_bytes_in_any_type(kind: str, normalize: str) -> None:
    expected = loaded(BYTES.astype(np.uint8), normalize=normalize)
    assert torch.equal(loaded(BYTES.astype(kind), normalize=normalize), expected)


@pytest.mark.parametrize("kind", TYPES)
def test_bytes_in_files_and_torch_data_sets(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    module = types.ModuleType("my_pixels")
    monkeypatch.setitem(sys.modules, "my_pixels", module)
    if kind == "uint64":  # torch has few operations for it, so nobody's items are of it
        return
    for form in (np.uint8, np.dtype(kind)):
        pixels = BYTES.astype(form)
        np.savez(tmp_path / "a.npz", x=pixels, label=np.arange(30) % 2)
        first = shown(File(path=str(tmp_path / "a.npz")).load(Streams(0)))
        items = [(torch.from_numpy(x.transpose(2, 0, 1)), i % 2) for i, x in enumerate(pixels)]
        module.make = lambda items=items: items  # type: ignore[attr-defined]
        second = shown(Torch(dataset="my_pixels:make").load(Streams(0)))
        assert torch.equal(first, second)
        found.append(first)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("values", "black", "full"),
    [
        ([0, 1], -1, 1),  # masks
        ([0.0, 0.25, 1.0], -1, 1),
        ([-1.0, 0.5, 1.0], -1, 1),  # scaled already: left alone
        ([-1, 1], -1, 1),
        ([0, 3, 16], -1, 1),  # scikit-learn's digits
        ([0, 17, 255], -1, 1),
        ([0.0, 17.5, 255.0], -1, 1),
        ([0, 400, 65535], -1, 1),
    ],
)
def test_known_ranges_fill_the_model_s(values: list[float], black: float, full: float) -> None:
    pixels = np.resize(np.array(values), (12, 2, 2, 1))
    x = loaded(pixels)
    assert (x.min(), x.max()) == (black, full)
    assert torch.allclose(loaded(pixels, normalize="unit"), (x + 1) / 2, atol=1e-6)


def test_a_dark_picture_of_bytes_stays_dark() -> None:
    assert loaded(np.full((4, 2, 2, 1), 51, np.int64)).unique().tolist() == pytest.approx([-0.6])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 9], "whole numbers from 0 to 9"),
        ([0, 4095], "whole numbers from 0 to 4095"),
        ([-128, 127], "whole numbers from -128 to 127"),
        ([-2.1, 2.6], "fractions from -2.1 to 2.6"),
        ([0.0, 1.5], "fractions from 0 to 1.5"),
        ([0, 70000], "whole numbers from 0 to 70000"),
    ],
)
def test_what_could_be_two_ranges_is_asked(values: list[float], words: str) -> None:
    pixels = np.resize(np.array(values), (12, 2, 2, 1))
    with pytest.raises(ConfigError, match=words) as caught:
        loaded(pixels)
    assert caught.value.field == "peak"
    assert "normalize" in caught.value.fix
    assert torch.allclose(
        loaded(pixels, normalize="none").double().max(), torch.tensor(values[1]).double()
    )
    assert loaded(pixels, normalize="standardize").mean().abs() < 1e-5
    if values[0] >= 0:
        peak = 2.0 * values[1]
        assert torch.allclose(loaded(pixels, peak=peak).max(), torch.tensor(0.0))


def test_a_stated_peak_is_held_to_the_values() -> None:
    with pytest.raises(ConfigError, match="whole numbers from 0 to 255"):
        loaded(BYTES, peak=16)
    with pytest.raises(DataError, match="stated are 0 to 1"):
        Given(raw=splits(BYTES, peak=1.0)).load(Streams(0))
    table = Arrays(np.eye(2, dtype=np.float32), np.arange(2))
    raw = RawSplits(table, table, kind="table", outputs=2)
    with pytest.raises(ConfigError, match="belongs to images"):
        Given(raw=raw, peak=255).load(Streams(0))


def test_two_sets_of_two_ranges_are_refused() -> None:
    with pytest.raises(DataError, match="scale both alike"):
        Given(raw=splits(BYTES / 255, BYTES)).load(Streams(0))


def test_downscaled_bytes_keep_their_range() -> None:
    x = loaded(np.full((4, 4, 4, 1), 255, np.int64), downscale=2)
    assert x.unique().tolist() == [1.0]


@given(st.lists(st.integers(-300, 70000), min_size=1, max_size=30))
def test_a_span_does_not_depend_on_the_type(values: list[int]) -> None:
    assert span(np.array(values)) == span(np.array(values, np.float64))


def test_words_are_no_pixels() -> None:
    with pytest.raises(DataError, match="numbers are needed"):
        Given(raw=splits(np.full((4, 2, 2, 1), "a"))).load(Streams(0))
