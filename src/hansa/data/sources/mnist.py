"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017) as gzipped idx files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.data.fetch import Remote, fetch
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class Idx(DataSource):
    """What the two data sets share: 60,000 + 10,000 grey images of 28x28 pixels."""

    folder: ClassVar[str]
    remotes: ClassVar[tuple[Remote, ...]]
    names: ClassVar[tuple[str, ...]]

    def files(self) -> Sequence[Path]:
        return [fetch(self.folder, remote) for remote in self.remotes]

    def read(self) -> RawSplits:
        train, train_labels, test, test_labels = (read_idx(path) for path in self.files())
        return RawSplits(
            Arrays(train[..., None], train_labels.astype(np.int64)),
            Arrays(test[..., None], test_labels.astype(np.int64)),
            kind="image",
            peak=255.0,
            outputs=len(self.names),
            class_names=self.names,
        )


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of a gzipped idx file (magic 0 0 8 rank, then big-endian sizes).

    Raises:
        DataError: the file is damaged, cut short or of another type. Names the file.
    """
    try:
        with gzip.open(path) as file:
            blob = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}\n  fix: replace it by a good copy") from error
    if len(blob) < 4 or blob[:3] != b"\x00\x00\x08" or len(blob) < 4 + 4 * blob[3]:
        raise DataError(f"{path} is not an idx file of bytes (it starts with {blob[:4].hex()})")
    shape = struct.unpack(f">{blob[3]}I", blob[4 : 4 + 4 * blob[3]])
    body = np.frombuffer(blob, np.uint8, offset=4 + 4 * blob[3])
    if len(body) != math.prod(shape):
        raise DataError(f"{path} should hold {math.prod(shape)} values but holds {len(body)}")
    return body.reshape(shape)


def _remotes(place: str, digests: Sequence[str]) -> tuple[Remote, ...]:
    return tuple(Remote(f"{place}/{file}", sha) for file, sha in zip(FILES, digests, strict=True))


@register("mnist", paper="LeCun et al.", year=1998, url="https://doi.org/10.1109/5.726791")
class Mnist(Idx):
    """MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels."""

    folder = "mnist"
    remotes = _remotes(
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    )
    names = tuple(str(digit) for digit in range(10))


@register("fashion_mnist", paper="Xiao et al.", year=2017, url="https://arxiv.org/abs/1708.07747")
class FashionMnist(Idx):
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothing of 28x28 pixels in ten classes."""

    folder = "fashion_mnist"
    remotes = _remotes(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    )
    names = (
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
