"""Every word that a command line or a run file may hold: names of parts, and settings by command.

It is plain data, so that who completes words as they are typed reads it from a cache.
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Literal, get_args, get_origin

from hansa.base.component import Component, catalogue
from hansa.base.homes import FILES, ROOMS
from hansa.experiment.first_file import kinds as begun
from hansa.experiment.hints import places
from hansa.experiment.settings_file import files


def vocabulary() -> dict[str, Any]:
    """``kinds``: names by kind of part; ``settings``: by command, each with what it may be set to.

    A setting without names to choose from has an empty list. ``begun``: what a file is begun by.
    """
    return {
        "kinds": {kind: sorted(catalogue(kind)) for kind in ROOMS},
        "begun": [*begun()],
        "settings": {kind.command: _settings(kind) for kind in files().values()},
    }


def index_text() -> str:
    """The text of ``hansa/base/index.json``: where every built-in part and file of settings is."""
    parts = {
        kind: {
            name: {"module": part.__module__, "settings": [*part.model_fields]}
            for name, part in catalogue(kind).items()
            if part.__module__.startswith("hansa.")
        }
        for kind in ROOMS
    }
    own = {kind.__module__: (verb, kind) for verb, kind in files().items()}
    written = {
        own[module][0]: {
            "module": module,
            "settings": [*own[module][1].model_fields],
            "says_verb": own[module][1].says_verb,
            "command": own[module][1].command,
            "begun": bool(own[module][1].sketch),
        }
        for module in FILES
    }
    return json.dumps({"files": written, "parts": parts}, indent=1, sort_keys=False) + "\n"


def _settings(kind: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place in places(kind, {}, others=True):
        key, values = ".".join(place.path), _values(place.annotation)
        if place.chosen and found.get(key):
            continue  # several parts have it: the words of the first
        found[key] = values
        part = _part(place.annotation)
        if part is not None:
            found[f"{key}.name"] = values
    return found


def _part(annotation: Any) -> type[Component] | None:
    for one in (annotation, *get_args(annotation)):
        if inspect.isclass(one) and issubclass(one, Component) and one.kind:
            return one
    return None


def _values(annotation: Any) -> list[str]:
    part = _part(annotation)
    if part is not None:
        return sorted(catalogue(part.kind))
    words: list[str] = []
    for one in (annotation, *get_args(annotation)):
        if get_origin(one) is Literal:
            words += map(str, get_args(one))
        elif one is bool:
            words += ["true", "false"]
    return words
