"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), as the binary archive or as parquet from the hub."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.data.fetch import Remote, fetch, find
from hansa.data.images import decode, encoded, read_parquet, rows
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

PIXELS = 3 * 32 * 32
TEN = "airplane automobile bird cat deer dog frog horse ship truck"
FINE = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm"""


class Cifar(DataSource):
    """What the two data sets share: 60,000 colour images of 32x32 pixels."""

    folder: ClassVar[str]
    remote: ClassVar[Remote]
    label_bytes: ClassVar[int]
    label_columns: ClassVar[tuple[str, ...]]
    names: ClassVar[tuple[str, ...]]

    def files(self) -> Sequence[Path]:
        if parquet := find(self.folder, "**/train*.parquet", "**/test*.parquet"):
            return parquet
        return [fetch(self.folder, self.remote)]

    def read(self) -> RawSplits:
        files = self.files()
        if files[0].suffix == ".parquet":
            train = self._parquet([path for path in files if path.name.startswith("train")])
            test = self._parquet([path for path in files if path.name.startswith("test")])
        else:
            train, test = self._archive(files[0])
        return RawSplits(
            train,
            test,
            kind="image",
            outputs=len(self.names),
            peak=255.0,
            class_names=self.names,
        )

    def _archive(self, path: Path) -> tuple[Arrays, Arrays]:
        """Records of label byte(s), then 1024 red, green and blue bytes, row by row."""
        blobs: dict[str, bytes] = {}
        try:
            with tarfile.open(path, "r:gz") as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file and member.name.endswith(".bin"):
                        blobs[PurePosixPath(member.name).name] = file.read()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is damaged: {error}\n  fix: delete it, or replace it by a good copy"
            ) from error
        train = sorted(name for name in blobs if name.startswith(("data_batch", "train")))
        test = sorted(name for name in blobs if name.startswith("test"))
        if not train or not test:
            raise DataError(f"{path} holds no training or no test batch, only {sorted(blobs)}")
        first, second = (
            self._records(b"".join(blobs[name] for name in names), path) for names in (train, test)
        )
        return first, second

    def _records(self, blob: bytes, path: Path) -> Arrays:
        size = self.label_bytes + PIXELS
        if len(blob) % size:
            raise DataError(f"{path}: {len(blob)} bytes are no whole number of {size}-byte records")
        table = np.frombuffer(blob, np.uint8).reshape(-1, size)
        images = table[:, self.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        # CIFAR-100 puts the coarse label first; the fine one is always the last before the image.
        return Arrays(np.ascontiguousarray(images), table[:, self.label_bytes - 1].astype(np.int64))

    def _parquet(self, paths: Sequence[Path]) -> Arrays:
        images, targets = [], []
        for path in paths:
            table = read_parquet(path, self.label_columns)
            blobs = encoded(table.column(0), str(path))
            images.append(decode(blobs, "RGB", rows(len(blobs), str(path))))
            targets.append(table.column(1).to_numpy().astype(np.int64))
        return Arrays(np.concatenate(images), np.concatenate(targets))


@register(
    "cifar10", paper="Krizhevsky", year=2009, url="https://www.cs.toronto.edu/~kriz/cifar.html"
)
class Cifar10(Cifar):
    """CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels in ten classes."""

    folder = "cifar10"
    remote = Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    )
    label_bytes = 1
    label_columns = ("img", "label")
    names = tuple(TEN.split())


@register(
    "cifar100", paper="Krizhevsky", year=2009, url="https://www.cs.toronto.edu/~kriz/cifar.html"
)
class Cifar100(Cifar):
    """CIFAR-100: 50,000 + 10,000 colour images of 32x32 pixels in a hundred (fine) classes."""

    folder = "cifar100"
    remote = Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    )
    label_bytes = 2
    label_columns = ("img", "fine_label")
    names = tuple(FINE.split())
