"""The file of a recommender: a run file whose nodes keep, or share, the ratings of their users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data import Dataset, DataSource, SyntheticRatings, Users
from hansa.engine import SGD, Algorithm, EvaluateSettings, Job, Optimizer, TrainSettings
from hansa.engine.own_judge import OwnJudge
from hansa.experiment.runfile import RunFile
from hansa.metrics import Metric
from hansa.models import MatrixFactorization, Model
from hansa.recommend.baseline_settings import BASELINES, BASELINES_FILE, Baseline, CentralSettings
from hansa.recommend.evaluation.ratings_judge import RatingsJudge
from hansa.report import RunFolder
from hansa.topology import SmallWorld, Topology


class RecommendEvaluateSettings(EvaluateSettings):
    """When models are measured, and how: on each node's own test ratings."""

    own: OwnJudge | None = Field(
        RatingsJudge(), description="how a node's models are judged on its own test ratings"
    )
    metrics: tuple[Metric, ...] = Field(
        ("rmse", "mae"),
        validate_default=True,
        description="which errors are shown first; all are measured",
    )
    average_model: bool = Field(False, description="has nothing to be measured on here")


class RecommendTrainSettings(TrainSettings):
    """Local work; the steps of ``rex`` and their number are the algorithm's own settings."""

    drop_last: bool = Field(False, description="leave out the last, smaller batch of a pass")
    optimizer: Optimizer = Field(
        SGD(lr=0.01, weight_decay=0.05), description="the rule that turns gradients into steps"
    )


class RecommendFile(RunFile):
    """A run of the recommend verb. ``--set data.split=leave_last`` reaches every field."""

    command: ClassVar[str] = "recommend"
    forgets: ClassVar[str] = "hansa recommend withdraw {run} --user NAME takes ratings back"
    says_verb: ClassVar[bool] = True
    sketch: ClassVar[str | Mapping[str, Any]] = "synthetic_rex"
    own_data: ClassVar[tuple[str, str] | tuple[()]] = ("data", "ratings")
    fits: ClassVar[str] = ""

    verb: Literal["recommend"] = Field(  # type: ignore[assignment]
        "recommend", description="whose file this is"
    )
    nodes: int = Field(
        50, ge=1, le=10_000_000, description="how many nodes there are; users are dealt to them"
    )
    rounds: int = Field(200, ge=1, description="how many times they train and exchange: epochs")
    data: DataSource = Field(
        SyntheticRatings(partition=Users()),
        description="ratings, their split into training and test, and who has which users",
    )
    model: Model = Field(
        MatrixFactorization(factors=10),
        description="what every node trains",
    )
    topology: Topology = Field(SmallWorld(neighbours=6, rewire=0.03), description="who hears whom")
    algorithm: Algorithm = Field(
        default_factory=lambda: Algorithm.resolve("rex"), description="what nodes do and say"
    )
    train: RecommendTrainSettings = Field(RecommendTrainSettings(), description="local work")
    evaluate: RecommendEvaluateSettings = Field(
        RecommendEvaluateSettings(), description="measuring"
    )
    baselines: tuple[Baseline, ...] = Field(BASELINES, description="what the run is held against")
    central: CentralSettings = Field(CentralSettings(), description="the baseline central_mf")

    @field_validator("data", mode="before")
    @classmethod
    def _users_are_whole(cls, value: Any) -> Any:
        """Users are dealt whole unless the file says otherwise."""
        named = {"name": value} if isinstance(value, str) else value
        if isinstance(named, Mapping) and "partition" not in named:
            return {**named, "partition": {"name": "users"}}
        return named

    def hold_back(
        self, dataset: Dataset, parts: Mapping[int, np.ndarray], streams: Streams
    ) -> tuple[Dataset, dict[int, np.ndarray], dict[int, np.ndarray]]:
        from hansa.recommend.own_tests import to_owners

        self._check(dataset)
        whole, held = to_owners(dataset, parts, self.data.partition)
        return whole, dict(parts), held

    def _check(self, dataset: Dataset) -> None:
        """Refuse what would show test ratings to all, or measures nothing."""
        evaluate = self.evaluate
        if dataset.spec.kind != "pairs" or dataset.spec.task != "regression":
            name = type(self.data).name
            problem = f"{name} has no ratings of pairs of user and item"
            fix = "movielens, ratings or synthetic_ratings"
            raise ConfigError("data.name", name, problem, fix)
        if dataset.validation is not None:
            problem = "would show ratings of all users to every node"
            raise ConfigError("data.validation", self.data.validation, problem, "leave it out")
        if evaluate.local_validation:
            problem = "what nodes hold back are their test ratings, as data.split says"
            value = evaluate.local_validation
            raise ConfigError("evaluate.local_validation", value, problem, "data.test_fraction")

    def leave(self, job: Job, folder: RunFolder) -> None:
        from hansa.recommend.evaluation.baselines import measure_baselines

        if folder.read_json(BASELINES_FILE) is None:  # of a run that is gone on with
            table = measure_baselines(job, self.baselines, self.central)
            folder.write_json(BASELINES_FILE, table)

    def facts(self, folder: RunFolder) -> dict[str, Any]:
        from hansa.recommend.spreading import spread_facts

        table = folder.read_json(BASELINES_FILE) or {}
        rmse = {name: row["rmse_pooled"] for name, row in table.items() if "rmse_pooled" in row}
        return {"baselines": rmse, **spread_facts(folder)}
