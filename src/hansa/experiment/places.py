"""Where run folders go that were not given a name."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from hansa.experiment.settings_file import SettingsFile
from hansa.report.folder import LOCK


def default_folder(chosen: SettingsFile) -> Path:
    """A new name under ``runs/``."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    label = re.sub(r"[^\w-]+", "-", chosen.label())  # a part's name may be a path
    return unused(Path("runs") / f"{label}-{stamp}")


def unused(base: Path) -> Path:
    """This path, or with a number behind it the first that does not exist."""
    path, again = base, 1
    while path.exists():
        again += 1
        path = base.with_name(f"{base.name}-{again}")
    return path


@contextlib.contextmanager
def reserved(base: Path) -> Iterator[Path]:
    """A new folder that nobody else takes: this path, or one with a number behind it.

    It goes again if nothing came into it.
    """
    first, made = not base.parent.exists(), False
    path = unused(base)
    while not made:
        try:
            path.mkdir(parents=True)
            made = True
        except FileExistsError:  # somebody was faster
            path = unused(base)
        except OSError:  # who writes there will say what is wrong
            break
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            if made and all(inside.name == LOCK for inside in path.iterdir()):
                (path / LOCK).unlink(missing_ok=True)
                path.rmdir()
                if first:
                    path.parent.rmdir()
