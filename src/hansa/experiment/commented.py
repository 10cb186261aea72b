"""Settings as a file that explains itself: of each it says what it is and what else it takes."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from hansa.base.component import Component, catalogue, find
from hansa.base.errors import ConfigError
from hansa.base.yamltext import dump_yaml
from hansa.experiment.hints import class_in
from hansa.experiment.settings_file import SettingsFile

WIDTH = 100
_MOST = 8  # names of parts in a comment
_PLAIN = {"format", "verb", "plugins"}


def commented(kind: type[SettingsFile], settings: Mapping[str, Any], file: str) -> str:
    """The text of a file of settings.

    Args:
        kind: whose they are.
        settings: plain data, which stand in the file in this order.
        file: what it will be called.
    """
    verb = kind.own_verb()
    lines = [
        f"# hansa {kind.command} {shlex.quote(file)}",
        f"# Every setting there is, with its default: hansa list settings {verb}",
    ]
    for key in ("format", "verb"):
        if key in settings:
            lines.append(_line(key, settings[key], 0))
    for key, value in settings.items():
        if key not in _PLAIN:
            lines += ["", *_setting(kind, key, value, 0)]
    rest = [key for key in kind.model_fields if key not in settings and key not in _PLAIN]
    if rest:
        lines += ["", "# What else can be set; each has a default:"]
        for key in rest:
            lines += _wrapped(f"{key}: {_about(kind, key)}", 0, "#   ")
    return "\n".join(lines) + "\n"


def _setting(model: type[BaseModel], key: str, value: Any, depth: int) -> Iterator[str]:
    about = _about(model, key)
    line = _line(key, value, depth)
    inner = _inside(model, key, value)
    opened = inner is not None and len(value) > 1
    if depth and not opened and len(line) + len(about) + 4 <= WIDTH:
        yield f"{line}  # {about}" if about else line
        return
    yield from _wrapped(about, depth, "# ")
    if inner is None or not opened:
        yield from _lines(key, value, depth)
        return
    yield f"{' ' * depth}{key}:"
    for name, one in value.items():
        if name == "name":
            yield _line(name, one, depth + 2)
        else:
            yield from _setting(inner, name, one, depth + 2)


def _inside(model: type[BaseModel], key: str, value: Any) -> type[BaseModel] | None:
    """The class of a part or a group of settings that are written one a line."""
    if not isinstance(value, Mapping) or key not in model.model_fields:
        return None
    info = model.model_fields[key]
    group = class_in(info.annotation)
    if group is None or not issubclass(group, Component):
        return group
    name = value.get("name")
    if name is None:
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        return type(default) if isinstance(default, Component) else None
    try:
        return find(group.kind, name)
    except ConfigError:
        return None


def _about(model: type[BaseModel], key: str) -> str:
    """What a setting is, and what it takes."""
    info = model.model_fields.get(key)
    if info is None:
        return ""
    text, choices = info.description or "", _choices(info.annotation)
    return "; ".join(filter(None, (text, choices)))


def _choices(annotation: Any) -> str:
    part = class_in(annotation)
    parts = [part, *(class_in(one) for one in get_args(annotation))]
    for one in parts:
        if one is not None and issubclass(one, Component) and one.kind:
            names = sorted(catalogue(one.kind))
            more = f" ... (hansa list {one.kind})" if len(names) > _MOST else ""
            return f"one of {', '.join(names[:_MOST])}{more}"
    for one in (annotation, *get_args(annotation)):
        if get_origin(one) is Literal:
            return f"one of {', '.join(map(str, get_args(one)))}"
    return ""


def _line(key: str, value: Any, depth: int) -> str:
    how = {"default_flow_style": True, "width": 10**6, "sort_keys": False, "allow_unicode": True}
    text = dump_yaml({key: value}, **how).strip()
    return f"{' ' * depth}{text[1:-1]}"


def _lines(key: str, value: Any, depth: int) -> list[str]:
    """A setting on one line, or where that would be long each item of it on its own."""
    line, lead = _line(key, value, depth), " " * (depth + 2)
    if len(line) <= WIDTH or not value or isinstance(value, str):
        return [line]
    if isinstance(value, list):
        items = [f"{lead}- {_line('x', item, 0).removeprefix('x: ')}" for item in value]
        return [f"{' ' * depth}{key}:", *items]
    if isinstance(value, Mapping):
        inside = [line for name, one in value.items() for line in _lines(name, one, depth + 2)]
        return [f"{' ' * depth}{key}:", *inside]
    return [line]


def _wrapped(text: str, depth: int, mark: str) -> list[str]:
    lead = " " * depth + mark
    return textwrap.wrap(
        text, WIDTH, initial_indent=lead, subsequent_indent=lead + "  " * (mark != "# ")
    )
