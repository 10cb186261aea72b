"""What may come next on a command line: words known at once, for a shell that waits for them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hansa
from hansa.base.errors import DiskError
from hansa.base.files import atomic_write, cache_folder


def remembered(name: str, make: Callable[[], Any]) -> Any:
    """What ``make`` gives, from the cache folder where this very installation made it before.

    Args:
        name: of the file, without suffix.
        make: gives plain data; may take a second, which nobody who presses Tab waits for twice.
    """
    file, stamp = cache_folder() / f"{name}.json", _installation()
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and kept.get("of") == stamp:
            return kept["value"]
    value = make()
    with contextlib.suppress(DiskError), atomic_write(file, "w") as handle:
        json.dump({"of": stamp, "value": value}, handle)
    return value


def _installation() -> str:
    """Another text after every installation, and after every change in a checkout."""
    package = Path(hansa.__file__).parent
    newest = max(file.stat().st_mtime_ns for file in package.rglob("*.py"))
    return f"{hansa.__version__} {package} {newest}"


def beginning(words: Iterable[str], typed: str) -> list[str]:
    """The words that begin with what was typed."""
    return sorted(word for word in words if word.startswith(typed))


def files(typed: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Files with a suffix, and folders, that begin with what was typed."""
    for path in _paths(typed):
        if path.is_dir():
            yield f"{path}/"
        elif path.suffix in suffixes:
            yield str(path)


def run_folders(typed: str) -> Iterator[str]:
    """Folders of runs that begin with what was typed, or that lie in the folder typed so far.

    Where nothing is typed: those of this folder and of ``runs``.
    """
    paths = [*_paths(typed), *([] if typed else _paths("runs/"))]
    for path in paths:
        if not path.is_dir():
            continue
        if (path / "config.yaml").is_file():
            yield str(path)
        elif typed or path.name != "runs":
            yield f"{path}/"


def _paths(typed: str) -> list[Path]:
    folder, _, start = typed.rpartition("/")
    place = Path(f"{folder}/" if folder or typed.startswith("/") else ".")
    with contextlib.suppress(OSError):
        return sorted(
            path
            for path in place.expanduser().iterdir()
            if path.name.startswith(start) and (start or not path.name.startswith("."))
        )
    return []
