"""idx files, made small."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data import FashionMnist, Mnist
from hansa.data.sources.mnist import FILES, read_idx


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def fill(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for start, rows in ((0, 20), (2, 10)):
        (folder / FILES[start]).write_bytes(idx(rng.integers(0, 256, (rows, 28, 28))))
        (folder / FILES[start + 1]).write_bytes(idx(np.arange(rows) % 10))


@pytest.mark.parametrize("source", [Mnist(), FashionMnist()], ids=lambda source: source.name)
def test_four_files(source: Mnist, store: Path, streams: Streams) -> None:
    fill(store / source.folder)
    data = source.load(streams)
    assert data.spec.shape == (1, 28, 28)
    assert (len(data.train), len(data.test)) == (20, 10)
    assert data.train.targets.tolist() == [*range(10)] * 2
    assert len(data.class_names) == 10


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"not gzip", "is damaged"),
        (idx(np.zeros((3, 4)))[:-12], "is damaged"),
        (gzip.compress(b"\x00\x00"), "is not an idx file"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00"), "is not an idx file"),
        (gzip.compress(gzip.decompress(idx(np.zeros((3, 4))))[:-1]), "hold 12 values but holds 11"),
    ],
    ids=[
        "no gzip",
        "cut short",
        "too short",
        "other type",
        "one value less",
    ],  # gzip has the time in it
)
def test_bad_files_are_named(blob: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(blob)
    with pytest.raises(DataError, match=f"bad.gz.*{words}"):
        read_idx(path)


def test_images_and_labels_must_agree(store: Path, streams: Streams) -> None:
    fill(store / "mnist")
    (store / "mnist" / FILES[1]).write_bytes(idx(np.arange(19) % 10))
    with pytest.raises(DataError, match="20 inputs but 19 targets"):
        Mnist().load(streams)
