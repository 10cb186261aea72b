"""What an ensemble's file may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hansa.base.component import Component, OfKind, find
from hansa.base.paths import Arguments, ObjectPath
from hansa.data import DataSource, Digits
from hansa.engine import (
    SGD,
    Algorithm,
    Cosine,
    Optimizer,
    Runtime,
    Schedule,
    Simulate,
    TrainSettings,
)
from hansa.engine.settings import Settings
from hansa.ensemble import (
    Average,
    DataFree,
    Distillation,
    LabelWeighted,
    Neural,
    Residual,
    Rule,
    Voting,
)
from hansa.ensemble.aggregators import Aggregator, Mean, ModelAggregator
from hansa.ensemble.attacks import Attack
from hansa.metrics import Metric
from hansa.models import MLP, Model
from hansa.topology import Regular, Topology


class Predictor(Settings):
    """A client's model that is fitted, not trained by gradient steps."""

    path: ObjectPath = Field(
        description="package.module:Class with fit(X, y) and predict_proba or decision_function, "
        "such as sklearn.ensemble:RandomForestClassifier"
    )
    arguments: Arguments = Field({}, description="its keyword arguments")


class Brought(Settings):
    """A client's model that is trained already."""

    path: Path = Field(
        description=".safetensors with a network's state_dict, .skops with a fitted classifier, or "
        "the folder of a run of hansa learn"
    )
    model: Model | None = Field(None, description="the network of a .safetensors file")
    client: int | None = Field(None, description="whose it is; none = by its place in the list")
    node: int | None = Field(None, description="whose model of a run that has several")
    takes: Literal["stored", "prepared"] = Field(
        "stored",
        description="inputs as the data store them, or as data.normalize prepares them here; a "
        "run's are prepared as that run did",
    )
    scores: Literal["auto", "logits", "log_probabilities", "probabilities"] = Field(
        "auto", description="what a network gives; auto: told by its numbers"
    )
    examples_of_class: dict[str, int] | None = Field(
        None,
        description="how many examples of each class it was trained on, for label_weighted; none = "
        "as many as its client has here",
    )
    trust: bool = Field(False, description="also make types in a .skops that may run their code")


class LocalSettings(TrainSettings):
    """Phase 1: every client alone, one round an epoch."""

    epochs: int = Field(60, ge=1, description="passes over its own examples before the upload")
    local_epochs: int | None = Field(1, ge=1, description="passes a round; leave it at 1")
    drop_last: bool = Field(False, description="leave out the last, smaller batch of a pass")
    schedule: Schedule = Field(Cosine(), description="the learning rate's course over epochs")


class AggregateSettings(TrainSettings):
    """Phase 2: the rule is trained on cached scores of the clients' proxies."""

    over: Literal["clients", "server", "peers"] = Field(
        "clients",
        description="clients: federated; peers: gossip over the topology; server: clients send "
        "their proxies' scores and labels",
    )
    algorithm: Algorithm | None = Field(
        None,
        description="none: FedAdam with the rule's lr (clients), D-PSGD (peers), alone (server)",
    )
    aggregator: ModelAggregator = Field(
        Mean(),
        description="what a server, or a peer, makes of updates of a rule, where no algorithm is "
        "given; all but the mean weigh clients alike",
    )
    topology: Topology = Field(Regular(degree=4), description="who hears whom, among peers")
    rounds: int = Field(500, ge=1, description="how many times the rule's numbers travel")
    local_steps: int = Field(1, ge=0, description="mini-batch steps a client takes each round")
    batch_size: int = Field(128, ge=1, description="examples a step")
    drop_last: bool = Field(False, description="leave out the last, smaller batch of a pass")
    optimizer: Optimizer = Field(
        SGD(lr=1.0), description="of the clients; peers and server take Adam with the rule's lr"
    )
    folds: int = Field(
        5, ge=2, description="parts of the proxies that take turns to judge rules that are fitted"
    )
    every: int = Field(50, ge=1, description="rounds between two measurements")


