"""What runs here, as a hash: every file of the installed package, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hansa

_LABEL = b"hansa package 1\0"
_LEFT_OUT = {"__pycache__"}


def files_of(folder: Path) -> Iterator[Path]:
    """Files that are part of a package, by their relative paths; what Python caches is not."""
    found = (path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in found if not _LEFT_OUT & set(path.parts) and path.suffix != ".pyc"]
    return iter(sorted(kept, key=lambda path: path.relative_to(folder).as_posix()))


def digest_of(folder: Path) -> bytes:
    """48 bytes, SHA-384 over names, lengths and contents of a package's files."""
    digest = hashlib.sha384(_LABEL)
    for path in files_of(folder):
        name = path.relative_to(folder).as_posix().encode()
        data = path.read_bytes()
        digest.update(len(name).to_bytes(4, "big") + name + len(data).to_bytes(8, "big") + data)
    return digest.digest()


@cache
def code_digest() -> bytes:
    """Of hansa as it is installed here; its dependencies are not in it."""
    return digest_of(Path(hansa.__file__).parent)
