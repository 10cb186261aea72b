"""Images that somebody brings to a model, as its training stored them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import pyarrow_parquet, torch
from hansa.data.images import decode, encoded, read_parquet
from hansa.data.signature import Signature
from hansa.data.sources.image_folder import SUFFIXES as IMAGES

if TYPE_CHECKING:
    from torch import Tensor

_SLACK = 1e-3


class Pixels:
    """Reads images of the size that models take, or that their training made smaller.

    Args:
        signature: says what a black and a full pixel are stored as.
    """

    def __init__(self, signature: Signature) -> None:
        self.channels, self.height, self.width = signature.spec.shape
        reading = signature.reading
        self.floor, self.peak = signature.floor, signature.peak
        self.factor, self.resize = int(reading.get("downscale", 1)), reading.get("resize", False)

    def files(self, path: Path) -> tuple[list[str], Tensor]:
        """(names, stored [m, H, W, C]) of an image, or of all images below a folder.

        Raises:
            ConfigError, DataError: there is none, or one is not what the models take.
        """
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [f for f in files if f.suffix.lower() in IMAGES and not f.name.startswith(".")]
        if not files:
            raise ConfigError("input", str(path), "holds no image", ", ".join(IMAGES))
        names = [str(file) for file in files]
        pixels = self._decoded([file.read_bytes() for file in files], names)
        return names, torch.from_numpy(pixels)

    def parquet(self, path: Path) -> np.ndarray:
        """Images [m, H, W, C] of a parquet file with a column of them, as on the Hugging Face
        hub.

        Raises:
            DataError: no column holds encoded images.
        """
        schema = pyarrow_parquet.read_schema(path)
        names = [field.name for field in schema if str(field.type).startswith("struct")]
        if not names:
            raise DataError(f"{path}: no column holds encoded images; there are {schema.names}")
        column = read_parquet(path, names[:1]).column(0).combine_chunks()
        blobs = encoded(column, f"{path}: {names[0]}")
        return self._decoded(blobs, [f"{path}:{k}" for k in range(len(blobs))])

    def arrays(self, array: np.ndarray, path: Path) -> np.ndarray:
        """An array [m, H, W(, C)] or [m, C, H, W] of any range of pixels.

        Raises:
            DataError: its range is not that of the models, and not clear.
        """
        if self.channels == 1 and array.ndim == 3:
            array = array[..., None]
        if not array.size or array.dtype.kind not in "fiub":
            return array
        last, first = array.shape[-1], array.shape[1]
        if array.ndim == 4 and first == self.channels and last != self.channels:
            array = array.transpose(0, 2, 3, 1)
        return self._ranged(self._pooled(array), array.dtype == np.uint8, path)

    def _decoded(self, blobs: Sequence[bytes], names: Sequence[str]) -> np.ndarray:
        """Images [m, H, W, C] of the models' size and range."""
        if self.channels not in (1, 3):
            problem = f"the models take {self.channels} channels"
            raise ConfigError("input", names[0], problem, ".npy")
        if not self.peak:
            problem = "holds pixels, and it is not known what training stored a full one as"
            raise ConfigError("input", names[0], problem, "an array of stored values: .npy")
        deep = self.peak > 255
        mode = "RGB" if self.channels == 3 else "I;16" if deep else "L"
        whole = (self.height * self.factor, self.width * self.factor)
        pixels = self._pooled(decode(blobs, mode, names, whole if self.resize else None))
        if pixels.shape[1:3] != (self.height, self.width):
            size = f"{pixels.shape[2]} x {pixels.shape[1]}"
            wanted = f"{self.width} x {self.height}"
            raise DataError(f"{names[0]}: is {size}, the models take {wanted} pixels")
        full = 65535 if deep else 255
        stored = pixels.astype(np.float32) * ((self.peak - self.floor) / full) + self.floor
        return stored.astype(np.float32)

    def _pooled(self, array: np.ndarray) -> np.ndarray:
        """Images [m, H, W, C] made smaller where they are as training's were before."""
        k = self.factor
        whole = (self.height * k, self.width * k)
        if k == 1 or array.ndim != 4 or array.shape[1:3] != whole:
            return array
        blocks = array.astype(np.float32).reshape(len(array), self.height, k, self.width, k, -1)
        return blocks.mean(axis=(2, 4))

    def _ranged(self, array: np.ndarray, are_bytes: bool, path: Path) -> np.ndarray:
        """Pixels on the scale that the models store, whatever numbers they were saved as."""
        low, high = float(array.min()), float(array.max())
        if not self.peak:  # nobody knows: as they are
            return array
        if are_bytes and self.peak >= 255:
            return array
        fractions = low >= -_SLACK and high <= 1 + _SLACK
        if fractions and self.peak > 1 and not (array == np.rint(array)).all():
            return array.astype(np.float32) * self.peak
        if low >= self.floor - _SLACK and high <= self.peak + _SLACK:
            return array
        if self.floor <= 0 <= low and self.peak < 255 and 16 < high <= 255:
            return array.astype(np.float32) * ((self.peak - self.floor) / 255) + self.floor
        raise DataError(
            f"{path}: pixels are {low:g} to {high:g}, the models take {self.floor:g} to "
            f"{self.peak:g}"
        )
