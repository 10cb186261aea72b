"""Encoded images (PNG, JPEG) from parquet files in the layout of the Hugging Face hub."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import DataError


def read_parquet(path: Path, columns: Sequence[str]) -> Any:
    """Some columns of a parquet file as a pyarrow table.

    Raises:
        DataError: the file is damaged or lacks a column. Names the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        known = pq.read_schema(path).names
        missing = [name for name in columns if name not in known]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(known)}")
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
    found: list[bytes] = []
    for item in column.to_pylist():
        blob = item and item["bytes"]
        if blob is None and item and item.get("path"):
            blob = _file(item["path"], where)  # local folders of images come as paths
        if blob is None:
            raise DataError(f"{where}: row {len(found)} has no image")
        found.append(blob)
    return found


def _file(path: str, where: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{where}: an image cannot be read: {error}") from error


def usual_mode(blob: bytes, where: str) -> str:
    """``L`` if an image is grey, else ``RGB``."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob)) as image:
            return "L" if image.mode in ("L", "1", "I;16", "I") else "RGB"
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: the first image is damaged: {error}") from error


def decode(blobs: Sequence[bytes], mode: str, where: str) -> np.ndarray:
    """Decoded images, uint8 [N, H, W, C] (``mode`` L: C = 1, RGB: C = 3).

    Raises:
        DataError: an image is damaged or differs in size from the first. Names the row.
    """
    from PIL import Image

    def one(row: int) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(blobs[row])) as image:
                return np.asarray(image.convert(mode))
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on bad bytes
            raise DataError(f"{where}: the image in row {row} is damaged: {error}") from error

    if not blobs:
        raise DataError(f"{where} holds no images")
    first = one(0)
    images = np.empty((len(blobs), *first.shape), np.uint8)

    def fill(rows: range) -> None:
        for row in rows:
            image = one(row)
            if image.shape != first.shape:
                raise DataError(
                    f"{where}: the image in row {row} has shape {image.shape}, the first "
                    f"{first.shape}; all must be of one size"
                )
            images[row] = image

    blocks = [range(at, min(at + 512, len(blobs))) for at in range(0, len(blobs), 512)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes without the GIL
        for _ in pool.map(fill, blocks):
            pass
    return images if images.ndim == 4 else images[..., None]
