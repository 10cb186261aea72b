"""The recorded order of an asynchronous run on disk: one file, to which each round is added.

A frame is the length of its body, the body's CRC-32 (both uint32, little-endian) and the body: a
control message {round, rows} under zlib, rows as in :mod:`hansa.engine.runtimes.arrivals`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import CheckpointError, WireError
from hansa.base.files import writing
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.runtimes.arrivals import COLUMNS

ARRIVALS = "arrivals.bin"
_HEAD = struct.Struct("<II")
_REMEDY = "replay a run whose folder is whole"


def add_round(folder: Path, done: int, rows: np.ndarray) -> None:
    """Add what happened in a round, int [k, 5], to a run folder's recording."""
    body = zlib.compress(pack_control("arrivals", round=done, rows=rows.astype(np.int32)), 6)
    with writing(folder / ARRIVALS), (folder / ARRIVALS).open("ab") as file:
        file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)


def cut_after(folder: Path, done: int) -> None:
    """Forget what happened after a round, to go on from there."""
    path = folder / ARRIVALS
    if not path.exists():
        return
    data, end = path.read_bytes(), 0
    for stop, frame in _frames(data, path, whole=False):
        if frame["round"] > done:
            break
        end = stop
    with writing(path), path.open("r+b") as file:
        file.truncate(end)


def read_arrivals(folder: Path) -> tuple[np.ndarray, int]:
    """(rows [k, 5] of all rounds, the last round) of a recording.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / ARRIVALS
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no recorded order of arrivals")
    parts, last = [np.zeros((0, len(COLUMNS)), dtype=np.int32)], 0
    for _, frame in _frames(path.read_bytes(), path, whole=True):
        if frame["round"] != last + 1:
            raise CheckpointError(f"{path}: round {last + 1} is missing; {_REMEDY}")
        parts.append(frame["rows"])
        last += 1
    return np.concatenate(parts), last


def _frames(data: bytes, path: Path, whole: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """(where it ends, content) of each frame; those behind a damaged one are lost.

    Raises:
        CheckpointError: the file is damaged, and it has to be ``whole``.
    """
    at = 0
    while at < len(data):
        try:
            length, digest = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) != length or zlib.crc32(body) != digest:
                raise WireError("is cut short or was changed")
            content = unpack_control(zlib.decompress(body))
            rows = content.get("rows")
            good = isinstance(rows, np.ndarray) and rows.shape[1:] == (len(COLUMNS),)
            if not good or not isinstance(content.get("round"), int):
                raise WireError("holds something else")
        except (WireError, struct.error, zlib.error) as error:
            if whole:
                raise CheckpointError(f"{path}: {error} at byte {at}; {_REMEDY}") from error
            return
        at += _HEAD.size + length
        yield at, content
