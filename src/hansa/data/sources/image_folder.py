"""Images in folders of the user's own, one folder a class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.data.columns import Reading, assemble
from hansa.data.images import decode, usual_modes
from hansa.data.raw import RawSplits
from hansa.data.source import DataSource

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
Side = Annotated[int, Field(ge=1)]
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")


# Overrides no `files`: a user's own, perhaps private, data are never copied into the cache.
@register("image_folder")
class ImageFolder(DataSource):
    """A local folder with a folder of images for each class (PNG, JPEG, BMP, GIF, TIFF, WebP, PNM).

    ``path/train/CLASS/...`` and ``path/test/CLASS/...`` are the two sets; of ``path/CLASS/...``
    alone a part is held out. Classes are numbered in the order of their names, by number where
    all names are numbers. What is hidden or no image by its name is left out. Photographs are
    turned as their camera was held.
    """

    path: Path = Field(..., description="the folder")
    test_path: Path | None = Field(
        None, description="a folder with the test set; not set: path/test, or test_fraction"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="held out as the test set where there is none of its own"
    )
    size: tuple[Side, Side] | Side | None = Field(
        None,
        description="resize all images to a side, or to [height, width]; not set: all must be "
        "of one size",
    )
    colour: Literal["grey", "rgb"] | None = Field(
        None, description="convert all images; not set: all must be grey, or all in colour"
    )

    def interface(self) -> dict[str, Any]:
        return super().interface() | {"resize": self.size is not None}

    def read(self) -> RawSplits:
        first, second, notes = self._folders()
        groups = [_classes(folder) for folder in (first, second) if folder is not None]
        names = sorted(groups[0], key=_natural)
        if len(names) == 1 and names[0]:
            problem = f"{first} has one folder only, {names[0]}, and a folder is a class"
            inner = first / names[0]
            fix = f"path: {inner}" if any(p.is_dir() for p in inner.iterdir()) else "a second class"
            raise ConfigError("path", str(self.path), problem, fix)
        notes += _nested(first, groups[0])
        if second is not None and (more := [name for name in groups[1] if name not in names]):
            raise ConfigError(
                "test_path", str(second), f"has a class that {first} lacks: {more[0]}", "the same"
            )
        files, targets, sizes = [], [], []
        for images in groups:
            for k, name in enumerate(names):
                files += images.get(name, [])
                targets += [k] * len(images.get(name, []))
            sizes.append(len(files))
        odd = [str(path) for group in groups for path in group.get("", [])]
        if odd:
            raise DataError(f"{odd[0]} lies beside the classes; put it into the folder of one")
        blobs, where = [_bytes(path) for path in files], [str(path) for path in files]
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        fix = "; size: 64 makes them so (a side, or [height, width])"
        pixels = decode(blobs, self._mode(blobs, where), where, size, fix)
        return assemble(
            pixels,
            np.array(targets, np.int64),
            None,
            where=str(self.path),
            first_test_row=sizes[0] if len(sizes) > 1 else None,
            reading=Reading(test_fraction=self.test_fraction),
            class_names=tuple(names),
            notes=notes,
        )

    def _folders(self) -> tuple[Path, Path | None, list[str]]:
        """The folder of the training classes, that of the test classes, and remarks."""
        for field, path in (("path", self.path), ("test_path", self.test_path)):
            if path is not None and not path.is_dir():
                raise ConfigError(field, str(path), "there is no such folder", "give its path")
        inside = {p.name.casefold(): p for p in sorted(self.path.iterdir()) if p.is_dir()}
        train = next((inside[name] for name in TRAIN if name in inside), None)
        # A class may bear such a name; then it has images in it and no classes.
        if train is None or not any(p.is_dir() for p in train.iterdir()):
            return self.path, self.test_path, []
        held = [inside[name] for name in TEST if name in inside]
        test = self.test_path or (held[0] if held else None)
        used = {train, test}
        unused = [p.name for p in inside.values() if p not in used]
        notes = [f"{self.path}: {', '.join(unused)} was not used"] if unused else []
        if test is not None and test.name.casefold().startswith("val"):
            notes.append(f"{test} is the test set, as there is no folder named test")
        return train, test, notes

    def _mode(self, blobs: Sequence[bytes], where: Sequence[str]) -> str:
        """The Pillow mode that all images are converted to.

        Raises:
            ConfigError: they are of several modes and no setting says which is meant.
        """
        if self.colour is not None:
            return {"grey": "L", "rgb": "RGB"}[self.colour]
        modes = usual_modes(blobs, where)
        if len(modes) > 1:
            said = {"L": "grey", "RGB": "in colour", "I;16": "grey of 16 bits"}
            shown = " and ".join(f"{said[mode]} ({where[row]})" for mode, row in modes.items())
            raise ConfigError("colour", None, f"images are {shown}", "colour: grey, or colour: rgb")
        return next(iter(modes))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Images of each class, sorted; those beside the classes under the empty name.

    Raises:
        DataError: there is no class, or one without images.
    """
    images: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if _is_image(p)]
            if not inside and path.name.startswith(("_", "@", "$")):  # of a system, not a person
                continue
            if not inside:
                raise DataError(
                    f"{path} holds no image ({', '.join(SUFFIXES)}); put some in, or take the "
                    "folder away"
                )
            images[path.name] = inside
        elif _is_image(path):
            images.setdefault("", []).append(path)
    if not set(images) - {""}:
        raise DataError(f"{folder} has no folders of classes; put each class's images into one")
    return images


def _nested(folder: Path, classes: dict[str, list[Path]]) -> list[str]:
    """A remark where images lie deeper than a class: maybe the class is meant deeper too."""
    for name, files in classes.items():
        if name and all(path.parent != folder / name for path in files):
            place = files[0].parent
            return [f"{place} and folders beside it were taken as parts of one class, {name}"]
    return []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by their value and before words."""
    return (0, int(name), name) if re.fullmatch(r"\d{1,15}", name) else (1, 0, name)
