"""The settings of a first file of one's own, of any verb: what was said, and what fits it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.base.forms import FORMAT
from hansa.base.paths import written
from hansa.base.shipped import shipped
from hansa.data.tablefile import BINARY, TEXT
from hansa.experiment.commented import commented
from hansa.experiment.runfile import RunFile, named
from hansa.experiment.settings_file import SettingsFile, files, override, put, read_yaml


@dataclass(frozen=True)
class Wishes:
    """What a person says of a file to begin with; None: as it is usual.

    Attributes:
        data: a file, or the name of a data source.
        label: the column that is to be predicted, where data is a table.
        sets: ``key=value``, over all else.
    """

    algorithm: str | None = None
    data: str | None = None
    label: str | None = None
    nodes: int | None = None
    rounds: int | None = None
    seed: int | None = None
    sets: tuple[str, ...] = ()

    @classmethod
    def said(cls, words: Mapping[str, str]) -> Wishes:
        """What was typed; an empty answer says nothing.

        Raises:
            ConfigError: a number is none.
        """
        numbers: dict[str, Any] = {}
        for field in ("nodes", "rounds", "seed"):
            if word := words.get(field):
                try:
                    numbers[field] = int(word)
                except ValueError:
                    raise ConfigError(field, word, "is no whole number", "such as 8") from None
        algorithm, data, label = (words.get(key) or None for key in ("algorithm", "data", "label"))
        return cls(algorithm, data, label, **numbers)


def asks_for(kind: type[SettingsFile]) -> list[tuple[str, str, str]]:
    """(field, question, usual answer) of what a person is asked for such a file."""
    usual = _read(kind.sketch)
    asked = []
    if kind is RunFile:
        asked.append(("algorithm", "Which algorithm (hansa list algorithm)", "dpsgd"))
    if kind.own_data:
        at, source = kind.own_data
        inside: Any = usual
        for key in at.split("."):
            inside = inside[key]
        name = inside["name"] if isinstance(inside, Mapping) else str(inside)
        asked.append(("data", f"Which data: a file of {source}, or a data set's name", name))
    for field in ("nodes", "rounds"):
        inside = usual
        for key in kind.shortcuts.get(field, field).split("."):
            inside = inside.get(key) if isinstance(inside, Mapping) else None
        if isinstance(inside, int):
            asked.append((field, f"How many {field}", str(inside)))
    return asked


def choices(field: str) -> list[str] | None:
    """What may be answered; None: anything."""
    return sorted(catalogue("algorithm")) if field == "algorithm" else None


def kinds() -> dict[str, type[SettingsFile]]:
    """The kinds of files that can be begun, by verb and by the last word of their command."""
    begun = {verb: kind for verb, kind in files().items() if kind.sketch}
    words = {kind.command.split()[-1]: kind for kind in begun.values()}
    return {**{word: kind for word, kind in words.items() if word not in begun}, **begun}


def is_verb(word: str) -> bool:
    """Whether a word names a kind of file that can be begun."""
    return word in kinds()


def first_settings(kind: type[SettingsFile], wishes: Wishes, folder: Path) -> dict[str, Any]:
    """Settings that run as they stand.

    Args:
        folder: of the file: paths in it are relative to it.

    Raises:
        ConfigError: the verb does not have what was asked for, or it cannot work.
    """
    settings = _usual(kind, wishes)
    if wishes.data is not None:
        _put_data(kind, settings, wishes.data, wishes.label, folder)
    elif wishes.label is not None:
        raise ConfigError(
            "label", wishes.label, "is a column, and no --data is given", "--data FILE"
        )
    for field in ("nodes", "rounds", "seed"):
        value = getattr(wishes, field)
        if value is None:
            continue
        at = kind.shortcuts.get(field, field)
        if at.split(".")[0] not in kind.model_fields:
            problem = f"hansa {kind.command} has no {field}"
            raise ConfigError(field, value, problem, f"hansa list settings {kind.own_verb()}")
        put(settings, at.split("."), value)
    if wishes.nodes is not None:
        _few(settings, wishes.nodes)
    settings = override(settings, wishes.sets)
    head = {"format": FORMAT, "verb": kind.own_verb()}
    settings = {**head, **{key: one for key, one in settings.items() if key not in head}}
    kind.parse(_absolute(settings, folder))
    return settings


def write_first(kind: type[SettingsFile], wishes: Wishes, place: Path) -> Path:
    """Write such a file.

    Args:
        place: the file, or the folder that it goes to.

    Raises:
        ConfigError: it is there already, or see :func:`first_settings`.
    """
    name = wishes.algorithm or kind.command.split()[-1]
    file = place if place.suffix in (".yaml", ".yml") else place / f"{name.rpartition(':')[2]}.yaml"
    for one in file.parents:
        if one.exists() and not one.is_dir():
            raise ConfigError("out", str(place), f"{one} is a file", "the name of a folder")
    if file.exists():
        raise ConfigError("out", str(file), "is there already", "another name: --out FILE.yaml")
    settings = first_settings(kind, wishes, file.parent)
    text = commented(kind, settings, str(file))
    with atomic_write(file, "w") as handle:
        handle.write(text)
    return file


def _few(settings: dict[str, Any], nodes: int) -> None:
    """No more at once, and no more neighbours, than so many nodes have; in place."""
    for group, keys, most in (
        ("algorithm", ("sampled", "concurrency", "buffer", "edges", "cohorts"), nodes),
        ("algorithm", ("fanout", "degree"), nodes - 1),
        ("topology", ("degree",), nodes - 1),
    ):
        inside = settings.get(group)
        for key in keys:
            if isinstance(inside, dict) and isinstance(inside.get(key), int):
                inside[key] = max(1, min(inside[key], most))


def _usual(kind: type[SettingsFile], wishes: Wishes) -> dict[str, Any]:
    sketch = kind.sketch
    method = wishes.algorithm
    if method is not None and "algorithm" not in kind.model_fields:
        problem = f"hansa {kind.command} has no algorithm of this kind"
        raise ConfigError("algorithm", method, problem, f"hansa list settings {kind.own_verb()}")
    if method is not None and kind is RunFile and shipped(f"digits_{method}"):
        sketch = f"digits_{method}"
    settings = _read(sketch)
    if method is not None and sketch == kind.sketch:
        settings = _over(settings, {**named(method), "algorithm": {"name": method}})
        settings = _over(settings, named(method))
    return settings


def _read(sketch: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(sketch, Mapping):
        return override(sketch)
    file = shipped(sketch)
    assert file is not None, sketch
    return read_yaml(file)


def _over(settings: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others on top, group by group; another part takes the place of the former."""
    result = dict(settings)
    for key, value in more.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same = value.get("name", old.get("name")) == old.get("name")
            result[key] = _over(dict(old), value) if same else dict(value)
        else:
            result[key] = dict(value) if isinstance(value, Mapping) else value
    return result


