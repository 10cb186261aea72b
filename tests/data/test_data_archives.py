"""Archives of arrays as people have them: their names, their forms, and what is none."""

from pathlib import Path

import numpy as np
import pytest

from hansa.base.errors import ConfigError, DataError

from .tables import as_blob, load

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
NPZ = {
    "x_train": np.arange(24.0).reshape(12, 2),
    "y_train": np.arange(12) % 2,
    "x_test": np.arange(8.0).reshape(4, 2),
    "y_test": np.arange(4) % 2,
}


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainX", "trainY", "testX", "testY"),
    ],
)
def test_both_sets_in_one_archive(names: tuple[str, ...], tmp_path: Path) -> None:
    arrays = dict(zip(names, NPZ.values(), strict=True))
    arrays[names[1]] = arrays[names[1]][:, None]  # as Keras has them
    arrays[names[3]] = arrays[names[3]][:, None]
    np.savez(tmp_path / "a.npz", **arrays)
    data = load(tmp_path / "a.npz")
    assert (len(data.train), len(data.test)) == (12, 4)
    assert np.array_equal(data.test.inputs.numpy(), NPZ["x_test"])
    with pytest.raises(ConfigError, match="has a test set in it"):
        load(tmp_path / "a.npz", test_path=tmp_path / "a.npz")


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for one, two in (("X", "y"), ("data", "target"), ("images", "labels"), ("x_train", "y_train")):
        np.savez(path, **{one: NPZ["x_train"], two: NPZ["y_train"]}, other=np.zeros(3))
        data = load(path)
        assert len(data.train) + len(data.test) == 12
        assert "not used: other" in data.notes[0]
    np.savez(path, x=NPZ["x_train"], y=NPZ["y_test"])
    with pytest.raises(DataError, match="not of one length"):
        load(path)
    np.savez(path, x=NPZ["x_train"], X=NPZ["x_train"], y=NPZ["y_train"])
    with pytest.raises(DataError, match="could both be"):
        load(path)
    np.savez(path, foo=NPZ["x_train"])
    with pytest.raises(ConfigError, match="label"):
        load(path)
    np.savez(path, x=NPZ["x_train"], y=np.eye(12))
    with pytest.raises(DataError, match="instead of a row of zeros"):
        load(path)


def test_channels_first_images_are_turned(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 9)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(10) % 2)
    data = load(tmp_path / "a.npz")
    assert data.spec.shape == (3, 8, 9)
    assert "[N, C, H, W]" in data.notes[0]


@pytest.mark.parametrize(
    "names", [("x-train", "y-train"), ("train.x", "train.y"), ("train/x", "train/y")]
)
def test_names_of_arrays_with_any_mark_between(names: tuple[str, str], tmp_path: Path) -> None:
    half = dict(zip(names, (X, Y), strict=True))
    other = {name.replace("train", "test"): array[:6] for name, array in half.items()}
    np.savez(tmp_path / "t.npz", **half, **other)
    data = load(tmp_path / "t.npz")
    assert (len(data.train), len(data.test)) == (20, 6)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X + 1j, "y": Y}, "complex"),
        ({"x": np.zeros(20, [("a", "f4"), ("b", "f4")]), "y": Y}, "records"),
        ({"x": X[:0], "y": Y[:0]}, "no row"),
        ({"x": np.array([{}] * 20), "y": Y}, "Python objects"),
    ],
)
def test_arrays_that_are_no_numbers(arrays: dict, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "t.npz")


def test_what_is_no_npz_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", X)
    for blob in (b"hello", (tmp_path / "t.npy").read_bytes()):
        with pytest.raises(DataError, match="no npz file"):
            load(as_blob(blob, tmp_path / "t.npz"))
