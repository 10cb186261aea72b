"""Folders of images, one a class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Dataset, ImageFolder

GREY = np.random.default_rng(0).integers(0, 256, (6, 8, 10)).astype(np.uint8)


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def load(path: Path, **settings: object) -> Dataset:
    return ImageFolder(path=path, **settings).load(Streams(0))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for kind, name in enumerate(("10", "9")):
        for row in range(5):
            put(tmp_path / name / f"{row}.png", GREY[row] // (kind + 1))
    return tmp_path


def test_classes_in_the_order_of_their_numbers(place: Path) -> None:
    (place / ".DS_Store").write_text("x")
    (place / "9" / "notes.txt").write_text("x")
    data = load(place)
    assert data.class_names == ("9", "10")
    assert data.spec.shape == (1, 8, 10)
    assert (len(data.train), len(data.test)) == (8, 2)
    stored = np.concatenate([data.train.inputs.numpy(), data.test.inputs.numpy()])
    targets = np.concatenate([data.train.targets.numpy(), data.test.targets.numpy()])
    for row in range(5):
        for kind, pixels in ((1, GREY[row]), (0, GREY[row] // 2)):
            fits = (stored[..., 0] == pixels).all((1, 2)) & (targets == kind)
            assert fits.sum() == 1


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "VAL")])
def test_two_sets(train: str, test: str, tmp_path: Path) -> None:
    for part, rows in ((train, range(4)), (test, range(4, 6))):
        for row in rows:
            put(tmp_path / part / "ab"[row % 2] / f"{row}.bmp", GREY[row])
    put(tmp_path / "extra" / "a" / "0.png", GREY[0])
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert np.array_equal(data.test.inputs.numpy()[..., 0], GREY[4:])
    assert any("extra was not used" in note for note in data.notes)
    assert len(load(tmp_path / train, test_path=tmp_path / test).test) == 2


def test_mixed_sizes_are_refused_or_resized(place: Path) -> None:
    put(place / "9" / "z.png", np.full((4, 4), 200, np.uint8))
    with pytest.raises(DataError, match=r"z\.png is 4 x 4.*\.png 8 x 10 pixels"):
        load(place)
    data = load(place, size=(6, 5))
    assert data.spec.shape == (1, 6, 5)
    assert load(place, size=4).spec.shape == (1, 4, 4)


def test_mixed_colours_are_refused_or_converted(place: Path) -> None:
    put(place / "9" / "z.png", np.full((8, 10, 3), 200, np.uint8))
    with pytest.raises(ConfigError, match=r"grey .*0\.png.* in colour .*z\.png") as caught:
        load(place)
    assert caught.value.field == "colour"
    assert load(place, colour="rgb").spec.shape == (3, 8, 10)
    assert load(place, colour="grey").spec.shape == (1, 8, 10)


def test_images_of_16_bits_keep_them(tmp_path: Path) -> None:
    deep = np.array([[0, 65535], [256, 20000]], np.uint16)
    for row in range(6):
        put(tmp_path / "ab"[row % 2] / f"{row}.png", deep)
    assert np.array_equal(load(tmp_path).train.inputs.numpy()[0, ..., 0], deep)
    eight = load(tmp_path, colour="grey").train.inputs.numpy()[0, ..., 0]
    assert np.array_equal(eight, deep >> 8)


def test_what_cannot_be_used_is_named(place: Path) -> None:
    (place / "9" / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.jpg is damaged"):
        load(place)
    (place / "9" / "bad.jpg").unlink()
    whole = (place / "9" / "0.png").read_bytes()
    (place / "9" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"0\.png is damaged"):
        load(place)
    (place / "9" / "0.png").write_bytes(whole)
    put(place / "loose.png", GREY[0])
    with pytest.raises(DataError, match=r"loose\.png lies beside the classes"):
        load(place)
    (place / "loose.png").unlink()
    (place / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image"):
        load(place)
    with pytest.raises(DataError, match="no folders of classes"):
        load(place / "9")
    with pytest.raises(ConfigError, match="there is no such folder"):
        load(place / "nowhere")


def test_a_class_of_the_test_set_alone(tmp_path: Path) -> None:
    for part, names in (("train", "ab"), ("test", "abc")):
        for name in names:
            put(tmp_path / part / name / "0.png", GREY[0])
    with pytest.raises(ConfigError, match=r"has a class that .* lacks: c"):
        load(tmp_path)


def test_photographs_are_turned_as_their_camera_was_held(place: Path) -> None:
    upright = load(place, colour="grey")
    for name in ("10", "9"):
        for row in range(5):
            path = place / name / f"{row}.png"
            with Image.open(path) as image:
                turned = image.transpose(Image.Transpose.ROTATE_90)
            exif = Image.Exif()
            exif[0x0112] = 6  # shown rightly when turned by a quarter
            turned.save(path, exif=exif.tobytes())
    assert np.array_equal(load(place).train.inputs, upright.train.inputs)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        for row in range(5):
            put(tmp_path / name / f"{row}.png", GREY[row])
    assert load(tmp_path).class_names == ("bus", "train")


def test_one_folder_around_the_classes_is_named(place: Path) -> None:
    inner = place / "photos"
    inner.mkdir()
    for name in ("10", "9"):
        (place / name).rename(inner / name)
    with pytest.raises(ConfigError, match="one folder only, photos") as found:
        load(place)
    assert found.value.fix == f"path: {inner}"


def test_folders_of_systems_are_no_classes_and_deeper_folders_are_remarked(place: Path) -> None:
    (place / "__MACOSX" / "9").mkdir(parents=True)
    (place / "__pycache__").mkdir()
    assert load(place).class_names == ("9", "10")
    (place / "9" / "deep").mkdir()
    for path in (place / "9").glob("*.png"):
        path.rename(place / "9" / "deep" / path.name)
    assert any("parts of one class, 9" in note for note in load(place).notes)


def test_what_is_wrong_with_images_is_said_in_words(place: Path) -> None:
    put(place / "9" / "7.png", GREY[0][:4])
    with pytest.raises(DataError, match="size: 64"):
        load(place)
    (place / "9" / "7.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"it is empty, or no image$"):
        load(place)