def _put_data(
    kind: type[SettingsFile], settings: dict[str, Any], data: str, label: str | None, folder: Path
) -> None:
    if not kind.own_data:
        problem = f"hansa {kind.command} does not take its data so"
        raise ConfigError("data", data, problem, f"hansa list settings {kind.own_verb()}")
    at, source = kind.own_data
    if source != "file" and label is not None:
        problem = f"hansa {kind.command} reads no column of that kind"
        raise ConfigError("label", label, problem, "without --label")
    path = Path(data).expanduser()
    if "/" not in data and data in catalogue("data"):
        if label is not None:
            problem, fix = f"{data} has its own labels", "without --label"
            raise ConfigError("label", label, problem, fix)
        _put_part(settings, at, {"name": data, **_dealt(settings, at)})
        return
    if not path.is_file():
        near = difflib.get_close_matches(data, catalogue("data"), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        fix = f"{hint}a table ({', '.join((*TEXT, *BINARY))}), or one of hansa list data"
        raise ConfigError("data", data, "there is no such file and no such data set", fix)
    written = str(path) if path.is_absolute() else os.path.relpath(path, folder)
    own: dict[str, Any] = {"name": source, "path": written}
    if source == "file":
        own |= {"label": _label(path, label), "missing": "impute", "categories": "one_hot"}
        own["partition"] = "iid"
    _put_part(settings, at, own)


def _dealt(settings: dict[str, Any], at: str) -> dict[str, Any]:
    """How the examples were dealt; it may suit others."""
    inside: Any = settings
    for key in at.split("."):
        inside = inside.get(key) or {}
    return {"partition": inside["partition"]} if "partition" in inside else {}


def _label(path: Path, label: str | None) -> str:
    """The column that is to be predicted, once it is seen to be there.

    Raises:
        ConfigError: it is not, or was not said; names the columns.
    """
    from hansa.data.tablefile import read_frame

    columns = read_frame(path).columns
    fix = f"one of {', '.join(columns)}"
    if label is None:
        raise ConfigError("label", None, f"which column of {path} is to be predicted?", fix)
    if label not in columns:
        near = difflib.get_close_matches(label, columns, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError("label", label, f"is no column of {path}", hint + fix)
    return label


def _put_part(settings: dict[str, Any], at: str, part: dict[str, Any]) -> None:
    *groups, last = at.split(".")
    inside = settings
    for key in groups:
        inside = inside.setdefault(key, {})
    inside[last] = part


def _absolute(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    known: dict[str, Any] = written(override(settings), folder.absolute())
    return known
