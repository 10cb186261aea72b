"""Whose run a folder is, for those who were given it in the place of another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.errors import CheckpointError
from hansa.experiment.settings_file import file_of
from hansa.report import RunFolder
from hansa.report.folder import is_run


def command_of(config: Mapping[str, Any]) -> str:
    """The command whose run has these settings, as it is typed after ``hansa``."""
    kind = file_of(str(config.get("verb") or "learn"))
    return kind.command if kind is not None else str(config["verb"])


def whose(path: Path) -> str:
    """The command whose run a folder is; empty where it is no run, or a damaged one."""
    if not is_run(path):
        return ""
    try:
        return command_of(RunFolder.open(path).config)
    except CheckpointError:
        return ""


def made_of(config: Mapping[str, Any]) -> str:
    """The run of another verb that one was made of, where its settings name one."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        named = part.get("run")
        if isinstance(named, str) and whose(Path(named)):
            return named
    return ""
