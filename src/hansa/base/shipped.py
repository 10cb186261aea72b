"""The examples that come with the package: where their files are, by name."""

from __future__ import annotations

from pathlib import Path

import hansa


def home() -> Path:
    """Where the examples are: in the installed package, or in the checkout beside its source."""
    package = Path(hansa.__file__).parent
    installed = package / "examples"
    return installed if installed.is_dir() else package.parents[1] / "examples"


def shipped(name: str | Path) -> Path | None:
    """The run file of an example, by its name alone (``digits_dpsgd``); None: there is no such."""
    word = str(name)
    if not word.isidentifier():
        return None
    file = home() / f"{word}.yaml"
    return file if file.is_file() else None


def example_meant(path: Path) -> str:
    """The name of the example whose file a path that is not there would be; else empty.

    ``examples/digits_dpsgd.yaml`` stands in many texts, and only a checkout has that folder.
    """
    return path.stem if path.suffix == ".yaml" and shipped(path.stem) else ""
