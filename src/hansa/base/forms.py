"""Forms of run files and run folders: their number, and the way from each to the next.

A run's ``config.yaml`` and a run file may say ``format: N``. What is older is read as if it had
been written today, what is newer is refused. A file that says nothing and was written by hand has
today's form; a folder that says nothing is of the time before the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hansa
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import writing

FORMAT = 3
"""The form that this hansa writes, and the newest that it reads."""


@dataclass(frozen=True)
class Step:
    """From one form to the next.

    Attributes:
        settings: puts older settings into the next form, and leaves alone what has it already.
        files: of a run folder, by their former place and their new one.
    """

    settings: Callable[[dict[str, Any]], dict[str, Any]]
    files: tuple[tuple[str, str], ...] = ()


def _rules(settings: dict[str, Any]) -> dict[str, Any]:
    """An ensemble's rules were called aggregators."""
    if "aggregators" not in settings or "rules" in settings:
        return settings
    unsaid = isinstance(settings.get("clients"), int) or "aggregate" in settings
    if settings["verb"] != "combine" if "verb" in settings else not unsaid:
        return settings  # robust inference has clients and aggregators, and calls them so
    named = {"aggregators": "rules"}
    return {named.get(key, key): value for key, value in settings.items()}


def _loss(settings: dict[str, Any]) -> dict[str, Any]:
    """Messages that get lost were a matter of ``secure_dpsgd``, now they are any run's faults."""
    algorithm = settings.get("algorithm")
    if not isinstance(algorithm, Mapping) or "drop_rate" not in algorithm:
        return settings
    if algorithm.get("name") != "secure_dpsgd":  # somebody's own, who may call a setting so
        return settings
    rest = {key: value for key, value in algorithm.items() if key != "drop_rate"}
    moved = {**settings, "algorithm": rest}
    faults = settings.get("faults") or {}
    if (rate := algorithm["drop_rate"]) and isinstance(faults, Mapping):
        moved["faults"] = {**faults, "loss": rate}
    return moved


STEPS: dict[int, Step] = {
    1: Step(_rules, (("ensemble/aggregator.safetensors", "ensemble/rule.safetensors"),)),
    2: Step(_loss),
}
"""By the form that each begins at."""


def number_of(settings: Mapping[str, Any], unsaid: int) -> int:
    """The form of settings.

    Args:
        unsaid: that of those which do not say.

    Raises:
        ConfigError: it is no number, or newer than this hansa knows.
    """
    number = settings.get("format", unsaid)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ConfigError("format", number, "is no number of a form", f"leave it out, or {FORMAT}")
    if number > FORMAT:
        problem = f"is newer than hansa {hansa.__version__}, which reads up to {FORMAT}"
        raise ConfigError("format", number, problem, "pip install --upgrade hansa")
    return number


def brought_up(settings: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Settings of a form in today's; what they say stays as it was, in the order that it had."""
    current = dict(settings)
    for at in range(number, FORMAT):
        current = STEPS[at].settings(current)
    if "format" in settings or number < FORMAT:
        current["format"] = FORMAT
    return current


def config_today(path: Path, config: dict[str, Any], made_by: object) -> dict[str, Any]:
    """The settings of a run's folder in today's form; nothing on disk changes.

    Args:
        path: the file.
        made_by: the version of hansa that wrote the folder.

    Raises:
        CheckpointError: it is newer than this hansa knows, or the number is none.
    """
    whole = "plugins" in config  # the resolved settings of a verb, not a note of a part of a run
    try:
        number = number_of(config, 1)
    except ConfigError as error:
        problem = f"{path}: {error}"
        if isinstance(error.value, int) and error.value > FORMAT:
            problem = f"{path}: made by hansa {made_by or 'of another time'}, format {error.value};"
            problem += (
                f" hansa {hansa.__version__} reads up to {FORMAT}: pip install --upgrade hansa"
            )
        raise CheckpointError(problem) from None
    return brought_up(config, number) if whole else config


def move_files(folder: Path, number: int) -> list[str]:
    """Give the files of a run's folder their places of today; says what moved.

    Raises:
        DiskError: one cannot be moved.
    """
    moved = []
    for at in range(number, FORMAT):
        for before, now in STEPS[at].files:
            if (folder / before).is_file() and not (folder / now).exists():
                with writing(folder / now):
                    (folder / before).rename(folder / now)
                moved.append(f"{before} is {now}")
    return moved


def lying(file: Path) -> Path:
    """A file of a run's folder, or where only its earlier name is there, that."""
    names = {
        Path(now).name: Path(before).name for step in STEPS.values() for before, now in step.files
    }
    earlier = file.with_name(names.get(file.name, file.name))
    return earlier if earlier.exists() and not file.exists() else file