class BaselineSettings(Settings):
    """What the ensemble is compared with."""

    methods: tuple[Annotated[Component, OfKind("baseline")], ...] = Field(
        (), description="which; fedkd and distilled need data.public"
    )
    rounds: int = Field(30, ge=1, description="rounds of fedavg and fedadam")
    patience: int | None = Field(
        None,
        ge=1,
        description="rounds without a lower loss on the clients' proxies that end fedavg and "
        "fedadam; they train on what members train on, and the best round by that loss counts. "
        "None: all rounds on all examples, and the best on the test set counts",
    )
    local_epochs: int = Field(2, ge=1, description="passes a client takes in such a round")
    once: tuple[int, ...] = Field((1, 5, 20), description="epochs tried by one-shot FedAvg")
    every: int = Field(5, ge=1, description="rounds between two measurements; the best counts")
    optimizer: Optimizer = Field(SGD(lr=0.05), description="of the clients of FedAvg")
    adam_lr: float = Field(0.05, gt=0, description="clients' rate under FedAdam")
    adam_server_lr: float = Field(0.01, gt=0, description="server's rate under FedAdam")
    distillation: Distillation = Field(Distillation(), description="how a student is taught")
    datafree: DataFree = Field(DataFree(), description="how dense and coboosting teach theirs")


class EnsembleSettings(Settings):
    """An ensemble of models that clients train alone and upload once."""

    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="names all random streams; same seed, same result"
    )
    clients: int = Field(10, ge=1, description="how many parties train a model each")
    without: tuple[int, ...] = Field((), description="clients that are left out, by number")
    data: DataSource = Field(Digits(), description="data set and its split over the clients")
    models: tuple[Model, ...] = Field(
        (MLP(),), description="networks; client i takes the (i mod k)th of models and predictors"
    )
    predictors: tuple[Predictor, ...] = Field((), description="models that are fitted")
    members: tuple[Brought, ...] = Field(
        (),
        description="models that are trained already; the other clients train theirs. Without "
        "clients there are as many",
    )
    same_init: bool = Field(False, description="networks of one form start from the same numbers")
    local: LocalSettings = Field(LocalSettings(), description="phase 1")
    proxy: float = Field(0.1, gt=0, lt=1, description="share of its examples a client holds back")
    stratified: bool = Field(False, description="hold back that share of each class, rounded down")
    proxies: Literal["held_back", "reused", "crossed"] = Field(
        "held_back",
        description="held_back: kept from phase 1; reused: all training examples; crossed: all, "
        "and a client's own model is asked only where a copy has not seen the example",
    )
    quantize: Literal["int8", "static", "none"] = Field(
        "int8", description="weights in 8 bits; static: activations too; none: as trained"
    )
    rules: tuple[Rule, ...] = Field(
        (Average(), LabelWeighted(), Voting(), Neural(), Residual()),
        min_length=1,
        description="rules that are tried",
    )
    choose: str = Field(
        "auto",
        description="the rule that is kept: a name, or auto: the best on the proxies, out of "
        "fold; a learned one must win by a standard error, unless it starts from a plain one; or "
        "robust: the same of proxies that are right whatever f members vote",
    )
    f: int = Field(1, ge=0, description="members that may lie, for choose: robust")
    aggregate: AggregateSettings = Field(AggregateSettings(), description="phase 2")
    attack: Attack | None = Field(
        None,
        description="clients that upload another model than they trained, and send other updates "
        "of a rule",
    )
    baselines: BaselineSettings = Field(BaselineSettings(), description="what is compared")
    metrics: tuple[Metric, ...] = Field(
        (),
        description="what else the table says of each line, of hansa list metric",
    )
    runtime: Runtime = Field(
        Simulate(), description="where clients live in phases 1 and 2 and in federated baselines"
    )
    device: str = Field("cpu", description="torch device of the models")

    @model_validator(mode="before")
    @classmethod
    def _count(cls, settings: Any) -> Any:
        if isinstance(settings, Mapping) and settings.get("members") and "clients" not in settings:
            brought = settings["members"]
            several = isinstance(brought, list | tuple)
            return {**settings, "clients": len(brought) if several else 1}
        return settings


BETA1, BETA2, TAU = 0.9, 0.99, 1e-3
"""FedAdam's settings in FENS; tau stands beside the root, and nothing is corrected for bias."""


def federated_adam(lr: float, aggregator: Aggregator | None = None) -> Algorithm:
    """FedAdam as FENS runs it; with an aggregator of updates that all weigh alike."""
    server = {
        "name": "adam", "lr": lr, "beta1": BETA1, "beta2": BETA2, "tau": TAU, "initial": 0.0,
    }  # fmt: skip
    robust = {} if aggregator is None else {"aggregator": aggregator, "weighting": "uniform"}
    method = find("algorithm", "fedadam").parse({"server": server, **robust})
    assert isinstance(method, Algorithm)
    return method


def algorithm(name: str, **settings: Any) -> Algorithm:
    """An algorithm of any room, by name."""
    method = find("algorithm", name).parse(settings)
    assert isinstance(method, Algorithm)
    return method
