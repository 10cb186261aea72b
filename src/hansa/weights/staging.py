"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hansa.base.errors import ConfigError
from hansa.base.files import writing


def refuse_existing(out: Path) -> None:
    """Raises ConfigError where something stands at ``out``; an empty folder does not count."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError("out", str(out), "exists already", "name another place")


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A neighbour of ``out`` to write to, which takes its name when all went well.

    Raises:
        ConfigError: ``out`` exists and is not empty.
        DiskError: the disk is full or fails.
    """
    refuse_existing(out)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        with writing(out):
            yield place
            mask = os.umask(0o022)  # can only be read by setting it
            os.umask(mask)
            place.chmod(0o777 & ~mask)
            place.replace(out)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
