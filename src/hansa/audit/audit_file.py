"""The file of an audit: who asks which platform about whom, within which budgets, and together how.

::

    verb: audit
    population: {name: table, path: people.csv, attributes: {sex: levels, age: "> 40"}}
    box: {name: http, url: https://bank.example/decide, positive: granted, queries_a_second: 2}
    attributes: [sex, age]        # an agent for each
    budget: 200
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from hansa.audit.black_box import BlackBox
from hansa.audit.boxes.own_box import OwnBox
from hansa.audit.disparity import DemographicParity, ImpactRatio
from hansa.audit.population import Agent
from hansa.audit.population_source import PopulationSource
from hansa.audit.populations.made import Made
from hansa.audit.strategies import Strategy
from hansa.audit.verdicts import Disparity
from hansa.base.errors import ConfigError
from hansa.engine.settings import Settings
from hansa.ensemble.aggregators import Aggregator, TrimmedMean
from hansa.experiment.settings_file import SettingsFile


class AgentSettings(Settings):
    """An auditor."""

    name: str = Field("", description="what it is called; empty: as its attribute is")
    attribute: str | tuple[str, ...] = Field(
        description="the attribute that it audits, or several whose intersections it does"
    )
    budget: int | None = Field(
        None, ge=1, description="queries that it may ask; none = the file's budget"
    )


class LiarSettings(Settings):
    """Agents who may report other answers than they heard."""

    f: int = Field(0, ge=0, description="how many agents may lie; 0 = all are believed")
    pooling: Aggregator | None = Field(
        None,
        description="the rule that makes one rate of the agents' rates, of hansa list aggregator; "
        "none = trimmed_mean with f",
    )
    attack: Literal["none", "flip", "yes", "no"] = Field(
        "none", description="for studies, what liars report: answers turned round, or all yes or no"
    )
    agents: tuple[str, ...] = Field((), description="for studies, the agents who do")

    @property
    def rule(self) -> Aggregator:
        """The rule that pools rates."""
        return self.pooling or TrimmedMean(f=self.f)


class AuditFile(SettingsFile):
    """An audit of a black box by agents with budgets. ``--set`` reaches every field."""

    command: ClassVar[str] = "audit"
    sketch: ClassVar[str | Mapping[str, Any]] = "made_audit"
    begun_on: ClassVar[str] = "hansa.audit.begun_audit:begun_on"
    asks: ClassVar[tuple[tuple[str, str], ...]] = (
        ("label", "Which column holds the decisions"),
        ("group", "Which column says who is protected"),
        ("box.positive", "Which decision counts as yes"),
    )
    begins: ClassVar[str] = "hansa.audit.run:audit"
    checks: ClassVar[str] = "hansa.audit.preparing:prepare"
    resumable: ClassVar[tuple[str, ...]] = ("box",)

    verb: Literal["audit"] = Field("audit", description="whose file this is")
    seed: int = Field(1, description="names all random streams; same seed, same queries")
    population: PopulationSource = Field(
        Made(), description="who can be asked about, and to which groups they belong"
    )
    box: BlackBox = Field(OwnBox(), description="the platform under audit")
    attributes: tuple[str | tuple[str, ...], ...] = Field(
        (),
        description="an agent for each, with the file's budget; a list in it is an intersection. "
        "Without attributes and agents: every attribute of the population",
    )
    agents: tuple[AgentSettings, ...] = Field(
        (), description="agents one by one, instead of attributes"
    )
    budget: int | None = Field(None, ge=1, description="queries of each agent")
    strategy: Literal["auto"] | Strategy = Field(
        "auto",
        description="which rows agents ask, and what is made of the answers; auto: what the "
        "planner expects to be most exact",
    )
    rate: float | None = Field(
        None, gt=0, lt=1, description="the rate of yes that the planner reckons with; none = 1/2"
    )
    metrics: tuple[Disparity, ...] = Field(
        (DemographicParity(), ImpactRatio(of_highest=True)),
        description="what is found out, of hansa list disparity",
    )
    reference: dict[str, str] = Field(
        {}, description="by attribute the group that others are compared with; else its first"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    sharing: Literal["rows", "counts", "sums"] = Field(
        "rows",
        description="what agents tell each other: rows and their answers, counts by group, or "
        "only the sums of all agents' counts (additive secret shares)",
    )
    liars: LiarSettings = Field(LiarSettings(), description="agents who may lie")
    cross_check: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of each budget that asks what another agent asked, too: it exposes a "
        "platform that answers one agent differently",
    )
    on_change: Literal["report", "stop"] = Field(
        "report", description="what a platform that changes its answers leads to"
    )

    @model_validator(mode="before")
    @classmethod
    def _changed_strategy(cls, settings: Any) -> Any:
        """``--set strategy.sampling=uniform`` makes a strategy of ``auto``."""
        strategy = settings.get("strategy") if isinstance(settings, Mapping) else None
        if isinstance(strategy, Mapping) and strategy.get("name") == "auto":
            chosen = {key: value for key, value in strategy.items() if key != "name"}
            return {**settings, "strategy": chosen or "auto"}
        return settings

    def label(self) -> str:
        """By the platform's kind."""
        return f"audit-{type(self.box).name.rpartition(':')[2] or 'box'}"

    def wanted(self, every: tuple[str, ...]) -> list[Agent]:
        """The agents.

        Args:
            every: the population's attributes.

        Raises:
            ConfigError: agents and attributes are both given, or a budget is missing.
        """
        if self.agents and self.attributes:
            problem = "there are agents as well"
            raise ConfigError("attributes", None, problem, "agents, or attributes and budget")
        settings = self.agents or tuple(
            AgentSettings(attribute=one) for one in self.attributes or every
        )
        agents = []
        for place, one in enumerate(settings):
            budget = one.budget or self.budget
            if budget is None:
                field = f"agents.{place}.budget" if self.agents else "budget"
                problem = "nobody says how many queries may be asked"
                raise ConfigError(field, None, problem, "budget: 100, of each agent")
            words = one.attribute if isinstance(one.attribute, str) else " × ".join(one.attribute)
            agents.append(Agent(one.name or words, one.attribute, budget))
        return agents
