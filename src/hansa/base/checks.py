"""Settings that are refused: numbers that are yes or no, and what pydantic complains of."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hansa.base.complaints import place, said
from hansa.base.errors import ConfigError


def refuse_booleans(cls: type[BaseModel], settings: Any) -> None:
    """Refuse yes and no for numbers: nobody who writes ``rounds: yes`` means 1.

    Raises:
        ConfigError: naming the field.
    """
    for field, value in settings.items() if isinstance(settings, Mapping) else ():
        if isinstance(value, bool) and field in cls.model_fields:
            kinds = {
                cls.model_fields[field].annotation,
                *get_args(cls.model_fields[field].annotation),
            }
            if kinds & {int, float} and kinds <= {int, float, str, type(None)}:
                raise ConfigError(field, value, "is yes or no, and a number is needed", "a number")


def explain(error: ValidationError, cls: type[BaseModel]) -> ConfigError:
    """pydantic's first complaint as a :class:`ConfigError` (the others follow in its text)."""
    first, *rest = error.errors(include_url=False)
    path = place(first, cls)
    field = ".".join(path)
    value = first.get("input")
    problem, fix = said(first), ""
    if first["type"] == "extra_forbidden":
        inside = _field(cls, path)[2] or cls  # the group that it was said of
        settings = list(inside.model_fields)
        near = difflib.get_close_matches(path[-1], settings, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        fix = f"{hint}settings: {', '.join(settings) or 'none'}"
    elif first["type"] in ("model_type", "model_attributes_type"):
        inside = _field(cls, path)[2] or cls
        fix = f"a mapping with some of {', '.join(inside.model_fields)}"
    else:
        name, fix, _ = _field(cls, path)
        fix = f"{name} is: {fix}" if fix else ""
    if isinstance(value, Mapping):
        value = None
    others: dict[str, list[str]] = {field: [problem]}
    for other in rest:
        problems = others.setdefault(".".join(place(other, cls)), [])
        if said(other) not in problems:
            problems.append(said(other))
    problem = ", and ".join(others.pop(field))
    for name, problems in others.items():
        fix += f"\n  also: {name}: {', and '.join(problems)}"
    return ConfigError(field, value, problem, fix.strip())


def _field(cls: type[BaseModel], path: list[str]) -> tuple[str, str, type[BaseModel] | None]:
    """(name, description, group) of the innermost setting on a path that is one of a group."""
    group: type[BaseModel] | None = cls
    names: list[str] = []
    text = ""
    for part in path:
        if group is None or part not in group.model_fields:
            break
        field = group.model_fields[part]
        names, text = [*names, part], field.description or text
        kinds = (field.annotation, *get_args(field.annotation))
        groups = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        group = groups[0] if groups else None
    return ".".join(names), text, group
