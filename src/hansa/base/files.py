"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hansa.base.errors import DiskError

_OF_A_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which file could not be written, and what to do.

    Raises:
        DiskError: the disk is full or fails.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        if error.errno in _OF_A_DISK:
            raise DiskError(path, error) from error
        raise


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Write to a temporary neighbour of ``path`` and rename it into place when all went well.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """
    with writing(path), _neighbour(path, mode) as handle:
        yield handle


@contextlib.contextmanager
def _neighbour(path: Path, mode: str) -> Iterator[IO[Any]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - renamed, not deleted
        mode,
        dir=path.parent,
        prefix=f".{path.name}.",
        suffix=".part",
        delete=False,
        encoding=None if "b" in mode else "utf-8",
    )
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            os.fchmod(handle.fileno(), 0o666 & ~_umask())
        Path(handle.name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(handle.name).unlink()
        raise


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=1, allow_nan=True)
        file.write("\n")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where downloads and decoded arrays are kept: $HANSA_CACHE or the user's cache folder."""
    import platformdirs

    asked = os.environ.get("HANSA_CACHE")
    return Path(asked).expanduser() if asked else Path(platformdirs.user_cache_dir("hansa"))


@contextlib.contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock that other processes respect; freed by the kernel on any death.

    Raises:
        BlockingIOError: another process holds it and ``wait`` is false.
        DiskError: the file of the lock cannot be made.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
