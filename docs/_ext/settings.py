"""Every part with its settings, and every section of every file of settings, from their classes."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from tables import cell, table


def _default(item: dict[str, Any]) -> str:
    from hansa.cli.listing import _shown

    return "required" if item["required"] else f"`{_shown(item['default']) or ' '}`"


def _settings(model: Any, base: Any = None) -> list[str]:
    """A table of settings; without those that are just the same in ``base``."""
    from hansa.cli.listing import settings_of

    common = settings_of(base) if base else []
    rows = [
        [f"`{item['setting']}`", f"`{item['type']}`", _default(item), item["help"]]
        for item in settings_of(model)
        if item not in common
    ]
    return table(["setting", "type", "default", ""], rows)


def parts(*kinds: str) -> str:
    """A section a kind of part, and in it each part: what it is, its paper, its settings."""
    from hansa.base.component import catalogue

    lines: list[str] = []
    for kind in kinds:
        found = catalogue(kind)
        base = next(c for c in next(iter(found.values())).__mro__ if vars(c).get("kind"))
        lines += [f"## {kind}", "", cell(base.summary()), ""]
        if common := _settings(base):
            lines += ["Each has these settings:", "", *common]
        for name, part in found.items():
            lines += [f"### {name}", "", cell(part.summary()), ""]
            if source := part.reference:
                said = f"[{source}]({source.url})" if source.url else str(source)
                lines += [f"From {said}.", ""]
            lines += _settings(part, base)
    return "\n".join(lines)


def _groups(model: Any, seen: set[Any]) -> Iterator[Any]:
    """Groups of settings that stand in a model's fields, or in lists of them, and in theirs."""
    from pydantic import BaseModel

    from hansa.base.component import Component

    def inside(annotation: Any) -> Iterator[Any]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for one in typing.get_args(annotation):
            yield from inside(one)

    for info in model.model_fields.values():
        for group in inside(info.annotation):
            if issubclass(group, Component) or group in seen:
                continue
            seen.add(group)
            # What stands there by default is opened in the model's own table.
            default = None if info.is_required() else info.get_default(call_default_factory=True)
            if not isinstance(default, group):
                yield group
            yield from _groups(group, seen)


def run_files() -> str:
    """A section a file of settings: its settings, and the groups that may stand in it."""
    from hansa.experiment.settings_file import files

    lines: list[str] = []
    for verb, file in files().items():
        lines += [f"## {verb}", "", f"A file of `hansa {file.command}`.", ""]
        lines += _settings(file)
        for group in _groups(file, set()):
            words = (group.__doc__ or "").split("\n\n")[0]
            lines += [f"### {group.__name__} ({verb})", "", cell(words), ""]
            lines += _settings(group)
    return "\n".join(lines)
