"""The settings of a first file of one's own, of any verb: what was said, and what fits it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.component import names
from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.base.forms import FORMAT
from hansa.base.paths import written
from hansa.base.shipped import shipped
from hansa.data.source import DataSource
from hansa.data.tablefile import BINARY, TEXT
from hansa.experiment.commented import commented
from hansa.experiment.own_data import OwnData, inside, needs, part_of, placed, put_part
from hansa.experiment.runfile import RunFile, named
from hansa.experiment.settings_file import SettingsFile, commands, file_of, override, put, read_yaml

if TYPE_CHECKING:
    from hansa.data.raw import RawSplits


@dataclass(frozen=True)
class Wishes:
    """What a person says of a file to begin with; None: as it is usual.

    Attributes:
        data: a file, or the name of a data source.
        label: the column that is to be predicted, where data is a table; of an audit, that of the
            decisions.
        groups: columns that say whose a row is; of an audit, the protected ones.
        sets: ``key=value``, over all else.
    """

    algorithm: str | None = None
    data: str | None = None
    label: str | None = None
    nodes: int | None = None
    rounds: int | None = None
    seed: int | None = None
    sets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

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
        groups = tuple(filter(None, [words.get("group")]))
        sets = tuple(f"{key}={word}" for key, word in words.items() if "." in key and word)
        return cls(algorithm, data, label, **numbers, sets=sets, groups=groups)


def asks_for(kind: type[SettingsFile]) -> list[tuple[str, str, str]]:
    """(field, question, usual answer) of what a person is asked for such a file."""
    usual = _read(kind.sketch)
    asked = []
    if kind is RunFile:
        asked.append(("algorithm", "Which algorithm (hansa list algorithm)", "dpsgd"))
    if kind.own_data:
        at, source = kind.own_data
        _opened(usual, at)
        part = inside(usual, at)
        name = part["name"] if isinstance(part, Mapping) else str(part)
        asked.append(("data", f"Which data: a file of {source}, or a data set's name", name))
    elif kind.asks is not SettingsFile.asks:
        asked.append(("data", "Which data: a table of yours; empty: made ones", ""))
    for field in ("nodes", "rounds"):
        count = inside(usual, kind.shortcuts.get(field, field))
        if isinstance(count, int):
            asked.append((field, f"How many {field}", str(count)))
    return asked


def choices(field: str) -> list[str] | None:
    """What may be answered; None: anything."""
    return names("algorithm") if field == "algorithm" else None


class _Kinds(Mapping[str, type[SettingsFile]]):
    """Kinds of files by the words that name them; one is imported when it is asked for."""

    def __init__(self, verbs: Mapping[str, str]) -> None:
        self._verbs = verbs

    def __getitem__(self, word: str) -> type[SettingsFile]:
        kind = file_of(self._verbs[word])
        assert kind is not None
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._verbs)

    def __len__(self) -> int:
        return len(self._verbs)


def kinds() -> Mapping[str, type[SettingsFile]]:
    """The kinds of files that can be begun, by verb and by the last word of their command."""
    begun = {verb: command for verb, (command, sketched) in commands().items() if sketched}
    words = {command.split()[-1]: verb for verb, command in begun.items()}
    return _Kinds({**{w: v for w, v in words.items() if w not in begun}, **{v: v for v in begun}})


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
    return begun(kind, wishes, folder)[0]


def begun(
    kind: type[SettingsFile], wishes: Wishes, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """(settings of :func:`first_settings`, what a person should know of them)."""
    settings, remarks = _usual(kind, wishes), list[str]()
    for field, column in (("label", wishes.label), ("group", ", ".join(wishes.groups))):
        if column and wishes.data is None:
            problem = "is a column, and no --data is given"
            raise ConfigError(field, column, problem, "--data FILE")
    if wishes.data is not None:
        settings, remarks = _put_data(kind, settings, wishes, folder)
    for field in ("nodes", "rounds", "seed"):
        value = getattr(wishes, field)
        if value is None:
            continue
        at = kind.shortcuts.get(field, field)
        if at.split(".")[0] not in kind.model_fields:
            problem = f"hansa {kind.command} has no {field}"
            raise ConfigError(field, value, problem, f"hansa list settings {kind.own_verb()}")
        if "." in at:
            _opened(settings, at)
        put(settings, at.split("."), value)
    for place, nodes in ((settings, kind.shortcuts.get("nodes", "nodes")), (settings, "run.nodes")):
        count = inside(place, nodes)
        if (wishes.nodes is not None or wishes.data is not None) and isinstance(count, int):
            _few(settings["run"] if nodes == "run.nodes" else settings, count)
    settings = override(settings, wishes.sets)
    head = {"format": FORMAT, "verb": kind.own_verb()}
    settings = {**head, **{key: one for key, one in settings.items() if key not in head}}
    kind.parse(_absolute(settings, folder))
    return settings, remarks


def write_first(kind: type[SettingsFile], wishes: Wishes, place: Path) -> tuple[Path, list[str]]:
    """Write such a file; (where it is, what a person should know of what was chosen).

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
    settings, remarks = begun(kind, wishes, file.parent)
    text = commented(kind, settings, str(file))
    with atomic_write(file, "w") as handle:
        handle.write(text)
    return file, remarks


