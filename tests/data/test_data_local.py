"""Files of the user's own."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import File, Natural
from hansa.data.fetch import cache_folder

FRAME = pl.DataFrame(
    {
        "age": list(range(20)),
        "bmi": [x / 3 for x in range(20)],
        "sick": ["no", "yes"] * 10,
        "centre": ["Lyon"] * 12 + ["Bern"] * 8,
    }
)


def save(frame: pl.DataFrame, path: Path) -> str:
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table(kind: str, tmp_path: Path, streams: Streams) -> None:
    path = save(FRAME, tmp_path / f"t.{kind}")
    source = File(path=path, label="sick", group="centre", partition=Natural())
    data = source.load(streams)
    assert data.spec.kind == "table"
    assert data.spec.shape == (2,)
    assert data.class_names == ("no", "yes")
    assert data.group_names == ("Bern", "Lyon")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert np.bincount(data.test.targets.numpy()).tolist() == [2, 2]
    x, _ = data.gather(data.train, torch.arange(16))
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-6)
    assert len(source.divide(data, 2, streams)) == 2
    assert not cache_folder().exists()  # private data leave no copy behind


def test_a_test_file_shares_the_classes(tmp_path: Path, streams: Streams) -> None:
    path = save(FRAME, tmp_path / "a.csv")
    other = save(FRAME.filter(pl.col("sick") == "yes"), tmp_path / "b.csv")
    data = File(path=path, test_path=other, label="sick", inputs=("bmi",)).load(streams)
    assert (len(data.train), len(data.test)) == (20, 10)
    assert data.test.targets.tolist() == [1] * 10
    assert data.spec.shape == (1,)


def test_floats_are_a_regression(tmp_path: Path, streams: Streams) -> None:
    path = save(FRAME.select("age", "bmi"), tmp_path / "a.parquet")
    data = File(path=path, label="bmi").load(streams)
    assert data.spec.task == "regression"
    assert data.train.targets.dtype == torch.float32


def test_vectors_in_a_column(tmp_path: Path, streams: Streams) -> None:
    frame = pl.DataFrame({"v": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]] * 5, "label": [0, 1] * 5})
    assert File(path=save(frame, tmp_path / "a.parquet")).load(streams).spec.shape == (3,)
    ragged = pl.DataFrame({"v": [[1.0], [4.0, 5.0]] * 5, "label": [0, 1] * 5})
    with pytest.raises(DataError, match="lists of different lengths"):
        File(path=save(ragged, tmp_path / "b.parquet")).load(streams)


@pytest.mark.parametrize(
    ("shape", "kind", "form"),
    [
        ((10, 6), "table", (6,)),
        ((10, 4, 5), "image", (1, 4, 5)),
        ((10, 4, 5, 3), "image", (3, 4, 5)),
    ],
)
def test_npz(
    shape: tuple[int, ...], kind: str, form: tuple[int, ...], tmp_path: Path, streams: Streams
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, label=np.arange(10) % 2)
    data = File(path=str(tmp_path / "a.npz")).load(streams)
    assert data.spec.kind == kind
    assert data.spec.shape == form


def test_pickled_arrays_are_refused(tmp_path: Path, streams: Streams) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}, {}], dtype=object), label=np.arange(2))
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        File(path=str(tmp_path / "a.npz")).load(streams)


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_damaged_files_are_named(name: str, tmp_path: Path, streams: Streams) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=name):
        File(path=str(tmp_path / name)).load(streams)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"path": "nowhere.csv"}, "path"),
        ({"path": "conftest.py"}, "path"),
        ({"label": "height"}, "label"),
        ({"group": "town"}, "group"),
        ({"inputs": ("age", "height")}, "inputs"),
        ({"test_path": "nowhere.csv"}, "test_path"),
    ],
)
def test_wrong_settings_are_named(
    settings: dict[str, str],
    field: str,
    tmp_path: Path,
    streams: Streams,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    path = save(FRAME, tmp_path / "a.csv")
    with pytest.raises(ConfigError) as caught:
        File(**({"path": path, "label": "sick"} | settings)).load(streams)
    assert caught.value.field == field
    assert caught.value.fix


def test_text_and_gaps_are_explained(tmp_path: Path, streams: Streams) -> None:
    path = save(FRAME, tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="column 'centre' holds text") as caught:
        File(path=path, label="sick").load(streams)
    assert "one_hot" in caught.value.fix
    gaps = FRAME.with_columns(
        age=pl.when(pl.col("age") == 3).then(None).otherwise("age"),
        sick=pl.when(pl.col("age") == 4).then(None).otherwise("sick"),
    ).drop("centre")
    with pytest.raises(ConfigError, match="in 2 of 20 rows: the label 1, 'age' 1") as caught:
        File(path=save(gaps, tmp_path / "b.csv"), label="sick").load(streams)
    assert "impute" in caught.value.fix


def test_too_small_to_split(tmp_path: Path, streams: Streams) -> None:
    path = save(FRAME.head(2).drop("centre"), tmp_path / "a.csv")
    with pytest.raises(DataError, match="the test set is empty"):
        File(path=path, label="sick").load(streams)


def test_only_a_label(tmp_path: Path, streams: Streams) -> None:
    path = save(FRAME.select("sick"), tmp_path / "a.csv")
    with pytest.raises(DataError, match="no input column"):
        File(path=path, label="sick").load(streams)


def test_a_column_may_be_left_out_where_there_is_a_test_file(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("a,b,label\n" + "1,2,x\n3,4,y\n" * 4)
    source = File(path=tmp_path / "train.csv", test_path=tmp_path / "test.csv", exclude=["b"])
    assert [feature["name"] for feature in source.read().features] == ["a"]
