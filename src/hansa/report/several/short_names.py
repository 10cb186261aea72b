"""Names that are too long for their place, cut where it does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

_CUT = "…"


def short_names(names: Sequence[str], most: int) -> list[str]:
    """The names, each with at most ``most`` characters where they are still told apart by these.

    The middle is cut, it is the ends that differ; where that is not so, what all begin with.

    Args:
        names: all that stand side by side, each another.
        most: characters, at least 8.

    Returns:
        As many, no two alike; a name that would be taken for another stays as it is.
    """
    cut = [_middle(name, most) for name in names]
    if len(set(cut)) < len(cut):
        letters = zip(*names, strict=False)  # all names' first, all names' second, ...
        same = sum(1 for _ in takewhile(lambda at: len(set(at)) == 1, letters))
        kept = max(1, min(same, most // 3))
        cut = [name[:kept] + _CUT + name[same:] if same > kept + 1 else name for name in names]
        cut = [_middle(name, most) for name in cut]
    return [
        short if cut.count(short) == 1 and short not in set(names) - {name} else name
        for short, name in zip(cut, names, strict=True)
    ]


def _middle(name: str, most: int) -> str:
    """The beginning and, twice as long, the end."""
    if len(name) <= most:
        return name
    end = 2 * (most - 1) // 3
    return name[: most - 1 - end] + _CUT + name[len(name) - end :]
