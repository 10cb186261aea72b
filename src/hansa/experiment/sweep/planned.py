"""What a sweep is going to run: every setting with every seed, checked, and what cannot be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.paths import short
from hansa.base.yamltext import in_a_line
from hansa.experiment.hints import takes_list
from hansa.experiment.left_out import warn_of_left_out
from hansa.experiment.settings_file import SettingsFile, kind_of, load_plugins, put
from hansa.experiment.sweep.space import Changes, changes_of, how_many
from hansa.experiment.sweep.sweep_file import SEED, SweepFile
from hansa.experiment.sweep.values import Range, Values
from hansa.report.grid import Grid

_LONGEST = 80  # characters of a setting's name, which is that of a folder
_LISTED = 12  # settings that cannot work, of which more are only counted


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep.

    Attributes:
        changes: what makes it of the file, by dotted name.
        chosen: the settings that come of it, with the first seed.
        name: of its folders, without the seed; of what differs within the sweep.
        words: what differs, for people.
    """

    changes: Changes
    chosen: SettingsFile
    name: str
    words: str


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: a setting and a seed."""

    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return "-".join(filter(None, (self.setting.name, f"seed-{self.seed}")))

    @property
    def words(self) -> str:
        """What it is, for people."""
        return ", ".join(filter(None, (self.setting.words, f"seed {self.seed}")))

    def settings(self) -> dict[str, Any]:
        """Its settings as plain data."""
        return {**self.setting.chosen.dump(), SEED: self.seed}


@dataclass(frozen=True)
class Refused:
    """A setting that cannot work, and why."""

    words: str
    error: ConfigError


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is going to run.

    Attributes:
        kind: of the file that is swept.
        varied: the settings that differ, by dotted name.
        refused: what cannot work.
        reach: figures of which the table says what it took to reach them.
    """

    kind: type[SettingsFile]
    varied: tuple[str, ...]
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    refused: tuple[Refused, ...]
    reach: tuple[str, ...] = ()

    @property
    def runs(self) -> list[PlannedRun]:
        """Every run; all settings with the first seed come first, so that each is seen early."""
        return [PlannedRun(setting, seed) for seed in self.seeds for setting in self.settings]


def planned(sweep: SweepFile) -> SweepPlan:
    """Every setting of a sweep, checked as far as its file says.

    Raises:
        ConfigError: what is swept leaves no run, or the values of a setting or a seed cannot be.
    """
    base = sweep.run
    load_plugins(base)
    kind = kind_of(base)
    if not kind.begins or SEED not in kind.model_fields:
        problem = f"is of hansa {kind.command}, which leaves no run"
        raise ConfigError("run", kind.own_verb(), problem, "a file of hansa learn, combine ...")
    grid, together, random = sweep.spaces()
    seeds = sweep.seeds_from(_own_seed(kind, base))
    runs = len(seeds) * how_many(grid, together, random, sweep.samples)
    if runs > sweep.most:
        fix = f"--most {runs}, or a part of them: --random KEY=VALUES --samples 20"
        raise ConfigError("most", sweep.most, f"runs at most, and these are {runs:,}", fix)
    every = changes_of(grid, together, random, sweep.samples, sweep.seed)
    if not every:
        raise ConfigError("grid", None, "makes no setting", "a value at least")
    varied = tuple(f for f in every[0] if _varies(f, every, random))
    _check_lists(kind, sweep, base, every[0])
    settings: dict[str, Setting] = {}
    refused = []
    for changes in every:
        apart = {field: changes[field] for field in varied}
        try:
            chosen = kind.parse({**changed(base, changes), SEED: seeds[0]})
        except ConfigError as error:
            refused.append(Refused(in_words(apart or changes), error))
        else:
            setting = Setting(changes, chosen, folder_name(apart), in_words(apart))
            settings.setdefault(repr(chosen.dump()), setting)  # 1 and 1.0 may come to the same
    warn_of_left_out(base, *(setting.chosen for setting in settings.values()))
    plan = SweepPlan(kind, varied, tuple(settings.values()), seeds, tuple(refused), sweep.reach)
    for run in plan.runs[:: max(1, len(plan.settings))]:  # the first setting, with every seed
        kind.parse(run.settings())
    return plan


