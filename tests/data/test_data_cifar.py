"""Both layouts of CIFAR, made small."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data import Cifar10, Cifar100

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(12) % 10


def records(rows: slice, coarse: bool = False) -> bytes:
    planes = IMAGES[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
    columns = [LABELS[rows, None].astype(np.uint8), planes]
    return (
        np.hstack([np.full((len(planes), 1), 19, np.uint8), *columns] if coarse else columns)
        .astype(np.uint8)
        .tobytes()
    )


def pack(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, blob in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))


def archive10(store: Path, **changes: bytes) -> Path:
    path = store / "cifar10" / "cifar-10-binary.tar.gz"
    members = {
        "data_batch_1": records(slice(0, 4)),
        "data_batch_2": records(slice(4, 8)),
        "test_batch": records(slice(8, 12)),
    }
    members = {f"cifar-10-batches-bin/{k}.bin": v for k, v in (members | changes).items()}
    pack(path, members | {"cifar-10-batches-bin/readme.html": b"<html>"})
    return path


def test_binary_archive(store: Path, streams: Streams) -> None:
    archive10(store)
    data = Cifar10(normalize="none").load(streams)
    assert data.spec.shape == (3, 32, 32)
    assert data.class_names[3] == "cat"
    x, y = data.gather(data.train, torch.arange(8))
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), IMAGES[:8])
    assert y.tolist() == LABELS[:8].tolist()
    assert np.array_equal(data.test.inputs.numpy(), IMAGES[8:])


def test_cifar100_takes_the_fine_label(store: Path, streams: Streams) -> None:
    pack(
        store / "cifar100" / "cifar-100-binary.tar.gz",
        {
            "cifar-100-binary/train.bin": records(slice(0, 8), coarse=True),
            "cifar-100-binary/test.bin": records(slice(8, 12), coarse=True),
        },
    )
    data = Cifar100().load(streams)
    assert data.spec.outputs == 100
    assert data.train.targets.tolist() == LABELS[:8].tolist()
    assert len(set(data.class_names)) == 100
    assert list(data.class_names) == sorted(data.class_names)


@pytest.mark.parametrize("style", ["PNG", "JPEG"])
def test_parquet_of_the_hub(
    style: str, store: Path, streams: Streams, picture_table: Callable[..., None]
) -> None:
    for name, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
        picture_table(
            store / "cifar10" / "plain_text" / f"{name}-00000-of-00001.parquet",
            "img",
            IMAGES[rows] // 8 * 8,
            style,
            label=LABELS[rows],
        )
    data = Cifar10().load(streams)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.train.targets.tolist() == LABELS[:8].tolist()
    if style == "PNG":
        assert np.array_equal(data.train.inputs.numpy(), IMAGES[:8] // 8 * 8)


def test_cut_archive_is_named_and_refused(store: Path, streams: Streams) -> None:
    path = archive10(store)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz is damaged"):
        Cifar10().load(streams)
    path.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz is damaged"):
        Cifar10().load(streams)


def test_cut_batch_is_refused(store: Path, streams: Streams) -> None:
    archive10(store, data_batch_2=records(slice(4, 8))[:-1])
    with pytest.raises(DataError, match="no whole number of 3073-byte records"):
        Cifar10().load(streams)


def test_missing_batches_are_refused(store: Path, streams: Streams) -> None:
    pack(store / "cifar10" / "cifar-10-binary.tar.gz", {"x/data_batch_1.bin": records(slice(0, 4))})
    with pytest.raises(DataError, match="no test batch"):
        Cifar10().load(streams)


def test_wrong_label_is_refused(store: Path, streams: Streams) -> None:
    blob = bytearray(records(slice(8, 12)))
    blob[0] = 77
    archive10(store, test_batch=bytes(blob))
    with pytest.raises(DataError, match=r"cifar10: the test set: class 77 is outside 0..9"):
        Cifar10().load(streams)


def test_damaged_parquet_and_image(
    store: Path, streams: Streams, picture_table: Callable[..., None]
) -> None:
    train, test = (store / "cifar10" / f"{name}.parquet" for name in ("train", "test"))
    for path in (train, test):
        picture_table(path, "img", IMAGES, label=LABELS)
    whole = train.read_bytes()
    train.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"train.parquet cannot be read"):
        Cifar10().load(streams)
    spoilt = bytearray(whole)
    at = spoilt.index(b"\x89PNG", spoilt.index(b"\x89PNG") + 8)
    spoilt[at : at + 8] = b"nonsense"
    train.write_bytes(bytes(spoilt))
    with pytest.raises(DataError, match=r"train.parquet: the image in row \d+ is damaged"):
        Cifar10().load(streams)
    picture_table(train, "image", IMAGES, label=LABELS)
    with pytest.raises(DataError, match=r"no column 'img'; it has image, label"):
        Cifar10().load(streams)


def test_images_of_two_sizes(
    store: Path, streams: Streams, tmp_path: Path, picture_table: Callable[..., None]
) -> None:
    import pyarrow.parquet as pq

    from hansa.data.images import decode, rows

    picture_table(tmp_path / "a.parquet", "img", IMAGES[:2], label=[0, 1])
    picture_table(tmp_path / "b.parquet", "img", IMAGES[:2, :16], label=[0, 1])
    blobs = [
        item["bytes"]
        for name in "ab"
        for item in pq.read_table(tmp_path / f"{name}.parquet").column("img").to_pylist()
    ]
    with pytest.raises(DataError, match=r"row 2 is 16 x 32, .*row 0 32 x 32 pixels"):
        decode(blobs, "RGB", rows(len(blobs), "there"))


def test_a_replaced_file_is_decoded_anew(store: Path, streams: Streams) -> None:
    archive10(store)
    assert len(Cifar10().load(streams).test) == 4
    archive10(store, test_batch=records(slice(9, 12)))
    assert len(Cifar10().load(streams).test) == 3


def test_offline_without_files(streams: Streams) -> None:
    with pytest.raises(DataError, match=r"HANSA_OFFLINE(.|\n)*cs.toronto.edu"):
        Cifar10().load(streams)


@pytest.mark.data
def test_the_real_one(real: Path, streams: Streams) -> None:
    data = Cifar10(test_samples=1000, validation=0.1).load(streams)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (45_000, 5_000, 1000)
    counts = np.bincount(data.train.targets.numpy()) + np.bincount(data.validation.targets.numpy())
    assert counts.tolist() == [5000] * 10
