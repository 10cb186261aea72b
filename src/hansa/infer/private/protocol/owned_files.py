"""Files that their owner alone can read: whole or absent, and logs of frames that may end torn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from hansa.base.errors import WireError
from hansa.base.files import writing
from hansa.infer.private.protocol.frames import HEADER_BYTES, Frame, Kind, read_header


def own_folder(path: Path) -> Path:
    """Make a folder that its owner alone can enter."""
    with writing(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    return path


def write_whole(path: Path, data: bytes, sync: bool = True) -> None:
    """Replace a file.

    Args:
        sync: whether it is on the disk when this returns, or safe from the process's end only.

    Raises:
        DiskError: it cannot be written.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            Path(name).replace(path)
            if sync:
                sync_folder(path.parent)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise


def sync_folder(path: Path) -> None:
    """Have the disk know which files a folder holds."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append(path: Path, frame: Frame, sync: bool) -> None:
    """Add a frame to a log.

    Args:
        sync: whether it is on the disk when this returns (in a file that was there before), or
            safe from the process's end only.

    Raises:
        DiskError: it cannot be written.
    """
    with writing(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(frame.encode())
            file.flush()
            if sync:
                os.fdatasync(file.fileno())


def frames_in(path: Path, most: int) -> list[Frame]:
    """The frames of a log; a last one that was not written whole is cut off.

    Args:
        most: bytes of a body at most.
    """
    if not path.is_file():
        return []
    frames, whole = [], 0
    for frame, end in _frames(path.read_bytes(), lambda _: most):
        frames.append(frame)
        whole = end
    if path.stat().st_size > whole:
        with writing(path):
            os.truncate(path, whole)
    return frames


def _frames(data: bytes, limit: Callable[[Kind], int]) -> Iterator[tuple[Frame, int]]:
    at = 0
    while at < len(data):
        try:
            header = read_header(data[at : at + HEADER_BYTES], limit)
            start = at + HEADER_BYTES
            frame = header.with_body(data[start : start + header.size])
        except WireError:
            return
        at = start + header.size
        yield frame, at
