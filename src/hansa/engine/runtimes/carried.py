"""Files that a plan names (own code, traces, tables), for sites on machines that lack them.

They go along with the plan, and a site reads them from where it has put them: in the plan's facts
their paths are replaced.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hansa.base.bundle import read_facts
from hansa.base.files import write_json, writing

INDEX = "files.json"
"""Where in a folder it says which file is which."""
_FOLDER = "files"


def carry(folder: Path, facts: Any) -> None:
    """Copy the files that facts name into a folder.

    Raises:
        DiskError: the disk is full or fails.
    """
    index: dict[str, str] = {}
    for k, path in enumerate(sorted(set(_files(facts)))):
        place = f"{_FOLDER}/{k}/{Path(path).name}"
        with writing(folder / place):
            (folder / place).parent.mkdir(parents=True)
            shutil.copyfile(path, folder / place)
        index[path] = place
    write_json(folder / INDEX, index)


def carried(folder: Path) -> dict[str, str]:
    """Where the files are that came along, by their paths elsewhere; none if none did."""
    if not (folder / INDEX).is_file():
        return {}
    return {path: str(folder / place) for path, place in read_facts(folder / INDEX).items()}


def carried_files(folder: Path) -> list[Path]:
    """All that came along, with the index."""
    places = [Path(place) for place in carried(folder).values()]
    return [folder / INDEX, *places] if (folder / INDEX).is_file() else []


def relocated(value: Any, places: Mapping[str, str]) -> Any:
    """Facts with the paths of files replaced, also where an object in one is named."""
    if isinstance(value, str):
        module, colon, name = value.rpartition(":")
        if colon and module in places:
            return f"{places[module]}:{name}"
        return places.get(value, value)
    if isinstance(value, Mapping):
        return {key: relocated(item, places) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [relocated(item, places) for item in value]
    return value


def _files(value: Any) -> Iterator[str]:
    """Every absolute path of a file in facts."""
    if isinstance(value, str):
        module, colon, _ = value.rpartition(":")
        path = module if colon and module.endswith(".py") else value
        if path.startswith("/") and "\n" not in path and len(path) < 4096 and Path(path).is_file():
            yield path
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _files(item)
