"""Sinks: where a run's figures go beside its folder, round by round.

A sink of one's own is one class in one file, named in the run file as ``plugins`` and ``sinks``::

    @register("lines")
    class Lines(Sink):
        path: Path = Field(description="the file to write")
        _file: Any = PrivateAttr(None)

        def begin(self, run):
            self._file = self.path.open("a")

        def record(self, round, figures):
            print(round, figures, file=self._file, flush=True)

        def end(self, status):
            self._file.close()

Its methods are called one after the other, in a thread of the sink's own: the run waits for none
of them. What they raise is said once, and the sink is left out from then on.
"""

from __future__ import annotations

import contextlib
import importlib.util
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hansa.base.component import Component
from hansa.base.errors import ConfigError


@dataclass(frozen=True)
class Begun:
    """A run that begins or goes on, as a sink is told of it.

    Attributes:
        folder: the run's.
        config: its resolved settings, without those of sinks.
        environment: what it runs on.
        round: after which it goes on; 0 where it begins.
        group: what it is one of, such as a sweep's name; empty: it is alone.
        tags: what makes it among those, by setting.
        kept: what the sink's own ``begin`` gave when the run began, to go on with the same; empty
            where it begins.
    """

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    round: int = 0
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)


_grouped: ContextVar[tuple[str, Mapping[str, str]]] = ContextVar("grouped", default=("", {}))


@contextlib.contextmanager
def grouped(group: str, tags: Mapping[str, str]) -> Iterator[None]:
    """Have sinks of runs that begin or go on meanwhile know what these are among others."""
    token = _grouped.set((group, dict(tags)))
    try:
        yield
    finally:
        _grouped.reset(token)


def group_now() -> tuple[str, Mapping[str, str]]:
    """The group of a run that begins now, and what makes it in there."""
    return _grouped.get()


class Sink(Component, kind="sink"):
    """Takes a run's figures as they are measured."""

    library: ClassVar[str] = ""
    """The module without which it cannot work, and the extra of hansa that brings it."""

    def check(self) -> None:
        """Refuse what cannot work, before anything starts.

        Raises:
            ConfigError: its library is not installed.
        """
        found = importlib.util.find_spec(self.library) if self.library else None
        if self.library and (found is None or found.origin is None):  # a mere folder of that name
            name = type(self).name
            problem = f"needs {self.library}, which is not installed"
            raise ConfigError("name", name, problem, f"pip install 'hansa[{self.library}]'")

    @abstractmethod
    def begin(self, run: Begun) -> Mapping[str, Any] | None:
        """Open what is written to. What is returned (plain data) is there when the run resumes."""

    @abstractmethod
    def record(self, round: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a round: means over nodes, and what is said of the whole run.

        Among them are ``bytes_sent`` (so far, by all) and ``wall_time`` (s since the start). Round
        0 is the initial model.
        """

    def event(self, event: Mapping[str, Any]) -> None:
        """Take a line of the run's diary: its ``time`` (UTC, ISO 8601), its ``kind``, and more."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Close: the run is ``finished``, ``diverged``, ``interrupted`` or ``failed``."""


def flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by dotted name, lists as one text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = value if isinstance(value, int | float | str) else str(value)
    return found
