"""The file of robust inference: who answers, how many may lie, what is tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, model_validator

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.experiment.clients import Clients
from hansa.experiment.settings_file import SettingsFile
from hansa.infer.robust.attacks.liars import InferenceAttack
from hansa.infer.robust.entries import AnyAggregator, Entry, labels_of, with_budget
from hansa.infer.robust.learned import LearnedAggregator
from hansa.metrics import Metric

Identity = Literal["fixed", "worst", "certified"]
USUAL_RULES = (
    "mean", "trimmed_mean", "median", "geometric_median",
    {"name": "deep_set", "training": "kvote", "pooling": "trimmed_mean"},
)  # fmt: skip
USUAL_ATTACKS = ("logit_flip", "sia_blackbox", "sia_whitebox", "lma", "cpa", "pgd_cw", "kvote")


class RobustFile(SettingsFile):
    """Clients answer, some lie, and rules that make one answer of many are measured."""

    command: ClassVar[str] = "infer robust"
    sketch: ClassVar[str | Mapping[str, Any]] = "digits_robust"
    own_data: ClassVar[tuple[str, str] | tuple[()]] = ("clients.data", "file")
    fits: ClassVar[str] = "hansa.experiment.own_data:fit_members"
    shortcuts: ClassVar[Mapping[str, str]] = {"nodes": "clients.members"}
    begins: ClassVar[str] = "hansa.infer.robust.run:robust"
    checks: ClassVar[str] = "hansa.infer.robust.run:check"
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ()

    verb: Literal["infer"] = Field("infer", description="whose file this is")
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="names all random streams; same seed, same result"
    )
    repeats: int = Field(1, ge=1, description="how many seeds, counted on from the first")
    clients: Clients = Field(
        default_factory=lambda: Clients.resolve("trained"),
        description="who answers: trained here, an ensemble, or answers in a file",
    )
    f: int = Field(4, ge=0, description="how many of them may lie; parts with an f of their own "
                   "that do not say it take this one")  # fmt: skip
    aggregators: tuple[Annotated[Component, AnyAggregator()], ...] = Field(
        USUAL_RULES,
        min_length=1,
        validate_default=True,
        description="rules that are tried, of hansa list aggregator and learned_aggregator",
    )
    attacks: tuple[InferenceAttack, ...] = Field(
        USUAL_ATTACKS,
        validate_default=True,
        description="what liars do, of hansa list inference_attack",
    )
    identities: tuple[Identity, ...] = Field(
        ("fixed", "worst", "certified"),
        min_length=1,
        description="who lies: fixed, the same f for all queries; worst, for each query those who "
        "hurt most; certified: the share that is right whoever lies and whatever they say",
    )
    budgets: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="numbers of liars of the curve over f; none: 0 to f and two more"
    )
    held_out: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the server's examples that chooses epochs and the rule that is kept",
    )
    keep: str = Field(
        "auto", description="the rule that is kept: a name, or auto, the best on held-out examples"
    )
    metrics: tuple[Metric, ...] = Field(
        (), description="what else is said of honest answers, such as calibration_error"
    )

    @model_validator(mode="before")
    @classmethod
    def _budget(cls, settings: Any) -> Any:
        """Parts that have an ``f`` and do not say it get the file's."""
        if not isinstance(settings, Mapping):
            return settings
        f = settings.get("f", cls.model_fields["f"].default)
        listed = settings.get("aggregators", USUAL_RULES)
        if not isinstance(f, int) or not isinstance(listed, list | tuple):
            return settings
        return {**settings, "aggregators": [with_budget(entry, f) for entry in listed]}

    def label(self) -> str:
        """What its folder is called."""
        return f"infer-{type(self.clients).name.rpartition(':')[2]}"

    def rules(self) -> dict[str, Entry]:
        """The aggregators by the names that tables call them.

        Raises:
            ConfigError: two are the same.
        """
        return labels_of([cast(Entry, entry) for entry in self.aggregators])

    def suite(self) -> dict[str, InferenceAttack]:
        """The attacks by name; of one that is listed twice, with what tells them apart.

        Raises:
            ConfigError: two are the same.
        """
        named: dict[str, InferenceAttack] = {}
        for attack in self.attacks:
            own = {k: v for k, v in attack.dump().items() if v != _usual(attack).get(k)}
            label = type(attack).name
            if label in named:
                shown = ", ".join(f"{k}={v}" for k, v in own.items() if k != "name")
                label += f" ({shown})"
            if label in named:
                raise ConfigError("attacks", label, "is there twice", "each once")
            named[label] = attack
        return named

    def check(self, members: int) -> None:
        """Refuse what cannot work with so many clients, before any of them is asked.

        Raises:
            ConfigError: names the field.
        """
        if 2 * self.f >= members:
            problem = f"of {members} clients is half or more: nobody could tell who lies"
            fix = f"at most {(members - 1) // 2}, or more clients"
            raise ConfigError("f", self.f, problem, fix)
        for label, entry in self.rules().items():
            if isinstance(entry, LearnedAggregator):
                try:
                    entry.check(members, self.f)
                except ConfigError as error:
                    raise error.under("aggregators") from None
            elif members < entry.least:
                problem = f"needs {entry.least} rows, and there are {members} clients"
                raise ConfigError("aggregators", label, problem, "a smaller f, or more clients")
        for f in self.budgets or ():
            if 2 * f >= members:
                problem = f"of {members} clients is half or more"
                raise ConfigError("budgets", f, problem, f"at most {(members - 1) // 2}")
        if self.keep != "auto" and self.keep not in self.rules():
            fix = f"auto or one of {', '.join(self.rules())}"
            raise ConfigError("keep", self.keep, "is not among the aggregators", fix)
        self.suite()

    def spread(self, members: int) -> list[int]:
        """The numbers of liars of the curve."""
        if self.budgets is not None:
            return sorted(set(self.budgets))
        return list(range(min(self.f + 2, (members - 1) // 2) + 1))


def _usual(attack: InferenceAttack) -> dict[str, Any]:
    return {k: info.default for k, info in type(attack).model_fields.items()}
