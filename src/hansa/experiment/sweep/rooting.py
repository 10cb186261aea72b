"""Settings told from anywhere: what a file of settings says of paths is of the folder it is in."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hansa.base.component import Component, find
from hansa.base.errors import ConfigError
from hansa.base.paths import locate, located_object
from hansa.experiment.hints import class_in
from hansa.experiment.settings_file import put


def rooted(schema: type[BaseModel], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths, by the parts that are chosen, are absolute; mistakes stay as they are.

    Args:
        schema: whose settings they are.
    """
    result: dict[str, Any] = _plain(locate(schema, settings))
    for field, info in schema.model_fields.items():
        value, kind = result.get(field), class_in(info.annotation)
        if kind is None or not isinstance(value, Mapping):
            continue
        if issubclass(kind, Component):
            default = None if info.is_required() else info.get_default(call_default_factory=True)
            own = type(default) if isinstance(default, Component) else None
            kind = _named(kind.kind, value["name"]) if "name" in value else own
        if kind is not None:
            result[field] = rooted(kind, value)
    return result


def rooted_at(schema: type[BaseModel], settings: Mapping[str, Any], field: str, value: Any) -> Any:
    """What a setting, by its dotted name, would be among ``settings``, rooted likewise."""
    whole, words = deepcopy(dict(settings)), field.split(".")
    try:
        put(whole, words, value)
        whole = rooted(schema, whole)
        for word in words:
            whole = whole[word]
    except (ConfigError, KeyError, TypeError):  # told when the setting is checked
        return value
    return whole


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _named(kind: str, name: Any) -> type[BaseModel] | None:
    with contextlib.suppress(ConfigError):
        return find(kind, located_object(name)) if isinstance(name, str) else None
    return None
