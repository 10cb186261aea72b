"""The file of a run that is trained and then made to forget: what, from what, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.base.paths import Written, located
from hansa.experiment.own_data import OwnData, needs
from hansa.experiment.runfile import RunFile, run_kind
from hansa.experiment.settings_file import SettingsFile, load_plugins, override, put
from hansa.experiment.sweep.rooting import rooted
from hansa.experiment.sweep.sweep_file import swept_settings

_SEED = "seed"
Given = dict[str, Any] | str


class ForgetFile(SettingsFile):
    """A model learns, forgets, and is measured before and after; for sweeps over either."""

    command: ClassVar[str] = "forget"
    begins: ClassVar[str] = "hansa.forget.forget_run:begin"
    checks: ClassVar[str] = "hansa.forget.forget_run:check"
    says_verb: ClassVar[bool] = True
    begun_on: ClassVar[str] = "hansa.forget.forget_file:begun_on_run"
    needs: ClassVar[str] = "needs a run that was trained"
    needs_fix: ClassVar[str] = (
        "hansa init learn --data FILE --label COLUMN --algorithm quickdrop, run it, then "
        "hansa init forget --data RUN"
    )
    sketch: ClassVar[str | Mapping[str, Any]] = {
        "run": {"name": "digits_quickdrop", "rounds": 20},
        "classes": [9],
        "method": {"name": "quickdrop"},
    }

    verb: Literal["forget"] = Field("forget", description="whose file this is")
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="of the training, and so of all that comes after it"
    )
    run: Given = Field(
        description="what forgets: a run file, an example or an algorithm, trained anew, with "
        "changes as {name: digits_quickdrop, rounds: 20}; or the folder of a run that was trained, "
        "of which a copy forgets"
    )
    classes: tuple[int | str, ...] = Field((), description="what goes: classes, by number or name")
    clients: tuple[int, ...] = Field((), description="what goes: all examples of these clients")
    samples: tuple[int, ...] = Field((), description="what goes: training examples, by index")
    method: Given | None = Field(
        None,
        description="how, of hansa list forgetting; none: shards for a run with several cohorts, "
        "quickdrop for others",
    )
    oracle: bool = Field(
        False, description="also train anew without what goes, and say how far the model is off"
    )
    controls: bool = Field(
        False, description="also run quickdrop with random examples and with noise as its images"
    )
    metrics: tuple[str, ...] = Field(
        (), description="what else is measured, of hansa list metric, besides the run's own"
    )

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Self:
        """Checked settings, with those of the training read from its file.

        Raises:
            ConfigError: naming the field, its value and the way out.
        """
        whole = dict(settings)
        load_plugins(whole)
        for field in ("classes", "clients", "samples", "metrics"):
            if isinstance(whole.get(field), int | str) and not isinstance(whole[field], bool):
                whole[field] = [whole[field]]  # one stands for a list of one, as elsewhere
        if whole.get("run"):
            _learned(whole)
        if whole.get("method") is not None:
            whole["method"] = _method(whole["method"])
        chosen = super().parse(whole)
        if not (chosen.classes or chosen.clients or chosen.samples):
            problem, fix = "nothing is named that is to be forgotten", "classes: [3], clients: [7]"
            raise ConfigError("classes", None, problem, fix)
        return chosen

    @classmethod
    def seed_of(cls, settings: Mapping[str, Any]) -> Any:
        """That of the training, where the file says no other."""
        whole = dict(settings)
        if whole.get("run"):
            _learned(whole)
        return super().seed_of(whole)

    def label(self) -> str:
        """By its method."""
        name = self.method["name"] if isinstance(self.method, Mapping) else "auto"
        return f"forget-{name.rpartition(':')[2]}"

    @property
    def trained(self) -> Path | None:
        """The folder of what is trained already, or None."""
        return Path(self.run) if isinstance(self.run, str) else None

    def learning(self) -> RunFile:
        """The settings of the training.

        Raises:
            ConfigError: they are wrong; names them under ``run``.
        """
        assert isinstance(self.run, Mapping)
        try:
            return RunFile.parse({**self.run, _SEED: self.seed})
        except ConfigError as error:
            raise error.under("run") from None


def _learned(whole: dict[str, Any]) -> None:
    """Read what is trained, in place: its whole settings, or its folder's absolute path."""
    run = whole["run"]
    if isinstance(run, str | Path):
        place = located(run if isinstance(run, Written) else Path(run))
        if place.is_dir():
            own = _seed_of(place)
            if whole.setdefault(_SEED, own) != own:
                problem = f"is not {own}, with which {place} was trained"
                fix = f"run: {place / 'config.yaml'}, which trains it anew with each seed"
                raise ConfigError(_SEED, whole[_SEED], problem, fix)
            whole["run"] = str(place)
            return
        run = {"name": run}
    if not isinstance(run, Mapping):
        return  # told by the field
    changes = dict(run)
    name = changes.pop("name", None)
    try:
        base = swept_settings(name) if name is not None else {}
        load_plugins({**base, **changes})
        settings = override(base)
        for path, value in _leaves(changes):
            put(settings, path, value)
        _check_learned(settings)
    except ConfigError as error:
        raise error.under("run") from None
    settings.setdefault("verb", RunFile.own_verb())
    own = settings.pop(_SEED, RunFile.model_fields[_SEED].default)
    whole.setdefault(_SEED, own)
    whole["run"] = rooted(RunFile, settings)


def _check_learned(settings: Mapping[str, Any]) -> None:
    verb = settings.get("verb", RunFile.own_verb())
    if verb != RunFile.own_verb() or run_kind(settings) is not RunFile:
        problem = "is no training of hansa learn, and can be made to forget by no method here"
        raise ConfigError("verb", str(verb), problem, "a run file of hansa learn")


def _seed_of(place: Path) -> int:
    from hansa.report import RunFolder

    return int(RunFolder.open(place).config.get(_SEED, 1))


def _leaves(changes: Mapping[str, Any], before: tuple[str, ...] = ()) -> list[Any]:
    """Changes as pairs of a path and a value, the name of a part before its settings."""
    pairs: list[Any] = []
    for key in sorted(changes, key=lambda key: key != "name"):
        value = changes[key]
        if isinstance(value, Mapping) and value:
            pairs += _leaves(value, (*before, key))
        else:
            pairs.append(([*before, key], value))
    return pairs


def _method(given: Any) -> dict[str, Any]:
    """A method's whole settings."""
    from hansa.forget.method import Forgetting  # it brings half the engine

    try:
        named = {"name": "quickdrop", **given} if isinstance(given, Mapping) else given
        return Forgetting.resolve(named).dump()
    except ConfigError as error:
        raise error.under("method") from None


def begun_on_run(settings: dict[str, Any], own: OwnData) -> dict[str, Any]:
    """Settings of a first file in which a copy of a trained run forgets its first class.

    Raises:
        ConfigError: it is no run's folder.
    """
    if not own.is_run:
        raise needs(ForgetFile, own)
    return {**settings, "run": own.written, "classes": [0], "method": None}
