"""Counters, gauges and histograms in the text form of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of a histogram's classes."""
Labels = tuple[tuple[str, str], ...]


@dataclass
class _Spread:
    """What a histogram holds for one set of labels."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0


class Figures:
    """What a server counts. A family is described once, then counted by name and labels."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[Labels, float]] = {}
        self._spreads: dict[str, dict[Labels, _Spread]] = {}

    def describe(self, name: str, kind: str, text: str) -> None:
        """Say what a family is: ``counter``, ``gauge`` or ``histogram``, and what it counts."""
        self._families[name] = (kind, text)
        (self._spreads if kind == "histogram" else self._values).setdefault(name, {})

    def add(self, name: str, by: float = 1, **labels: str) -> None:
        """Count."""
        values, key = self._values[name], _key(labels)
        values[key] = values.get(key, 0) + by

    def set(self, name: str, value: float, **labels: str) -> None:
        """Give a gauge its value."""
        self._values[name][_key(labels)] = value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Put a time into a histogram."""
        spread = self._spreads[name].setdefault(_key(labels), _Spread())
        spread.counts[bisect.bisect_left(SECONDS, seconds)] += 1
        spread.total += seconds

    def value(self, name: str, **labels: str) -> float:
        """What a counter or gauge stands at."""
        return self._values[name].get(_key(labels), 0)

    def total(self, name: str) -> float:
        """What a counter stands at, over all labels."""
        return sum(self._values[name].values())

    def text(self) -> str:
        """All families."""
        lines: list[str] = []
        for name, (kind, text) in self._families.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            if kind == "histogram":
                for key, spread in self._spreads[name].items():
                    lines += _histogram(name, key, spread)
            else:
                lines += [f"{name}{_shown(k)} {_number(v)}" for k, v in self._values[name].items()]
        return "\n".join(lines) + "\n"


def _histogram(name: str, key: Labels, spread: _Spread) -> list[str]:
    lines, below = [], 0
    for end, count in zip([*map(str, SECONDS), "+Inf"], spread.counts, strict=True):
        below += count
        lines.append(f"{name}_bucket{_shown((*key, ('le', end)))} {below}")
    return [
        *lines,
        f"{name}_sum{_shown(key)} {spread.total:.9g}",
        f"{name}_count{_shown(key)} {below}",
    ]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _shown(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
