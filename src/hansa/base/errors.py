"""Errors that a person can act on: what was wrong, where, and the way out."""

from __future__ import annotations

import errno
import os
from typing import Any


class HansaError(Exception):
    """Base of every error that hansa raises on purpose.

    Attributes:
        folder: the run folder in which it happened, with what was measured, or None.
        summary: what the run had come to.
    """

    folder: Any = None
    summary: dict[str, Any] | None = None


class HansaWarning(UserWarning):
    """What a person should know, though the work goes on."""


class ConfigError(HansaError):
    """A setting that cannot work.

    Args:
        field: dotted name of the setting, such as ``topology.degree``.
        value: what it was set to.
        problem: why that cannot work, as the end of a sentence.
        fix: what to write instead.
    """

    def __init__(self, field: str, value: Any, problem: str, fix: str = "") -> None:
        self.field, self.value, self.problem, self.fix = field, value, problem, fix
        super().__init__(field, value, problem, fix)

    def under(self, parent: str | None) -> ConfigError:
        """The same error with ``parent`` put before the field's name."""
        if not parent:
            return self
        field = f"{parent}.{self.field}" if self.field else parent
        return type(self)(field, self.value, self.problem, self.fix)

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        fix = f"\n  fix: {self.fix}" if self.fix else ""
        return f"{self.field or 'settings'}{shown}: {self.problem}{fix}"


class OwnCodeError(ConfigError):
    """An error in code that the user brought along: a model, a data set, a plugin."""


class DataError(HansaError):
    """A data set that is missing, corrupt, or not of the expected form."""


class CheckpointError(HansaError):
    """A checkpoint or run folder that is missing, corrupt or half-written."""


class DiskError(HansaError, OSError):
    """A file that could not be written: names it and the way out.

    Args:
        path: the file or its folder.
        error: what the system said.
    """

    def __init__(self, path: str | os.PathLike[str], error: OSError) -> None:
        self.path = os.fspath(path)
        super().__init__(error.errno, error.strerror or str(error), self.path)

    def __str__(self) -> str:
        full = self.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "check the disk and its permissions"
        return f"{self.path}: cannot be written ({self.strerror}); {fix} and try again"


class WireError(HansaError):
    """A frame or an encoded message that is malformed, truncated or too long."""


class RunError(HansaError):
    """A run that had to stop: names the node, the round and the phase where that is known.

    ``repeats``: whether going on would lead to the same error again.
    """

    def __init__(
        self,
        problem: str,
        *,
        node: int | None = None,
        round: int | None = None,
        phase: str = "",
        repeats: bool = False,
    ) -> None:
        self.problem, self.node, self.round, self.phase = problem, node, round, phase
        self.repeats = repeats
        super().__init__(problem)

    def __str__(self) -> str:
        where = [
            f"{label} {value}"
            for label, value in (("node", self.node), ("round", self.round), ("phase", self.phase))
            if value not in (None, "")
        ]
        return f"{', '.join(where)}: {self.problem}" if where else self.problem


class Diverged(RunError):
    """A loss or a model that is no longer finite."""
