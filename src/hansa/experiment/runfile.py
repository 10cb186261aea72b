"""The run file: every setting of a run, with its default and a line of help."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

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
from hansa.experiment.settings_file import SettingsFile
from hansa.learn.dpsgd import DPSGD
from hansa.models import MLP, Model
from hansa.topology import Regular, Topology


class RunFile(SettingsFile):
    """A run of the learn verb. ``--set train.optimizer.lr=0.05`` reaches every field."""

    command: ClassVar[str] = "learn"

    verb: Literal["learn"] = Field("learn", description="whose file this is")
    seed: int = Field(1, description="names all random streams; same seed, same result")
    nodes: int = Field(16, ge=1, description="how many parties collaborate")
    rounds: int = Field(50, ge=1, description="how many times they exchange")
    data: DataSource = Field(Digits(), description="data set and its split over the nodes")
    model: Model = Field(MLP(), description="network that every node trains")
    topology: Topology = Field(Regular(degree=4), description="who hears whom")
    algorithm: Algorithm = Field(DPSGD(), description="what nodes do and say")
    train: TrainSettings = Field(TrainSettings(), description="local work")
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="measuring")
    checkpoint: CheckpointSettings = Field(CheckpointSettings(), description="saving")
    clock: Clock = Field(Phones(), description="modelled time and energy, beside the wall's")
    runtime: Runtime = Field(Simulate(), description="where the nodes live")
    device: str = Field("cpu", description="torch device of the models: cpu, cuda, cuda:1 ...")
