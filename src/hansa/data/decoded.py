"""Decoded arrays on disk, memory-mapped so that all processes of a machine share the pages.

One folder per source state holds plain .npy files and ``about.json``. The latter is written
last and lists every array with its form, so that a half-written or damaged folder is noticed
and built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import DataError
from hansa.base.files import atomic_write, lock, write_json
from hansa.data.fetch import cache_folder
from hansa.data.raw import Arrays, RawSplits

FORMAT = 4
"""Raise this whenever a reader changes what it makes of the same files."""


def key(settings: Any, files: Sequence[Path]) -> str:
    """A digest of the reader's settings and of its files' names, sizes and times of change."""
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    text = json.dumps([FORMAT, settings, stamps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def through_cache(name: str, digest: str, build: Callable[[], RawSplits]) -> RawSplits:
    """The splits kept under ``digest``, made by ``build`` (and kept) where there are none.

    Raises:
        DataError: the cache folder cannot be written.
    """
    folder = cache_folder() / "decoded" / f"{name}-{digest}"
    if (kept := _load(folder)) is not None:
        return kept
    with contextlib.ExitStack() as stack:
        with _explained(name, folder):
            stack.enter_context(lock(folder.with_name(f".{folder.name}.lock")))
        if (kept := _load(folder)) is not None:  # another process may have been faster
            return kept
        raw = build()
        with _explained(name, folder):
            _save(folder, raw)
    kept = _load(folder)
    if kept is None:
        raise DataError(f"{folder} changes while it is used\n  fix: set HANSA_CACHE elsewhere")
    return kept


@contextlib.contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the decoded copy of {name} cannot be kept in {folder}: {error}\n"
            "  fix: set HANSA_CACHE to a folder with room that can be written"
        ) from error


def _save(folder: Path, raw: RawSplits) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / "about.json").unlink()
    for dead in folder.glob(".*.part"):  # of a process that was killed; we hold the lock
        dead.unlink()
    forms = {}
    for name, array in _arrays(raw).items():
        plain = np.ascontiguousarray(array)
        with atomic_write(folder / f"{name}.npy") as file:
            np.lib.format.write_array(file, plain, allow_pickle=False)
        forms[name] = [plain.dtype.str, list(plain.shape)]
    meta = {k: v for k, v in vars(raw).items() if k not in ("train", "test")}
    write_json(folder / "about.json", {"arrays": forms, "meta": meta})


def _load(folder: Path) -> RawSplits | None:
    """The splits of a folder, or None where it is absent, half-written or damaged."""
    try:
        about = json.loads((folder / "about.json").read_text())
        arrays = {}
        for name, (dtype, shape) in about["arrays"].items():
            # "c" maps privately: torch gets an array that may be written, the file never is.
            array = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            if array.dtype.str != dtype or list(array.shape) != shape:
                return None
            arrays[name] = array
        meta: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in about["meta"].items()
        }
        train, test = (
            Arrays(
                arrays[f"{part}_inputs"], arrays[f"{part}_targets"], arrays.get(f"{part}_groups")
            )
            for part in ("train", "test")
        )
        return RawSplits(train=train, test=test, **meta)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _arrays(raw: RawSplits) -> dict[str, np.ndarray]:
    arrays = {
        f"{label}_{field}": value
        for label, part in (("train", raw.train), ("test", raw.test))
        for field, value in vars(part).items()
    }
    return {name: value for name, value in arrays.items() if value is not None}
