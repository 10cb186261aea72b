"""The examples that come with the package, and writing one where somebody wants to begin."""

from __future__ import annotations

import difflib
import itertools
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from hansa.base.errors import ConfigError
from hansa.base.files import writing
from hansa.base.shipped import home
from hansa.experiment.settings_file import listed, read_yaml


def examples() -> dict[str, str]:
    """What each example shows, a sentence, by its name."""
    sentences = {}
    for file in sorted(home().glob("*.yaml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        rest = itertools.dropwhile(lambda line: not line.startswith("#"), lines)
        remark = itertools.takewhile(lambda line: line.startswith("#"), rest)
        text = " ".join(line.removeprefix("#").strip() for line in remark)
        sentences[file.stem] = re.split(r"\.(?: |$)", text)[0]
    return sentences


def write_example(name: str, folder: Path, besides: Iterable[str] = ()) -> list[Path]:
    """Copy an example's run file, and its own code, into a folder; returns the files, it first.

    Args:
        besides: other words that may have been meant by a name that is none.

    Raises:
        ConfigError: there is no such example, or one of its files is there already.
    """
    stem = name.removesuffix(".yaml")
    stems = examples()
    if stem not in stems:
        near = [other for other in stems if stem and stem.casefold() in other]
        near = near or difflib.get_close_matches(stem, [*besides, *stems], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        fix = f"{hint}one of {', '.join(stems)}"
        raise ConfigError("example", name, "there is no such example", fix)
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError("out", str(folder), f"{place} is a file", "the name of a folder")
    source = home() / f"{stem}.yaml"
    plugins = listed(read_yaml(source).get("plugins") or ())
    files = [source, *(home() / plugin for plugin in plugins if plugin.endswith(".py"))]
    for file in files:
        if (folder / file.name).exists():
            existing = str(folder / file.name)
            fix = "another folder: --out DIR"
            raise ConfigError("example", name, f"{existing} is there already", fix)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(file, folder / file.name)) for file in files]
