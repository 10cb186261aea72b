"""The file of routing: tasks and a pool, how adapters are chosen, and what that is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hansa.base.errors import ConfigError
from hansa.engine.settings import Settings
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.experiment.settings_file import SettingsFile
from hansa.route.answering import Sees
from hansa.route.association import Association
from hansa.route.encoders.encoder import Encoder
from hansa.route.methods.method import RoutingMethod
from hansa.route.noisy_pool import Noise
from hansa.route.regimes import Regime
from hansa.route.screening import Screening
from hansa.route.world import RoutedTasks

USUAL_METHODS: tuple[Any, ...] = (
    "oracle", "lorauter", {"name": "lorauter", "k": 3, "temperature": 0.2},
    {"name": "lorauter", "alpha": 0.05}, "no_validation",
    "uniform", "fusion", {"name": "lora_retriever", "mode": "selection"}, "lora_retriever",
    {"name": "lora_retriever", "mode": "fusion"}, "arrow", "spectr", "single_best", "average",
    "base",
)  # fmt: skip


class Peers(Settings):
    """Peers who keep their validation sets: what leaves them is a centroid and a row of scores."""

    count: int = Field(9, ge=1, description="peers; validation examples are dealt to them")
    liars: int = Field(2, ge=0, description="of them, who all send the same lie")
    aggregators: tuple[Aggregator, ...] = Field(
        ("mean", "median", {"name": "trimmed_mean", "f": 2}),
        min_length=1, validate_default=True,
        description="rules that make one row of peers' rows, of hansa list aggregator",
    )  # fmt: skip
    sigma: float = Field(0.0, ge=0, description="noise on each number of a peer's centroids")
    encoder: Encoder = Field(
        "hashing", validate_default=True, description="one that learns nothing from texts"
    )

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: names the field.
        """
        self.encoder.check()
        if 2 * self.liars >= self.count and self.liars:
            fix = f"at most {(self.count - 1) // 2}"
            problem = f"of {self.count} peers is half or more"
            raise ConfigError("liars", self.liars, problem, fix)
        if self.encoder.learns:
            problem = "learns from texts, and peers' texts do not leave them"
            raise ConfigError(
                "encoder", self.encoder.name, problem, "hashing, or a sentence encoder"
            )
        for aggregator in self.aggregators:
            if self.count < aggregator.least:
                problem = f"needs {aggregator.least} peers"
                raise ConfigError("aggregators", aggregator.name, problem, "more peers")


class RouteFile(SettingsFile):
    """A pool of adapters, tasks with validation sets, and methods that answer test queries."""

    command: ClassVar[str] = "route run"
    sketch: ClassVar[str | Mapping[str, Any]] = "tiny_route"
    needs: ClassVar[str] = "needs tasks of texts in JSON lines, a base model and a pool of adapters"
    needs_fix: ClassVar[str] = (
        "--set tasks.name=files --set tasks.folder=TASKS --set tasks.base=BASE --set "
        "tasks.pool=POOL; hansa route train makes a pool"
    )
    begins: ClassVar[str] = "hansa.route.run:route"
    checks: ClassVar[str] = "hansa.route.run:check"
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ()

    verb: Literal["route"] = Field("route", description="whose file this is")
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="names all random streams; same seed, same result"
    )
    repeats: int = Field(1, ge=1, description="how many seeds, counted on from the first")
    tasks: RoutedTasks = Field(
        "templates", validate_default=True,
        description="tasks, base and pool: made here, or one's own",
    )  # fmt: skip
    encoder: Encoder = Field(
        "tfidf", validate_default=True, description="what makes vectors of texts"
    )
    sees: Sees = Field(
        "text", description="what the encoder is given of a query: its text, or also the "
        "candidates of its answer, which say much of its task",
    )  # fmt: skip
    association: Association = Field(
        "successive_halving", validate_default=True,
        description="how the adapter of each task is found",
    )  # fmt: skip
    k: int | None = Field(None, ge=1, description="tasks that a query keeps; none: fitted")
    temperature: float | None = Field(
        None, ge=0, description="of the softmax over them; none: fitted"
    )
    fit_queries: int = Field(10, ge=1, description="validation queries a task that fit both")
    alpha: float = Field(
        0.05, ge=0, lt=1, description="share of a task's queries that may go to the base; 0: none"
    )
    methods: tuple[RoutingMethod, ...] = Field(
        USUAL_METHODS, min_length=1, validate_default=True,
        description="what answers, of hansa list routing_method; the oracle is always there",
    )  # fmt: skip
    regimes: tuple[Regime, ...] = Field(
        ("id", "semi", "ood", "hard"), min_length=1,
        description="what queries may use: everything; not their own adapter; nor their task; nor "
        "the three nearest tasks",
    )  # fmt: skip
    noise: Noise | None = Field(
        Noise(), description="a second pool, spoilt: weakened adapters and noise; none: only one"
    )
    screen: Screening | None = Field(
        None, description="adapters are looked at before they are let in; none: all are"
    )
    peers: Peers | None = Field(None, description="peers who keep their validation sets")
    max_tokens: int = Field(8, ge=1, description="of an answer, where the base generates")
    batch_size: Annotated[int, Field(ge=1)] = Field(64, description="queries at once")

    @model_validator(mode="before")
    @classmethod
    def _singles(cls, settings: Any) -> Any:
        """``noise: {}`` and the like mean the usual ones."""
        if not isinstance(settings, Mapping):
            return settings
        return {
            key: {} if value is True and key in ("noise", "screen", "peers") else value
            for key, value in settings.items()
        }

    def label(self) -> str:
        """What its folder is called."""
        return f"route-{type(self.tasks).name.rpartition(':')[2]}"

    def named(self) -> dict[str, RoutingMethod]:
        """The methods by the names of tables, the oracle first.

        Raises:
            ConfigError: two are the same.
        """
        oracle = RoutingMethod.resolve("oracle")
        methods = {oracle.label(): oracle}
        for method in self.methods:
            label = method.label()
            if label in methods and label != oracle.label():
                raise ConfigError("methods", label, "is there twice", "each once")
            methods[label] = method
        return methods

    def check(self) -> None:
        """Refuse what cannot work, before anything is made.

        Raises:
            ConfigError: names the field.
        """
        self.named()
        self.encoder.check()
        if self.peers is not None:
            try:
                self.peers.check()
            except ConfigError as error:
                raise error.under("peers") from None
        if len(set(self.regimes)) < len(self.regimes):
            raise ConfigError("regimes", list(self.regimes), "holds one twice", "each once")
        self.tasks.check()
