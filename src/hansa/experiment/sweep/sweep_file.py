"""The file of a sweep: what is swept, over which values, with which seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.base.paths import located, located_argument, located_object
from hansa.experiment.runfile import is_file, named
from hansa.experiment.settings_file import (
    SettingsFile,
    kind_of,
    load_plugins,
    read_settings_file,
)
from hansa.experiment.sweep.rooting import rooted, rooted_at
from hansa.experiment.sweep.values import Range, Values, range_of, read_values, values_of

SEED = "seed"
_HOMES = ("grid", "zip", "random")


class SweepFile(SettingsFile):
    """A sweep over the settings of a file of any verb that leaves a run."""

    command: ClassVar[str] = "sweep"
    sketch: ClassVar[str | Mapping[str, Any]] = {
        "run": "digits_dpsgd",
        "grid": {"algorithm": ["dpsgd", "jwins", "choco"], "train.optimizer.lr": [0.02, 0.05]},
        "seeds": 3,
    }
    own_data: ClassVar[tuple[str, str] | tuple[()]] = ("run.data", "file")
    fits: ClassVar[str] = "hansa.experiment.own_data:fit_sweep"
    shortcuts: ClassVar[Mapping[str, str]] = {"nodes": "run.nodes", "rounds": "run.rounds"}
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ("seeds", "samples", "most", "reach")

    verb: Literal["sweep"] = Field("sweep", description="whose file this is")
    run: dict[str, Any] = Field(
        default_factory=dict,
        description="what is swept: a file of settings, an algorithm's name, or settings in place",
    )
    grid: dict[str, Any] = Field(
        {}, description="values by setting, of which all combinations are run"
    )
    zip: dict[str, Any] = Field(
        {}, description="values by setting that go together: the first of all, then the second ..."
    )
    random: dict[str, Any] = Field(
        {}, description="what settings are drawn from: 0.1..0.9, 1..8, log(0.001..0.1) or a list"
    )
    samples: int | None = Field(None, ge=1, description="how often random settings are drawn")
    seeds: int | tuple[int, ...] | None = Field(
        None,
        description="how many seeds each setting has, from that of the run on, or a list of them; "
        "none: the run's own",
    )
    most: int = Field(1000, ge=1, description="runs, of which more are refused")
    reach: tuple[str, ...] = Field(
        (),
        description="figures of which the table says what it took to reach them, such as "
        "accuracy=90%; none: that of until.reaches",
    )
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="names the stream that random settings come from"
    )

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Self:
        """Checked settings, with what is swept read from its file.

        Raises:
            ConfigError: naming the field, its value and the way out.
        """
        whole = dict(settings)
        swept = whole.get("run", {})
        if isinstance(swept, str):
            whole["run"] = swept_settings(swept)
        elif swept is None:
            whole["run"] = {}
        if isinstance(whole.get("reach"), str):
            whole["reach"] = [whole["reach"]]
        for field in ("run", *_HOMES):
            whole[field] = _absolute(whole.get(field) or {})
        chosen = super().parse(_rooted(whole) if isinstance(whole["run"], Mapping) else whole)
        chosen.spaces()
        chosen.seeds_from(0)
        if chosen.reach:
            from hansa.report.several.reaching import target_of  # it brings tables and charts

            for text in chosen.reach:
                target_of(text)
        return chosen

    def spaces(self) -> tuple[dict[str, Values], dict[str, Values], dict[str, Range | Values]]:
        """The values of the grid, of the zip, and what is random.

        Raises:
            ConfigError: naming the setting whose values cannot be.
        """
        for field in _HOMES:
            if SEED in getattr(self, field):
                raise ConfigError(f"{field}.{SEED}", None, "is not swept so", "seeds: 5")
        grid = {key: values_of(f"grid.{key}", value) for key, value in self.grid.items()}
        together = {key: values_of(f"zip.{key}", value, True) for key, value in self.zip.items()}
        drawn = {key: range_of(f"random.{key}", value) for key, value in self.random.items()}
        return grid, together, drawn

    def seeds_from(self, own: int) -> tuple[int, ...]:
        """The seeds of each setting, where the run's own is ``own``.

        Raises:
            ConfigError: there is none, or one twice.
        """
        if self.seeds is None:
            return (own,)
        if isinstance(self.seeds, int):
            if self.seeds < 1:
                raise ConfigError("seeds", self.seeds, "is no number of seeds", "such as 5")
            return tuple(range(own, own + self.seeds))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            problem = "has one twice" if self.seeds else "has none"
            raise ConfigError("seeds", list(self.seeds), problem, "such as [3, 7, 9], or 5")
        return self.seeds


def swept_settings(target: str | Path) -> dict[str, Any]:
    """What is swept: the settings in a file or an example, or of an algorithm's name.

    Raises:
        ConfigError: there is no such file or algorithm.
    """
    if isinstance(target, Path) or is_file(target):
        place = located(target)
        return read_settings_file(place if place.exists() else Path(target))
    return named(target)


def with_options(
    settings: Mapping[str, Any],
    sets: Sequence[str] = (),
    zips: Sequence[str] = (),
    randoms: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """A sweep's settings with those of a command line on top.

    Args:
        sets, zips, randoms: ``key=values`` each, which replace what the file says of the key.
        more: fields of the file, where they are set.

    Raises:
        ConfigError: one is not ``key=values``.
    """
    whole = {**settings, **{key: value for key, value in more.items() if value is not None}}
    homes: dict[str, dict[str, Any]] = {}
    for name in _HOMES:
        home = whole.get(name) or {}
        if not isinstance(home, Mapping):
            problem, fix = "is no mapping", f"{name}: {{train.optimizer.lr: [0.01, 0.05]}}"
            raise ConfigError(name, home, problem, fix)
        homes[name] = dict(home)
    for name, texts in (("grid", sets), ("zip", zips), ("random", randoms)):
        for text in texts:
            key, equals, value = text.partition("=")
            key = key.strip()
            if not equals or not key:
                option = "set" if name == "grid" else name
                raise ConfigError(option, text, "is not key=values", "train.optimizer.lr=0.01,0.05")
            for home in homes.values():
                home.pop(key, None)
            ranged = name == "random" and ".." in value
            homes[name][key] = value.strip() if ranged else read_values(key, value)
    return {**whole, **homes}


def _rooted(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep whose run, and whose values, have the paths that their settings know to be some."""
    run, whole = sweep["run"], dict(sweep)
    load_plugins(run)
    kind = kind_of(run)
    for name in _HOMES:
        if isinstance(sweep[name], Mapping):
            whole[name] = {
                field: [rooted_at(kind, run, field, one) for one in value]
                if isinstance(value, list | tuple)
                else rooted_at(kind, run, field, value)
                for field, value in sweep[name].items()
                if isinstance(field, str)
            } | {field: value for field, value in sweep[name].items() if not isinstance(field, str)}
    return {**whole, "run": rooted(kind, run)}


def _absolute(value: Any) -> Any:
    """Settings in which a path is told from anywhere: the file of a sweep is kept with its runs."""
    if isinstance(value, Mapping):
        return {key: _absolute(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(item) for item in value]
    if not isinstance(value, str):
        return value
    absolute = located_object(value) if ".py:" in value else located_argument(value)
    return value if absolute == value else absolute
