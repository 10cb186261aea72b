"""What tells settings apart, in words: choices, and how much only follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hansa.report.comparing import differing, is_seed
from hansa.report.folder import RunFolder

_NAMED = 12


def choices(differences: Mapping[str, Sequence[Any]]) -> tuple[list[str], dict[str, int]]:
    """The settings that were chosen differently, and how many follow from each of these.

    ``algorithm.fanout`` follows from ``algorithm`` where some algorithm here has no such setting
    and all runs of one algorithm have the same. What all runs have is a choice of its own.

    Args:
        differences: by its dotted name a setting's values, one a run; None: it has none.

    Returns:
        The names in their order, and by those from which some follow, how many do.
    """
    own: list[str] = []
    following: dict[str, int] = {}
    for key, values in differences.items():
        above = next((k for k in _above(key) if k in differences), None)
        if above is not None and None in values and _decides(differences[above], values):
            root = next(k for k in reversed(_above(key)) if k in differences)
            following[root] = following.get(root, 0) + 1
        else:
            own.append(key)
    return own, following


def told_apart(folders: Sequence[RunFolder]) -> str:
    """``They differ in algorithm (and 12 settings that follow from it).``; empty where in nothing.

    Args:
        folders: the runs, or the first of each setting. Seeds are left out.
    """
    differences = {k: v for k, v in differing(folders).items() if not is_seed(k)}
    names, following = choices(differences)
    words = [
        f"{name} (and {_many(following[name])} from it)" if name in following else name
        for name in names
    ]
    more = len(words) - _NAMED
    rest = f" and {more} more settings; the page has them all" if more > 0 else ""
    return f"They differ in {', '.join(words[:_NAMED])}{rest}." if words else ""


def _many(count: int) -> str:
    return "1 setting that follows" if count == 1 else f"{count} settings that follow"


def _above(key: str) -> list[str]:
    """``a.b.c``: a.b, a."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def _decides(above: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether runs with one value of the upper setting have one of the lower."""
    of: dict[str, Any] = {}
    return all(of.setdefault(repr(a), v) == v for a, v in zip(above, values, strict=True))