def _few(settings: dict[str, Any], nodes: int) -> None:
    """No more at once, and no more neighbours, than so many nodes have; in place."""
    clients = settings.get("clients")
    if isinstance(clients, dict) and isinstance(settings.get("f"), int):
        settings["f"] = max(0, min(settings["f"], (nodes - 1) // 2))  # of robust inference
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
    kind: type[SettingsFile], settings: dict[str, Any], wishes: Wishes, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """(the settings on somebody's data, what a person should know of it)."""
    data, label = wishes.data or "", wishes.label
    at, _ = kind.own_data or ("", "")
    if "/" not in data and data in names("data"):
        if label is not None:
            problem, fix = f"{data} has its own labels", "without --label"
            raise ConfigError("label", label, problem, fix)
        if not at:
            raise needs(kind, OwnData(Path(data), data))
        return put_part(settings, at, {"name": data, **_dealt(settings, at)}), []
    path = Path(data).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(data, names("data"), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        fix = f"{hint}a table ({', '.join((*TEXT, *BINARY))}), or one of hansa list data"
        raise ConfigError("data", data, "there is no such file and no such data set", fix)
    said = str(path) if path.is_absolute() else os.path.relpath(path, folder)
    own = OwnData(path, said, label, wishes.groups, wishes.nodes, wishes.sets)
    if at:
        _opened(settings, at)
    settings = placed(kind, settings, own)
    if at and own.is_table and inside(settings, at):
        raw = _read_rows(kind, settings, wishes, folder)
        if kind.fits and raw is not None:
            part_of(kind.fits)(settings, own, raw)
    return settings, own.remarks


def _opened(settings: dict[str, Any], at: str) -> None:
    """An example that another file names, as the settings in it; in place."""
    group = at.split(".")[0]
    if "." in at and isinstance(settings.get(group), str):
        settings[group] = _read(settings[group])


def _read_rows(
    kind: type[SettingsFile], settings: dict[str, Any], wishes: Wishes, folder: Path
) -> RawSplits | None:
    """The examples as the file will read them: what stands against that is told now."""
    at, _ = kind.own_data or ("", "")
    part = inside(_absolute(override(settings, wishes.sets), folder), at)
    source = DataSource.resolve(part)
    try:
        return source.read()
    except ConfigError as error:
        fix = error.fix
        if error.field == "task":
            fix = f"--set {at}.task=classification, or --set {at}.task=regression"
        elif error.value is None:
            fix = f"--set {at}.{error.field}=COLUMN: {fix}"
        raise ConfigError(f"{at}.{error.field}", error.value, error.problem, fix) from None


def _dealt(settings: dict[str, Any], at: str) -> dict[str, Any]:
    """How the examples were dealt; it may suit others."""
    part = inside(settings, at) or {}
    return {"partition": part["partition"]} if "partition" in part else {}


def _absolute(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    known: dict[str, Any] = written(override(settings), folder.absolute())
    return known
