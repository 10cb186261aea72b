"""What a change leaves out without a word: the settings of a part that another takes the place of.

``--set algorithm.name=scaffold`` over ``{name: fedavg, sampled: 10}`` begins from scaffold's own
settings, for a part's settings need not fit another. So all clients train, and whoever compares
the two has to know.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hansa.base.component import Component
from hansa.base.errors import HansaWarning
from hansa.base.paths import located_object
from hansa.base.yamltext import in_a_line


def warn_of_left_out(before: Mapping[str, Any], *chosen: BaseModel) -> None:
    """Warn of what both parts have and only the one before was given.

    Args:
        before: plain settings, as somebody wrote them.
        chosen: what came of them by changes, which may be several.
    """
    for text in dict.fromkeys(text for one in chosen for text in _left_out(before, one, ())):
        warnings.warn(HansaWarning(text), stacklevel=3)


def _left_out(before: Any, now: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    for field in type(now).model_fields:
        part, said = getattr(now, field), before.get(field)
        said = {"name": said} if isinstance(said, str) else said
        if not isinstance(part, BaseModel) or not isinstance(said, Mapping):
            continue
        here, name = (*path, field), said.get("name")
        if not isinstance(part, Component) or name in (None, type(part).name):
            yield from _left_out(said, part, here)
        elif isinstance(name, str) and located_object(name) != part.dump()["name"]:
            lost = {k: said[k] for k in said if k in type(part).model_fields and k != "name"}
            lost = {k: v for k, v in lost.items() if k not in part.model_fields_set}
            lost = {k: v for k, v in lost.items() if not _is(part.dump()[k], v)}
            if lost:
                dotted = ".".join(here)
                keep = [shlex.quote(f"{dotted}.{k}={in_a_line(v)}") for k, v in lost.items()]
                yield (
                    f"{dotted}: {type(part).name} begins with its own settings, not with those of "
                    f"{name}; to keep them: {' '.join(f'--set {one}' for one in keep)}"
                )


def _is(now: Any, said: Any) -> bool:
    """Whether a setting, as plain data, is what somebody wrote."""
    if isinstance(now, Mapping):
        said = {"name": said} if isinstance(said, str) else said
        return isinstance(said, Mapping) and all(_is(now.get(k), v) for k, v in said.items())
    if isinstance(now, list) and isinstance(said, list | tuple):
        return len(now) == len(said) and all(map(_is, now, said))
    return bool(now == said)
