"""Every part with its settings, and every section of every file of settings, from their classes."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables import Ready, cell, table

REFERENCE = Path(__file__).parents[1] / "reference"


def _default(item: dict[str, Any]) -> str:
    from hansa.cli.listing import _shown

    return "required" if item["required"] else f"`{_shown(item['default']) or ' '}`"


@functools.cache
def _pages() -> dict[str, str]:
    """On which page of the reference each kind of part stands."""
    return {
        kind: page.name
        for page in sorted(REFERENCE.glob("parts_*.md"))
        for kinds in re.findall(r"generated: parts (.+?) -->", page.read_text(encoding="utf-8"))
        for kind in kinds.split()
    }


def _kinds(annotation: Any) -> Iterator[str]:
    """The kinds of parts that an annotation takes."""
    from hansa.base.component import Component

    if isinstance(annotation, type) and issubclass(annotation, Component):
        yield annotation.kind
    for one in typing.get_args(annotation):
        yield from _kinds(one)


def _type(words: str, model: Any, setting: str) -> str:
    """A setting's type; kinds of parts in it lead to where they stand."""
    *groups, field = setting.split(".")
    for group in groups:
        model = type(model.model_fields[group].get_default(call_default_factory=True))
    kinds = set(_kinds(model.model_fields[field].annotation)) & set(_pages())
    if not kinds:
        return f"`{words}`"
    pieces = [
        f"[`{piece}`]({_pages()[piece]}#{piece})" if piece in kinds else piece
        for piece in re.split(r"(\w+)", words)
    ]
    return Ready("".join(pieces))


def _settings(model: Any, base: Any = None) -> list[str]:
    """A table of settings; without those that are just the same in ``base``."""
    from hansa.cli.listing import settings_of

    common = settings_of(base) if base else []
    rows = [
        [
            f"`{item['setting']}`",
            _type(item["type"], model, item["setting"]),
            _default(item),
            item["help"],
        ]
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
