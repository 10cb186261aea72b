"""Files that a plan names (own code, traces, tables), for sites on machines that lack them.

They go along with the plan, and a site reads them from where it has put them: in the plan's facts
their paths are replaced. Only what is declared to be a file goes, whatever a text looks like: code
(``.py``: a plugin, or the file of ``file.py:Object``), what stands in a setting that is a ``Path``,
and files that own code is called with. Keys, tokens and a site's own tables are no settings of what
a plan is made of; a private key goes in no case.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from hansa.base.bundle import read_facts
from hansa.base.errors import ConfigError
from hansa.base.files import write_json, writing
from hansa.base.modules import import_path
from hansa.base.paths import located_argument, path_fields

if TYPE_CHECKING:
    from hansa.engine.plan import Plan

INDEX = "files.json"
"""Where in a folder it says which file is which."""
_FOLDER = "files"
_HEAD = 1 << 16  # bytes in which a file says that it is a key


def carry(folder: Path, paths: Iterable[str]) -> None:
    """Copy files into a folder.

    Raises:
        ConfigError: one is a private key.
        DiskError: the disk is full or fails.
    """
    index: dict[str, str] = {}
    for k, path in enumerate(sorted(set(paths))):
        place = f"{_FOLDER}/{k}/{Path(path).name}"
        if _holds_a_key(path):
            problem = "is a private key, which no worker is given"
            raise ConfigError("runtime", path, problem, "a run file that does not name it")
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


def files_of(plan: Plan) -> list[str]:
    """The files that a plan cannot be opened without, as absolute paths."""
    attack = None if plan.attackers is None else plan.attackers.attack
    markers = [one.marker for one in plan.dataset.planted]
    parts: list[Any] = [plan.form, plan.network.topology, plan.algorithm, plan.clock, plan.faults]
    parts += [plan.shaping, plan.train, plan.evaluate, plan.checkpoint, attack, *markers]
    code = [path for path in plan.plugins if _is_code(path)]
    return sorted({*code, *_files(parts)})


def _files(value: Any) -> Iterator[str]:
    """The files of code and of declared paths in settings, and in those of their parts."""
    if isinstance(value, BaseModel):
        yield from _code(import_path(type(value)))
        paths = path_fields(type(value))
        for field in type(value).model_fields:
            inside = getattr(value, field)
            yield from (
                _arguments(inside) if paths.get(field) is located_argument else _files(inside)
            )
    elif isinstance(value, Path):
        yield from _arguments(str(value))
    elif isinstance(value, str):
        yield from _code(value)
    else:
        for item in _items(value):
            yield from _files(item)


def _arguments(value: Any) -> Iterator[str]:
    """The files among what own code is called with, which are texts."""
    if isinstance(value, str):
        if value.startswith("/") and _is_file(value):
            yield value
    else:
        for item in _items(value):
            yield from _arguments(item)


def _items(value: Any) -> Iterable[Any]:
    """What a mapping or a list is made of; nothing of all else."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _code(name: str) -> Iterator[str]:
    """The file of ``file.py:Object``."""
    module, colon, _ = name.rpartition(":")
    if colon and _is_code(module):
        yield module


def _is_code(path: str) -> bool:
    return path.startswith("/") and path.endswith(".py") and "\n" not in path and _is_file(path)


def _holds_a_key(path: str) -> bool:
    with Path(path).open("rb") as file:
        return b"PRIVATE KEY-----" in file.read(_HEAD)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # such as a name that is too long for one
        return False