def changed(base: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Settings with some of them replaced, by dotted name."""
    result = deepcopy(dict(base))
    for field, value in changes.items():
        put(result, field.split("."), deepcopy(value))
    return result


def refusal(refused: Sequence[Refused], settings: int) -> ConfigError:
    """What is told of settings that cannot work.

    Args:
        settings: how many there are in all.
    """
    reasons: dict[str, list[str]] = {}
    for one in refused:
        reasons.setdefault(str(one.error), []).append(one.words)
    if len(reasons) == 1 and len(refused) == settings:
        return refused[0].error
    lines = []
    for reason, words in list(reasons.items())[:_LISTED]:
        few = " | ".join(words[:3]) + f" and {len(words) - 3} more" * (len(words) > 3)
        lines.append(f"  {few}\n    {reason}".replace("\n  fix", "\n      fix"))
    rest = len(reasons) - _LISTED
    lines += [f"  and {rest} more"] * (rest > 0)
    problem = f"{len(refused)} of {settings} cannot work:\n" + "\n".join(lines)
    fix = "other values, or --skip-refused to run the rest"
    return ConfigError("settings", None, problem, fix)


def plan_facts(plan: SweepPlan) -> dict[str, Any]:
    """What would run, as plain data."""
    return {
        "verb": plan.kind.own_verb(),
        "settings": [{"setting": one.words, "changes": one.changes} for one in plan.settings],
        "seeds": list(plan.seeds),
        "runs": [run.name for run in plan.runs],
        "refused": [{"setting": one.words, "error": str(one.error)} for one in plan.refused],
    }


def plan_table(plan: SweepPlan) -> Grid:
    """What would run, a row a setting."""
    fields = list(plan.varied)
    seeds = " ".join(map(str, plan.seeds))
    rows = [[*(as_text(one.changes[f]) for f in fields), seeds] for one in plan.settings]
    return Grid("Settings", [*fields, "seeds"], rows, words=len(fields) + 1)


def in_words(changes: Changes) -> str:
    """What makes a setting, such as ``algorithm=dpsgd, train.optimizer.lr=0.1``."""
    return ", ".join(f"{field}={as_text(value)}" for field, value in changes.items())


def folder_name(changes: Changes) -> str:
    """What makes a setting as the name of a folder: that of no other setting of the sweep."""
    parts: list[str] = []
    whole = True
    for field, value in changes.items():
        last = field.rpartition(".")[2]
        if isinstance(value, Mapping):
            inside = [word for key, own in value.items() for word in (key, as_text(own))]
            parts += inside[1:] if inside[:1] == ["name"] else [last, *inside]
            whole = False  # what is text in there, and what a number, is not told
        else:
            parts += [short(as_text(value))] if isinstance(value, str) else [last, as_text(value)]
            whole &= not (isinstance(value, str) and "-" in value)  # as if it were two
    words = "-".join(parts)
    name = re.sub(r"[^\w.+]+", "-", words).strip("-.")
    if not whole or name != words or len(name) > _LONGEST:  # something of it is lost
        digest = hashlib.blake2b(in_words(changes).encode(), digest_size=3).hexdigest()
        name = f"{name[:_LONGEST]}-{digest}"
    return name


def as_text(value: Any) -> str:
    """A value as it would be written down, on one line."""
    if isinstance(value, str):
        return str(value)
    return in_a_line(value)


def _varies(field: str, every: Sequence[Changes], random: Mapping[str, Range | Values]) -> bool:
    """Whether a setting differs; one that is drawn would with more samples: names stay."""
    of = random.get(field)
    if isinstance(of, Range) or (of is not None and len(of.values) > 1):
        return True
    return len({repr(one[field]) for one in every}) > 1


def _own_seed(kind: type[SettingsFile], base: Mapping[str, Any]) -> int:
    own = kind.seed_of(base)
    if not isinstance(own, int) or isinstance(own, bool):
        raise ConfigError(f"run.{SEED}", own, "is no whole number", "such as 1")
    return own


def _check_lists(
    kind: type[SettingsFile], sweep: SweepFile, base: Mapping[str, Any], first: Changes
) -> None:
    """Refuse a list of which nobody can tell whether it is one value or several."""
    grid, together, random = sweep.spaces()
    settings = changed(base, first)
    for name, of in (("grid", grid), ("zip", together), ("random", random)):
        for field, values in of.items():
            if not getattr(values, "listed", False) or not takes_list(kind, settings, field):
                continue
            given = getattr(sweep, name)[field]
            problem = "may be one value, as the setting is a list itself, or several"
            one, several = as_text([list(given)]), as_text([[value] for value in given])
            raise ConfigError(field, list(given), problem, f"one: {one}; several: {several}")
