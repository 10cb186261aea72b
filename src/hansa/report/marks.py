"""What has to stand on all that comes of a run which is not what it may be taken for.

A run whose trusted hardware was simulated says so wherever something of it may be shown alone:
in each line of its diary, each file of figures, each checkpoint, and each title.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TEE = "tee"


def marks_of(settings: Any) -> dict[str, Any]:
    """Facts about a run with these settings that stand on all that comes of it; often none.

    Args:
        settings: a file's, or anything with a ``runtime``.
    """
    channel = getattr(getattr(settings, "runtime", None), "channel", None)
    mark = getattr(channel, "mark", "")
    return {TEE: mark, "is_hardware": False} if mark else {}


def marks_in(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The same, as a run's environment has them."""
    return {name: environment[name] for name in (TEE, "is_hardware") if environment.get(TEE)}


def words(marks: Mapping[str, Any]) -> str:
    """What is put behind titles, and before lines; empty without marks."""
    return f"tee: {marks[TEE]}" if marks else ""


def warning(marks: Mapping[str, Any]) -> str:
    """What a person is told at the start."""
    return (
        f"{words(marks)}: no hardware stands behind this run's evidence, and it protects nothing; "
        "all that comes of it says so"
    )


def marked(name: str, marks: Mapping[str, Any]) -> str:
    """A name or title with the marks behind it."""
    return f"{name} ({words(marks)})" if marks else name


def mark_titles(charts: Iterable[Any], marks: Mapping[str, Any]) -> None:
    """Put the marks behind the titles of charts."""
    for chart in charts if marks else ():
        if isinstance(chart.title, str):
            chart.title = marked(chart.title, marks)
        else:
            chart.title.text = marked(chart.title.text, marks)
