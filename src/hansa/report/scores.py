"""Which figures say how good a model is, and how they are read: what metrics say of themselves.

A run folder holds it, since the code of a user's own metric need not be here when a page is drawn;
of the metrics that are, the components are asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from hansa.base.component import catalogue

_told: dict[str, Mapping[str, Any]] = {}


def declare(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Take what a run's metrics say, by figure: see :meth:`hansa.metrics.MetricSet.facts`."""
    _told.update(facts)


def scores(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are metrics' own figures, the one that models are chosen by first."""
    every = _known()
    ranks = {name: every[name]["rank"] for name in names if name in every}
    own = [name for name in every if ranks.get(name) is not None]
    return sorted(own, key=lambda name: ranks[name])


def is_share(name: str) -> bool:
    """Whether a figure is a share of 1, be it of validation, of a client or of an average."""
    return any(facts["share"] for facts in _of(name))


def higher_is_better(name: str) -> bool:
    """Whether more of a figure is better."""
    return any(facts["better"] == "higher" for facts in _of(name))


def direction(name: str) -> str:
    """``higher`` or ``lower``, as better figures are; what is spent is better low; else empty."""
    facts = _of(name)
    if facts:
        return str(facts[0]["better"])
    spent = {"bytes", "time", "seconds", "energy", "battery", "rounds"}
    return "lower" if spent & set(name.split("_")) or name == "round" else ""


def says_how_good(name: str) -> bool:
    """Whether a figure is one of the test or the validation set."""
    stem = name.removeprefix("validation_")
    return any(stem == metric or stem.startswith(f"{metric}_") for metric in _known())


def labelled(name: str) -> str:
    """A name with the metrics' names in it as people write them, such as RMSE."""
    for metric, facts in _known().items():
        if facts.get("label"):
            name = re.sub(rf"(?<![^_ ]){re.escape(metric)}(?![^_ ])", facts["label"], name)
    return name


def _of(name: str) -> list[Mapping[str, Any]]:
    """What the metric says that a figure is of: the longest name that its own holds in words."""
    inside = [metric for metric in _known() if f"_{metric}_" in f"_{name}_"]
    return [_known()[max(inside, key=len)]] if inside else []


def _known() -> dict[str, Mapping[str, Any]]:
    return {**_built_in(), **_told}


@cache
def _built_in() -> dict[str, Mapping[str, Any]]:
    """Metrics that are here. What measures few tasks says more of them than what measures all."""
    metrics: dict[str, Any] = dict(catalogue("metric"))
    return {name: {**one.reading(), "rank": len(one.tasks) - 1} for name, one in metrics.items()}
