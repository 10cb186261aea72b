"""A run of any file of settings: checked, begun, gone on with, by what its kind says of itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hansa.experiment.settings_file import SettingsFile
from hansa.report import RunFolder

Say = Callable[..., None]
"""Is told what goes on: a text; or, of runs in rounds, the rounds done and the latest figures."""


def check(chosen: SettingsFile) -> None:
    """All that can be known of settings before a run, of a kind that has such a check.

    Raises:
        ConfigError: a setting that cannot work.
        DataError: the data are missing or damaged.
    """
    if chosen.checks:
        _function(chosen.checks)(chosen)


def begin(chosen: SettingsFile, out: Path | None, say: Say, report: bool = True) -> RunFolder:
    """A run in a new folder, taken to its end.

    Raises:
        HansaError: what the run raises.
    """
    folder: RunFolder = _function(chosen.begins)(chosen, out, say, report)
    return folder


def go_on(
    kind: type[SettingsFile],
    path: Path,
    changes: Mapping[str, Any] | None,
    say: Say,
    report: bool = True,
) -> RunFolder:
    """A run that did not come to its end, taken there.

    Args:
        changes: settings to replace, only among the kind's ``resumable``.

    Raises:
        HansaError: what the run raises.
    """
    module = kind.begins.partition(":")[0]
    folder: RunFolder = importlib.import_module(module).resume(path, changes, say, report)
    return folder


def _function(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
