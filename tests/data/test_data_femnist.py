"""FEMNIST in the hub's layout, made small."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data import Femnist, Natural


@pytest.fixture
def write(picture_table: Callable[..., None]) -> Callable[[Path, int], None]:
    def make(path: Path, classes: int) -> None:
        rng = np.random.default_rng(0)
        picture_table(
            path,
            "image",
            rng.integers(0, 256, (60, 28, 28, 1)).astype(np.uint8),
            writer_id=["f10", "f2", "f9"] * 20,
            character=np.arange(60) % classes,
        )

    return make


def test_writers_are_groups_and_each_is_tested(
    store: Path, streams: Streams, write: Callable[[Path, int], None]
) -> None:
    write(store / "femnist" / "data" / "part.parquet", 10)
    source = Femnist(partition=Natural())
    data = source.load(streams)
    assert data.spec.shape == (1, 28, 28)
    assert data.spec.outputs == 10
    assert data.group_names == ("f10", "f2", "f9")
    assert data.test.groups is not None
    assert data.train.groups is not None
    assert np.bincount(data.test.groups).tolist() == [2, 2, 2]
    parts = source.divide(data, 3, streams)
    assert all(len(np.unique(data.train.groups[part])) == 1 for part in parts)


def test_letters_follow_the_digits(
    store: Path, streams: Streams, write: Callable[[Path, int], None]
) -> None:
    write(store / "femnist" / "part.parquet", 60)
    data = Femnist().load(streams)
    assert data.spec.outputs == 60
    assert data.class_names[10] == "A"
    assert data.class_names[36] == "a"


def test_offline_and_without_the_hub(monkeypatch: pytest.MonkeyPatch, streams: Streams) -> None:
    with pytest.raises(DataError, match="HANSA_OFFLINE"):
        Femnist().load(streams)
    monkeypatch.setenv("HANSA_OFFLINE", "")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"pip install hansa\[hub\]"):
        Femnist().load(streams)


def test_download_is_whole_or_absent(
    monkeypatch: pytest.MonkeyPatch, streams: Streams, write: Callable[[Path, int], None]
) -> None:
    hub = types.ModuleType("huggingface_hub")
    fail = True

    def snapshot_download(name: str, *, local_dir: Path, **_: object) -> None:
        write(local_dir / "data" / "train-0.parquet", 10)
        if fail:
            raise OSError("the line is dead")
        write(local_dir / "data" / "train-1.parquet", 10)

    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setenv("HANSA_OFFLINE", "0")
    with pytest.raises(DataError, match="could not be downloaded: the line is dead"):
        Femnist().load(streams)
    fail = False
    data = Femnist().load(streams)
    assert len(data.train) + len(data.test) == 120


@pytest.mark.data
def test_the_real_one(real: Path, streams: Streams) -> None:
    data = Femnist().load(streams)
    assert len(data.train) + len(data.test) == 5997
    assert data.spec.outputs == 10
    assert len(data.group_names) == 12
