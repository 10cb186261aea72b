"""Names of nodes in a file made into the numbers 0 to n - 1 of a run, and never two into one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def numbering(
    names: Sequence[str], nodes: int, places: Mapping[str, str]
) -> tuple[dict[str, int], str]:
    """The number of each name, and a remark where it is not the name itself.

    Whole numbers are numbers; if they go from 1 to ``nodes``, each is one less. ``n0``, ``n1`` ...
    (one prefix, then whole numbers from 0 on) are the numbers behind the prefix. Other names are
    numbered in sorted order, numbers in them by value: ``city 2`` before ``city 10``.

    Raises:
        ValueError: two names would be one number, or numbers and other names are mixed.
    """
    distinct = list(dict.fromkeys(names))
    plain = [name for name in distinct if name.isdecimal() and name.isascii()]
    if len(plain) == len(distinct):
        numbers = _apart({name: int(name) for name in distinct})
        values = sorted(numbers.values())
        if values and values[0] >= 1 and values[-1] == nodes:
            remark = f"nodes are numbered from 1 in the file: its node 1 is node 0, {nodes} is "
            return {name: k - 1 for name, k in numbers.items()}, remark + f"{nodes - 1}"
        return numbers, ""
    if plain:
        other = next(name for name in distinct if name not in plain)
        raise ValueError(
            f"some nodes are numbers ({plain[0]!r}) and some are not ({other!r}"
            f"{places.get(other, '')}); name them alike"
        )
    parts = [re.fullmatch(r"(.*?)(\d+)", name, re.DOTALL) for name in distinct]
    prefixes = {part[1] for part in parts if part}
    if all(parts) and len(prefixes) == 1:
        behind = _apart({part[0]: int(part[2]) for part in parts if part})
        if max(behind.values()) < nodes:
            return behind, "" if prefixes == {"n"} else _shown(behind)
    order = sorted(distinct, key=_natural)
    numbers = {name: k for k, name in enumerate(order)}
    return numbers, _shown(numbers)


def _apart(found: dict[str, int]) -> dict[str, int]:
    taken: dict[int, str] = {}
    for name, k in found.items():
        if k in taken:
            raise ValueError(f"nodes {taken[k]!r} and {name!r} would both be node {k}")
        taken[k] = name
    return found


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]


def _shown(found: dict[str, int]) -> str:
    pairs = [f"{name!r} is node {k}" for name, k in sorted(found.items(), key=lambda item: item[1])]
    return ", ".join(pairs[:3]) + (f" ... {pairs[-1]}" if len(pairs) > 3 else "")
