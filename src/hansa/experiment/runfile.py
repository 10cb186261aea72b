"""The run file: every setting of a run, with its default and a line of help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import find
from hansa.base.errors import ConfigError
from hansa.base.shipped import shipped
from hansa.data import DataSource, Digits
from hansa.engine import (
    Algorithm,
    CheckpointSettings,
    Clock,
    EvaluateSettings,
    Phones,
    Runtime,
    Simulate,
    TrainSettings,
)
from hansa.engine.exchange.faults import Faults
from hansa.engine.links.shaping import Shaping
from hansa.engine.until import UntilSettings
from hansa.ensemble.attacks import Attack
from hansa.experiment.held_back import hold_back_parts
from hansa.experiment.settings_file import SettingsFile, file_of, load_plugins, override
from hansa.models import MLP, Model
from hansa.privacy.privacy import Privacy
from hansa.report.sink import Sink
from hansa.topology import Regular, Topology

if TYPE_CHECKING:
    from hansa.base.streams import Streams
    from hansa.data import Dataset
    from hansa.engine import Job
    from hansa.report import RunFolder


class RunFile(SettingsFile):
    """A run of the learn verb. ``--set train.optimizer.lr=0.05`` reaches every field."""

    command: ClassVar[str] = "learn"
    begins: ClassVar[str] = "hansa.experiment.run:run"
    checks: ClassVar[str] = "hansa.experiment.prepare:prepare"
    forgets: ClassVar[str] = ""
    """What takes data out of a run of another verb, where that is not ``hansa forget``."""
    sketch: ClassVar[str | Mapping[str, Any]] = "digits_dpsgd"
    own_data: ClassVar[tuple[str, str] | tuple[()]] = ("data", "file")
    fits: ClassVar[str] = "hansa.experiment.own_data:fit_run"
    resumable: ClassVar[tuple[str, ...]] = (
        "rounds",
        "until",
        "runtime",
        "checkpoint",
        "sinks",
        "device",
    )

    verb: Literal["learn"] = Field("learn", description="whose file this is")
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="names all random streams; same seed, same result"
    )
    nodes: int = Field(16, ge=1, le=10_000_000, description="how many parties collaborate")
    rounds: int = Field(50, ge=1, description="how many times they exchange")
    until: UntilSettings | None = Field(
        None, description="what ends the run before its last round: budgets, a figure to reach"
    )
    data: DataSource = Field(Digits(), description="data set and its split over the nodes")
    model: Model = Field(MLP(), description="network that every node trains")
    topology: Topology = Field(Regular(degree=4), description="who hears whom")
    algorithm: Algorithm = Field(
        default_factory=lambda: Algorithm.resolve("dpsgd"), description="what nodes do and say"
    )
    attack: Attack | None = Field(
        None, description="nodes that send something else than they should, and what"
    )
    privacy: Privacy | None = Field(
        None, description="differential privacy: what is clipped, and where noise comes in"
    )
    faults: Faults | None = Field(
        None, description="messages that get lost and nodes that are away, on purpose"
    )
    network: Shaping | None = Field(
        None, description="what the links between nodes are like: delay, rate, losses, cuts"
    )
    train: TrainSettings = Field(TrainSettings(), description="local work")
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="measuring")
    checkpoint: CheckpointSettings = Field(CheckpointSettings(), description="saving")
    clock: Clock = Field(Phones(), description="modelled time and energy, beside the wall's")
    runtime: Runtime = Field(Simulate(), description="where the nodes live")
    sinks: tuple[Sink, ...] = Field(
        (), description="where figures go beside the run folder, such as tensorboard"
    )
    device: str = Field("cpu", description="torch device of the models: cpu, cuda, cuda:1 ...")

    @model_validator(mode="after")
    def _same_words(self) -> Self:
        """Texts are read by the tokenizer of the model, unless another is set."""
        if (words := self.model.tokenized_as()) is not None:
            object.__setattr__(self, "data", self.data.tokenized_by(words))
        return self

    def hold_back(
        self, dataset: Dataset, parts: Mapping[int, np.ndarray], streams: Streams
    ) -> tuple[Dataset, Mapping[int, np.ndarray], dict[int, np.ndarray]]:
        """(the examples, what each client trains on, what it keeps to measure models), by its id.

        Args:
            parts: what was dealt to each client.

        Raises:
            ConfigError: with the setting's full name.
        """
        return dataset, *hold_back_parts(self.evaluate, parts, streams)

    def leave(self, job: Job, folder: RunFolder) -> None:
        """Put into a folder what belongs to a run of this kind, before its first round."""

    def facts(self, folder: RunFolder) -> dict[str, Any]:
        """What the summary says of a run of this kind besides, as far as it has come."""
        return {}

    def label(self) -> str:
        return "-".join(name.rpartition(":")[2] for name in (self.algorithm.name, self.data.name))

    @classmethod
    def of(
        cls,
        target: str | Path | Mapping[str, Any] | None,
        overrides: tuple[str, ...] = (),
        **more: Any,
    ) -> Self:
        """A run from a file, from an algorithm's name, or from plain settings.

        Args:
            target: the path of a run file; or the name of an algorithm, for its usual settings on
                digits; or settings; None: D-PSGD on digits.
            overrides: ``key=value`` on top, and non-empty keywords.

        Raises:
            ConfigError: naming the field, its value and the way out.
        """
        if isinstance(target, Path) or (isinstance(target, str) and is_file(target)):
            return cls.load(Path(target), overrides, **more)
        settings = {} if target is None else target
        if not isinstance(settings, str | Mapping):
            fix = "such as {'algorithm': 'fedavg', 'rounds': 5}, 'fedavg', or the path of a file"
            problem = "are no mapping, no algorithm's name and no run file"
            raise ConfigError("", repr(target)[:60], problem, fix)
        if isinstance(settings, str) and ("\n" in settings or settings.lstrip()[:1] in "{["):
            fix = "its path, or settings as a mapping"
            raise ConfigError("", settings[:60], "are the text of a file", fix)
        if isinstance(settings, str):
            load_plugins(override({}, overrides, **more))  # it may be one of theirs
            return cls.parse(override(named(settings), overrides, **more))
        return cls.changed(settings, overrides, **more)


def run_kind(settings: Mapping[str, Any]) -> type[RunFile]:
    """Whose run file settings are: learn's, or that of another verb that trains as learn does."""
    kind = file_of(str(settings.get("verb")))
    return kind if kind is not None and issubclass(kind, RunFile) else RunFile


def is_file(target: str) -> bool:
    """Whether a word means a run file, or an example's, and not the name of an algorithm."""
    if ":" in target:  # package.module:Class or file.py:Class
        return False
    written = "/" in target or target.endswith((".yaml", ".yml")) or Path(target).is_file()
    return written or shipped(target) is not None


def named(algorithm: str) -> dict[str, Any]:
    """The settings of a run that names only its algorithm.

    Raises:
        ConfigError: there is no such algorithm.
    """
    try:
        method = find("algorithm", algorithm)
    except ConfigError as error:
        raise error.under("algorithm") from None
    usual = getattr(method, "usual", {})
    return {**usual, "algorithm": {"name": algorithm, **usual.get("algorithm", {})}}
