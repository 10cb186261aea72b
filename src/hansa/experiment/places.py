"""Where run folders go that were not given a name."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from hansa.experiment.runfile import RunFile


def default_folder(chosen: RunFile) -> Path:
    """A new name under ``runs/``."""
    parts = (type(chosen.algorithm).name, type(chosen.data).name)
    words = [re.sub(r"\W+", "-", name.rpartition(":")[2]) for name in parts]  # a name may be a path
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return unused(Path("runs") / "-".join([*words, stamp]))


def unused(base: Path) -> Path:
    """This path, or with a number behind it the first that does not exist."""
    path, again = base, 1
    while path.exists():
        again += 1
        path = base.with_name(f"{base.name}-{again}")
    return path
