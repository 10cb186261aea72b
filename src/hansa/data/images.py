"""Encoded images (PNG, JPEG) from parquet files in the layout of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import DataError
from hansa.base.threads import cores

_DEEP = ("I;16", "I;16B", "I;16L", "I")
_DAMAGED = (OSError, ValueError, SyntaxError)  # what Pillow raises on bad bytes
_BILINEAR = 2  # Pillow's number; it averages where it makes smaller


def read_parquet(path: Path, columns: Sequence[str]) -> Any:
    """Some columns of a parquet file as a pyarrow table.

    Raises:
        DataError: the file is damaged or lacks a column. Names the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        existing = pq.read_schema(path).names
        missing = [name for name in columns if name not in existing]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(existing)}")
        return pq.read_table(path, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {error}\n  fix: replace it by a good copy, or delete it"
        ) from error


def encoded(column: Any, where: str) -> list[bytes]:
    """The bytes of every image of a column of ``{bytes, path}`` structs.

    Raises:
        DataError: the column has another form, or an image is missing.
    """
    import pyarrow as pa

    if not pa.types.is_struct(column.type) or "bytes" not in {f.name for f in column.type}:
        raise DataError(f"{where}: images must be structs with a 'bytes' field, not {column.type}")
    blobs: list[bytes] = []
    for item in column.to_pylist():
        blob = item and item["bytes"]
        if blob is None and item and item.get("path"):
            blob = _file(item["path"], where)  # local folders of images come as paths
        if blob is None:
            raise DataError(f"{where}: row {len(blobs)} has no image")
        blobs.append(blob)
    return blobs


def _file(path: str, where: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{where}: an image cannot be read: {error}") from error


def usual_modes(blobs: Sequence[bytes], where: Sequence[str]) -> dict[str, int]:
    """The modes that keep what images hold, each with the first row that has it.

    ``L`` for grey, ``I;16`` for grey of 16 bits, ``RGB`` for all others; transparency is dropped.

    Raises:
        DataError: an image is damaged. Names it.
    """
    modes: dict[str, int] = {}
    for row, blob in enumerate(blobs):
        with _opened(blob, where[row]) as image:
            if image.mode == "F":
                raise DataError(f"{where[row]} holds fractions; save images of 8 or 16 bits")
            grey = "L" if image.mode in ("L", "LA", "1") else "RGB"
            modes.setdefault("I;16" if image.mode in _DEEP else grey, row)
    return modes


def decode(
    blobs: Sequence[bytes],
    mode: str,
    where: Sequence[str],
    size: tuple[int, int] | None = None,
    fix: str = "",
) -> np.ndarray:
    """Decoded images, turned as their EXIF says, uint8 [N, H, W, C].

    Args:
        mode: L: C = 1; RGB: C = 3; I;16: uint16, C = 1.
        where: what each image is called in errors.
        size: resize all to (height, width).
        fix: the way out where images differ in size.

    Raises:
        DataError: an image is damaged or differs in size from the first. Names it.
    """

    def one(row: int) -> np.ndarray:
        with _opened(blobs[row], where[row]) as image:
            try:
                pixels = _converted(_upright(image), mode)
                if size is not None and mode != "I;16":
                    pixels = pixels.resize((size[1], size[0]), _BILINEAR)
                return np.asarray(pixels, np.uint16 if mode == "I;16" else np.uint8)
            except _DAMAGED as error:
                raise DataError(f"{where[row]} is damaged: {error}") from error

    if size is not None and mode == "I;16":
        raise DataError(f"{where[0]} is an image of 16 bits, which are not resized here")
    first = one(0)
    images = np.empty((len(blobs), *first.shape), first.dtype)

    def fill(rows: range) -> None:
        for row in rows:
            image = one(row)
            if image.shape != first.shape:
                raise DataError(
                    f"{where[row]} is {_sides(image)}, {where[0]} {_sides(first)} pixels; all "
                    f"images must be of one size{fix}"
                )
            images[row] = image

    blocks = [range(at, min(at + 512, len(blobs))) for at in range(0, len(blobs), 512)]
    with ThreadPoolExecutor(min(8, cores())) as pool:  # Pillow decodes without the GIL
        for _ in pool.map(fill, blocks):
            pass
    return images if images.ndim == 4 else images[..., None]


def rows(count: int, where: str) -> list[str]:
    """What images that have no names of their own are called in errors.

    Raises:
        DataError: there are none.
    """
    if not count:
        raise DataError(f"{where} holds no images")
    return [f"{where}: the image in row {row}" for row in range(count)]


@contextlib.contextmanager
def _opened(blob: bytes, where: str) -> Iterator[Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(blob))
    except UnidentifiedImageError:
        raise DataError(f"{where} is damaged: it is empty, or no image") from None
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise DataError(f"{where} is damaged: {error}") from error
    with image:
        yield image


def _upright(image: Any) -> Any:
    """An image as its camera was held."""
    from PIL import ExifTags, ImageOps

    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _converted(image: Any, mode: str) -> Any:
    """An image in another mode; 16 bits become 8 by their upper half, not by clipping."""
    if image.mode in _DEEP and mode != "I;16":
        from PIL import Image

        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    return image if image.mode == mode or mode == "I;16" else image.convert(mode)


def _sides(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
