"""The Hugging Face library, on local folders only."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Hub

datasets = pytest.importorskip("datasets")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path / "hf"))
    datasets.disable_progress_bars()


def features() -> "datasets.Features":
    return datasets.Features(
        {
            "photo": datasets.Image(),
            "kind": datasets.ClassLabel(names=["cat", "dog", "emu"]),
            "owner": datasets.Value("string"),
        }
    )


def saved_images(place: Path) -> str:
    def part(rows: slice) -> "datasets.Dataset":
        count = len(IMAGES[rows])
        return datasets.Dataset.from_dict(
            {
                "photo": list(IMAGES[rows]),
                "kind": (np.arange(count) % 2).tolist(),
                "owner": [f"o{row % 3}" for row in range(count)],
            },
            features=features(),
        )

    both = datasets.DatasetDict({"train": part(slice(0, 8)), "test": part(slice(8, 12))})
    both.save_to_disk(str(place))
    return str(place)


def test_images_with_named_classes_and_owners(tmp_path: Path, streams: Streams) -> None:
    name = saved_images(tmp_path / "set")
    data = Hub(dataset=name, label="kind", group="owner").load(streams)
    assert data.spec.shape == (3, 8, 8)
    assert data.class_names == ("cat", "dog", "emu")
    assert data.spec.outputs == 3
    assert data.group_names == ("o0", "o1", "o2")
    assert np.array_equal(data.train.inputs.numpy(), IMAGES[:8])
    assert np.array_equal(data.test.inputs.numpy(), IMAGES[8:])


def test_numbers_from_a_folder_of_parquet(tmp_path: Path, streams: Streams) -> None:
    frame = pl.DataFrame(
        {
            "a": list(range(20)),
            "v": [[1.0, 2.0]] * 20,
            "word": ["x", "y"] * 10,
        }
    )
    (tmp_path / "set").mkdir()
    frame.write_parquet(tmp_path / "set" / "train-0.parquet")
    data = Hub(dataset=str(tmp_path / "set"), label="word", test_split=None).load(streams)
    assert data.spec.shape == (3,)
    assert data.class_names == ("x", "y")
    assert (len(data.train), len(data.test)) == (16, 4)


def test_a_folder_of_image_files(
    tmp_path: Path, streams: Streams, picture_table: Callable[..., None]
) -> None:
    from PIL import Image

    for row, pixels in enumerate(IMAGES):
        place = tmp_path / "set" / "train" / ("ant", "bee")[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(place / f"{row}.png")
    data = Hub(dataset=str(tmp_path / "set"), test_split=None).load(streams)
    assert data.spec.shape == (1, 8, 8)
    assert data.class_names == ("ant", "bee")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"label": "breed"}, "label"),
        ({"group": "town"}, "group"),
        ({"inputs": ("picture",)}, "inputs"),
        ({"inputs": ("photo", "owner")}, "inputs"),
        ({"test_split": "exam"}, "test_split"),
    ],
)
def test_wrong_settings_are_named(
    settings: dict[str, str], field: str, tmp_path: Path, streams: Streams
) -> None:
    name = saved_images(tmp_path / "set")
    with pytest.raises(ConfigError) as caught:
        Hub(**({"dataset": name, "label": "kind"} | settings)).load(streams)
    assert caught.value.field == field


def test_no_network_without_leave(streams: Streams) -> None:
    with pytest.raises(DataError, match="HANSA_OFFLINE"):
        Hub(dataset="someone/something").load(streams)


def test_an_empty_folder(tmp_path: Path, streams: Streams) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="cannot be loaded"):
        Hub(dataset=str(tmp_path / "set")).load(streams)


def test_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: Streams
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install hansa\[hub\]"):
        Hub(dataset=str(tmp_path)).load(streams)
