"""FEMNIST: handwritten characters with their writers (Caldas et al. 2018, LEAF)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.base.files import lock
from hansa.data.columns import numbered, split_rows
from hansa.data.fetch import cache_folder, find, refuse_offline
from hansa.data.images import decode, encoded, read_parquet, rows
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

REPOSITORY = "flwrlabs/femnist"
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


@register("femnist", paper="Caldas et al.", year=2018, url="https://arxiv.org/abs/1812.01097")
class Femnist(DataSource):
    """Handwritten characters of 28x28 pixels in 62 classes, by some 3,600 writers.

    Read from the parquet files of flwrlabs/femnist on the Hugging Face hub. A copy that holds
    fewer characters has as many classes as its largest character says (10 for digits). A tenth
    of every writer's images is the test set; groups are the writers.
    """

    def files(self) -> Sequence[Path]:
        if not (files := find("femnist", "**/*.parquet")):
            _download()
            files = find("femnist", "**/*.parquet")
        if not files:
            raise DataError(f"the hub's {REPOSITORY} holds no parquet file; its layout has changed")
        return files

    def read(self) -> RawSplits:
        images, writers, targets = [], [], []
        for path in self.files():
            table = read_parquet(path, ("image", "writer_id", "character"))
            blobs = encoded(table.column(0), str(path))
            images.append(decode(blobs, "L", rows(len(blobs), str(path))))
            writers.append(table.column(1).to_numpy(zero_copy_only=False))
            targets.append(table.column(2).to_numpy().astype(np.int64))
        pixels, characters = np.concatenate(images), np.concatenate(targets)
        classes = int(characters.max()) + 1
        if classes > len(CHARACTERS):
            raise DataError(f"FEMNIST: character {classes - 1} is outside 0..{len(CHARACTERS) - 1}")
        groups, names = numbered(np.concatenate(writers), "FEMNIST writer_id")
        train, test = (
            Arrays(pixels[rows], characters[rows], groups[rows])
            for rows in split_rows(0.1, "femnist", groups)
        )
        return RawSplits(
            train,
            test,
            kind="image",
            peak=255.0,
            outputs=classes,
            class_names=tuple(CHARACTERS[:classes]),
            group_names=names,
        )


def _download() -> None:
    """Copy the repository's parquet files into the cache; the hub checks them itself."""
    place = cache_folder() / "femnist"
    refuse_offline("FEMNIST", "femnist", f"copy the parquet files of {REPOSITORY} there")
    try:
        import huggingface_hub
    except ImportError:
        raise DataError(
            f"FEMNIST is not on this machine, and its download needs the Hugging Face hub\n"
            f"  fix: pip install hansa[hub], or put the parquet files of {REPOSITORY} in {place}"
        ) from None
    try:
        # Under its name only when all files are there, or a half download would look complete.
        with lock(place.with_name(".femnist.lock")):
            if not place.exists():
                part = place.with_name("femnist.part")
                huggingface_hub.snapshot_download(
                    REPOSITORY, repo_type="dataset", allow_patterns="*.parquet", local_dir=part
                )
                part.rename(place)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{REPOSITORY} could not be downloaded: {error}") from error
