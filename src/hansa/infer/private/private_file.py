"""The file of a private inference on this machine: whose network, which mode, how many queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hansa.base.errors import ConfigError
from hansa.data import DataSource, Digits
from hansa.engine import TrainSettings
from hansa.engine.training.optimizers import Adam
from hansa.engine.training.schedules import Cosine, Schedule
from hansa.experiment.own_data import OwnData, in_place
from hansa.experiment.settings_file import SettingsFile
from hansa.models import Model

_TRAINING = ("data", "model", "train")


class Lessons(TrainSettings):
    """How the network is trained, one round an epoch."""

    epochs: int = Field(8, ge=1, description="passes over the training examples")
    local_epochs: int | None = Field(1, ge=1, description="passes a round; leave it at 1")
    drop_last: bool = Field(False, description="leave out the last, smaller batch of a pass")
    schedule: Schedule = Field(Cosine(), description="the learning rate's course over epochs")


class PrivateFile(SettingsFile):
    """A network is trained or taken from a run, compiled, served, and asked about test examples."""

    command: ClassVar[str] = "infer private demo"
    sketch: ClassVar[str | Mapping[str, Any]] = "digits_private"
    own_data: ClassVar[tuple[str, str] | tuple[()]] = ("data", "file")
    begun_on: ClassVar[str] = "hansa.infer.private.private_file:begun_on"
    begins: ClassVar[str] = "hansa.infer.private.run:private"
    checks: ClassVar[str] = "hansa.infer.private.run:checked"
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ()

    verb: Literal["private"] = Field("private", description="whose file this is")
    seed: int = Field(1, ge=-(2**63), lt=2**63, description="of training; keys never come from it")
    data: DataSource = Field(Digits(), description="what it is trained and asked on")
    model: Model = Field(
        default_factory=lambda: Model.resolve("femnist_cnn"), description="network that is trained"
    )
    train: Lessons = Field(
        Lessons(batch_size=32, optimizer=Adam(lr=0.002)), description="how it is trained"
    )
    run: Path | None = Field(None, description="instead, the folder of a run of hansa learn")
    node: int | None = Field(None, ge=0, description="whose model of that run, where it has many")
    average: bool = Field(False, description="the average of that run's models")
    weights: int = Field(8, ge=2, le=12, description="bits of a weight")
    activations: int = Field(7, ge=2, le=12, description="bits of what the client uploads")
    profile: Literal["n4096", "n2048", "n8192"] = Field("n4096", description="the lattice")
    packing: Literal["channel", "rows", "batch"] = Field(
        "channel", description="what a ciphertext holds: channels, scalars as in the paper, a batch"
    )
    mode: Literal["shuffle", "budget", "shares"] = Field(
        "shuffle", description="what keeps weights from the client: shares holds against liars"
    )
    hides: Literal["none", "channel", "element"] | None = Field(
        None,
        description="what is shuffled; none named = channel, element with rows, none in shares",
    )
    reveals: Literal["logits", "class"] | None = Field(
        None, description="what the client gets; unnamed: logits, of shares the class"
    )
    queries: int = Field(128, ge=1, description="test examples that are asked")
    threads: int = Field(1, ge=1, description="of the server")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.run is None and (self.node is not None or self.average):
            field = "average" if self.average else "node"
            raise ConfigError(field, getattr(self, field), "is of a run, and none is named",
                              "run: FOLDER")  # fmt: skip
        if self.hides == "element" and self.packing != "rows":
            problem = "needs every output in a ciphertext of its own"
            raise ConfigError("hides", self.hides, problem, "packing: rows, or hides: channel")
        if self.mode == "shares" and self.packing != "channel":
            problem = "is there for ciphertexts of channels alone"
            raise ConfigError(
                "packing", self.packing, problem, "packing: channel, or mode: shuffle"
            )
        return self

    def label(self) -> str:
        """What its folder is called."""
        return f"private-{self.mode}"

    @property
    def shuffled(self) -> Literal["none", "channel", "element"]:
        """What is shuffled."""
        if self.hides is not None:
            return self.hides
        if self.mode == "shares":
            return "none"
        return "element" if self.packing == "rows" else "channel"

    @property
    def revealed(self) -> Literal["logits", "class"]:
        """What the client gets of the last layer."""
        return self.reveals or ("class" if self.mode == "shares" else "logits")


def begun_on(settings: dict[str, Any], own: OwnData) -> dict[str, Any]:
    """Settings of a first file that compiles the network of a run, or one for a table."""
    if own.is_run:
        trained = {key: value for key, value in settings.items() if key not in _TRAINING}
        own.remarks.append("of several models their average is asked; node: 0 asks the first's")
        return {**trained, "run": own.written, "average": True}
    in_place(PrivateFile, settings, own)
    return {**settings, "model": {"name": "mlp", "hidden": [64]}}
