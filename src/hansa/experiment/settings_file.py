"""Files of settings: YAML, plugins, overrides, and errors that name the field."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from hansa.base.checks import explain
from hansa.base.component import Component, find
from hansa.base.errors import ConfigError
from hansa.base.forms import FORMAT, brought_up, number_of
from hansa.base.homes import FILES
from hansa.base.index import settings_files
from hansa.base.modules import load_module
from hansa.base.paths import ModulePath, located_module, located_object, written
from hansa.base.shipped import example_meant, shipped
from hansa.base.yamltext import RepeatedKey, load_yaml
from hansa.engine.settings import Settings

_files: dict[str, type[SettingsFile]] = {}


class SettingsFile(Settings):
    """What a verb is told. ``--set train.optimizer.lr=0.05`` reaches every field.

    A part with a name takes its name alone, and a list of parts takes a single one.
    """

    command: ClassVar[str] = ""
    """The command that runs such a file."""

    begins: ClassVar[str] = ""
    """``module:function`` that begins a run of one: (settings, folder, say, report). ``resume`` of
    its module goes on: (folder, changes, say, report). Empty: no run comes of it."""

    checks: ClassVar[str] = ""
    """``module:function`` that checks settings as far as that goes without running; empty: there is
    none. Like what begins, it is imported late: what it needs takes long."""

    says_verb: ClassVar[bool] = False
    """Whether such a file always names its verb: it is not told by its fields."""

    resumable: ClassVar[tuple[str, ...]] = ()
    """What may be set anew when a run is resumed: the rest would make it another run."""

    sketch: ClassVar[str | Mapping[str, Any]] = ""
    """What ``hansa init VERB`` begins with: the name of an example, or settings that run."""

    own_data: ClassVar[tuple[str, str] | tuple[()]] = ()
    """Where a person's own data goes, and the data source that reads it; empty: not so simple."""

    begun_on: ClassVar[str] = ""
    """``module:function`` (settings of the sketch, :class:`~hansa.experiment.own_data.OwnData`) ->
    settings of a first file on somebody's data, where it takes more than putting them in place."""

    fits: ClassVar[str] = ""
    """``module:function`` (settings, own data, examples as read) that makes a first file's numbers
    those that so many examples can feed, in place."""

    asks: ClassVar[tuple[tuple[str, str], ...]] = (("label", "Which column is to be predicted"),)
    """What a person is asked of a table of his, beside its name; dotted: a setting."""

    needs: ClassVar[str] = ""
    """What such a file begins with instead, where it has no place for a table: ``needs ...``."""

    needs_fix: ClassVar[str] = ""
    """How one comes by that."""

    shortcuts: ClassVar[Mapping[str, str]] = {}
    """What ``nodes``, ``rounds`` and ``seed`` are called here, where it is another name."""

    plugins: tuple[ModulePath, ...] = Field(
        (), description="modules or files with your own components, imported first"
    )
    format: int = Field(
        FORMAT, ge=1, le=FORMAT, description="the form of this file; an older one is brought up"
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if verb := cls.own_verb():
            _files[verb] = cls

    @classmethod
    def own_verb(cls) -> str:
        """The verb whose file this is; none where it is a part of one."""
        return str(cls.model_fields["verb"].default) if "verb" in cls.model_fields else ""

    @classmethod
    def seed_of(cls, settings: Mapping[str, Any]) -> Any:
        """The seed of a run of such settings, which need not be checked yet."""
        return settings.get("seed", cls.model_fields["seed"].default)

    def label(self) -> str:
        """What a run of it is called, before the time, where nobody names its folder."""
        return self.own_verb()

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Self:
        """Checked settings from plain data.

        Raises:
            ConfigError: naming the field, its value and the way out; also where the settings are
                another verb's.
        """
        settings = brought_up(settings, number_of(settings, FORMAT))
        plugins = load_plugins(settings)
        try:
            _refuse_anothers(cls, settings)
            return cls._parsed(settings, plugins)
        except ConfigError as error:
            from hansa.experiment.hints import hinted

            raise hinted(error, cls, settings) from None

    @classmethod
    def _parsed(cls, settings: Mapping[str, Any], plugins: tuple[str, ...]) -> Self:
        named = with_names(cls, settings)
        for field, info in cls.model_fields.items():  # groups first: their errors say which
            group = info.annotation
            if field in named and inspect.isclass(group) and issubclass(group, Settings):
                parse_group(field, group, named[field])
        try:
            return cls.model_validate({**named, "plugins": plugins})
        except ValidationError as error:
            raise explain(error, cls) from None

    @classmethod
    def load(cls, path: Path, overrides: tuple[str, ...] = (), **more: Any) -> Self:
        """Settings from YAML, with ``key=value`` overrides and non-empty keywords on top.

        Paths in the file are relative to its folder, those in the overrides to the working folder.
        """
        return cls.changed(read_settings_file(path), overrides, **more)

    @classmethod
    def changed(
        cls, settings: Mapping[str, Any], overrides: tuple[str, ...] = (), **more: Any
    ) -> Self:
        """Settings that somebody wrote, with such changes on top.

        A part in another's place begins with its own settings; a :class:`HansaWarning` says what
        was written of the other and is no longer so.
        """
        chosen = cls.parse(override(settings, overrides, **more))
        if overrides:
            from hansa.experiment.left_out import warn_of_left_out

            warn_of_left_out(settings, chosen)
        return chosen

    def dump(self) -> dict[str, Any]:
        """Plain data from which :meth:`parse` makes equal settings."""
        return self.model_dump(mode="json")


def read_settings_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; paths in it are relative to its folder.

    Args:
        path: of the file, or where there is none such the bare name of an example.
    """
    path = path.expanduser()
    if not path.exists():
        path = shipped(path) or path
    settings: dict[str, Any] = written(read_yaml(path), path.parent.absolute())
    return settings


def kind_of(settings: Mapping[str, Any]) -> type[SettingsFile]:
    """Whose settings these are: those of their ``verb``, or else of the fields that one has alone.

    Without either they are the first verb's.

    Raises:
        ConfigError: there is no such verb.
    """
    verb = settings.get("verb")
    if verb is not None:
        kind = file_of(verb) if isinstance(verb, str) else None
        if kind is None:
            raise ConfigError("verb", verb, "has no such files", f"one of {', '.join(files())}")
        return kind
    found = file_of(_likely(settings, _fields()))
    assert found is not None
    return found


def _likely(settings: Mapping[str, Any], fields: Mapping[str, set[str]]) -> str:
    """The verb that alone has one of these settings, or else the first."""
    for verb, own in fields.items():
        others = (names for other, names in fields.items() if other != verb)
        if set(settings) & own.difference(*others):
            return verb
    return next(iter(fields))


def file_of(verb: str) -> type[SettingsFile] | None:
    """The kind of file of a verb; the others are imported only where it is not built in."""
    if known := settings_files().get(verb):
        importlib.import_module(known["module"])
        return _files[verb]
    return files().get(verb)


def _fields() -> dict[str, set[str]]:
    """What each kind of file may say, by verb, of those that need not name their verb."""
    if not (known := settings_files()):
        files()  # all of them
    fields = {verb: set(one["settings"]) for verb, one in known.items() if not one["says_verb"]}
    _load_plugged()
    for verb, kind in _files.items():
        if verb not in known and not kind.says_verb:
            fields[verb] = set(kind.model_fields)
    return fields


def files() -> dict[str, type[SettingsFile]]:
    """The kinds of files by their verb: built in, from entry points, and of loaded plugins."""
    for module in FILES:
        importlib.import_module(module)
    _load_plugged()
    return dict(sorted(_files.items(), key=lambda item: item[1].__module__ != FILES[0]))


def commands() -> dict[str, tuple[str, bool]]:
    """Of each kind of file by verb, its command, and whether a first one can be begun."""
    if not (known := settings_files()):
        files()  # all of them
    _load_plugged()
    others = {verb: kind for verb, kind in _files.items() if verb not in known}
    built = {verb: (one["command"], one["begun"]) for verb, one in known.items()}
    return built | {verb: (kind.command, bool(kind.sketch)) for verb, kind in others.items()}


def _load_plugged() -> None:
    for entry in importlib.metadata.entry_points(group="hansa.file"):
        entry.load()


def _refuse_anothers(cls: type[SettingsFile], settings: Mapping[str, Any]) -> None:
    """Name the right command where a file went to the wrong one."""
    unknown = [key for key in settings if key not in cls.model_fields]
    if not unknown and settings.get("verb") in (None, cls.own_verb()):
        return
    if settings.get("verb") is None:
        fields = _fields()
        if not fields[_likely(settings, fields)].intersection(unknown):
            return  # nobody's, a slip: whose it is not need not be imported
    kind = kind_of(settings)
    if kind is cls or issubclass(cls, kind):
        return
    theirs = [key for key in unknown if key in kind.model_fields]
    field = "verb" if settings.get("verb") is not None else theirs[0]
    value = settings[field] if isinstance(settings[field], str | int | float) else None
    problem = f"belongs to a file of hansa {kind.command}, and this is hansa {cls.command}"
    raise ConfigError(field, value, problem, f"hansa {kind.command} FILE")


def _is_list_of_parts(annotation: Any) -> bool:
    inside = get_args(annotation)
    if inside and get_origin(inside[0]) is Annotated:
        inside = (get_args(inside[0])[0], *inside[1:])
    listed_ = get_origin(annotation) is tuple and len(inside) == 2 and inside[1] is ...
    return listed_ and inspect.isclass(inside[0]) and issubclass(inside[0], BaseModel)


def with_names(model: type[BaseModel], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which a component that was given without a name is the default one, changed.

    So ``train.optimizer.lr=0.1`` alone is the default optimizer with another learning rate. And a
    single part stands for a list of one.
    """
    result = dict(settings)
    for field, info in model.model_fields.items():
        value = result.get(field)
        if _is_list_of_parts(info.annotation) and isinstance(value, str | Mapping):
            result[field] = [value]
            continue
        if not isinstance(value, Mapping) or info.is_required():
            continue
        default = info.get_default(call_default_factory=True)
        if isinstance(default, Component):
            value = dict(value) if "name" in value else {**default.dump(), **value}
            with contextlib.suppress(ConfigError):  # an unknown name is reported when it is parsed
                value = with_names(find(default.kind, located_object(value["name"])), value)
        elif isinstance(default, Settings):
            value = with_names(type(default), value)
        result[field] = value
    return result


def parse_group(field: str, group: type[Settings], value: Any) -> None:
    """Raise the group's own error under its name in the run file."""
    try:
        group.model_validate(value)
    except ConfigError as error:
        raise error.under(field) from None
    except ValidationError as error:
        raise explain(error, group).under(field) from None


def load_plugins(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Import the plugins that settings name, and say where they are.

    Raises:
        ConfigError: one cannot be imported.
    """
    plugins = tuple(map(located_module, listed(settings.get("plugins") or ())))
    for plugin in plugins:
        try:
            load_module(plugin)
        except ConfigError as error:
            if error.field != "name":
                raise
            raise ConfigError("plugins", plugin, error.problem, error.fix) from None
    return plugins


def listed(plugins: Any) -> tuple[str, ...]:
    """Names of plugins, also where only one was given.

    Raises:
        ConfigError: they are no names.
    """
    names = (plugins,) if isinstance(plugins, str) else plugins
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError("plugins", plugins, "is not a list of modules or files", "[mine.py]")
    return tuple(names)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        settings = load_yaml(text)
    except FileNotFoundError:
        example = example_meant(path)
        fix = f"hansa init {example} writes it here" if example else "check the path"
        raise ConfigError("file", str(path), "there is no such file", fix) from None
    except IsADirectoryError:
        inside = path / "config.yaml"  # of a run
        problem = "is the folder of a run, not a file" if inside.is_file() else "is a folder"
        fix = f"settings of a run as a file: {inside}" if inside.is_file() else "a file NAME.yaml"
        raise ConfigError("file", str(path), problem, fix) from None
    except RepeatedKey as error:
        raise ConfigError("file", str(path), "says a thing twice", str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        fix = "spaces where the tab is" if "'\\t'" in str(error) else ""
        raise ConfigError("file", str(path), f"cannot be read: {error}", fix) from None
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        meant = re.match(r"\s*(\w+):(\S+)\s*$", text.splitlines()[0])
        fix = f"a space after each colon: {meant[1]}: {meant[2]}" if meant else "see hansa list"
        raise ConfigError("file", str(path), "is not a mapping of settings", fix)
    return settings


def override(
    settings: Mapping[str, Any], overrides: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    """Settings with each ``dotted.key=value`` (value in YAML) and non-None keyword put in."""
    result = _copy(settings)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError("set", text, "is not key=value", "--set train.optimizer.lr=0.05")
        try:
            parsed = load_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError("set", text, f"the value is not YAML: {error}") from None
        # YAML 1.1 takes 1e-3 (without a dot) for text; nobody who writes it means that.
        if isinstance(parsed, str):
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        put(result, key.strip().split("."), parsed)
    result.update({key: value for key, value in more.items() if value is not None})
    return result


def put(target: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value into settings, in place, under its dotted name's words.

    Raises:
        ConfigError: one of the words is a setting that holds no others.
    """
    for part in path[:-1]:
        inner = target.get(part)
        if isinstance(inner, str):  # a component written as its bare name
            inner = {"name": inner}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise ConfigError("set", ".".join(path), f"{part} is not a group of settings")
        target[part] = inner
        target = inner
    if path[-1] == "name" and target.get("name") not in (None, value):
        target.clear()  # another component: the old one's settings do not fit it
    target[path[-1]] = value


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(inner) for inner in value]
    return value
