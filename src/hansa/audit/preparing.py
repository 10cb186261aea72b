"""All that an audit needs before the first query: what can be refused is refused here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hansa.audit.audit_file import AuditFile
from hansa.audit.black_box import Ask
from hansa.audit.planner import STRATEGIES, Forecast, plan
from hansa.audit.population import Agent, Attribute, Population, check
from hansa.audit.strategies import Strategy
from hansa.audit.verdicts import Domain
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams


@dataclass(frozen=True)
class Prepared:
    """An audit that can begin.

    Attributes:
        agents: with their whole budgets.
        planned: the same agents with what the strategy may spend: less what checks the platform.
        attributes: of the agents.
        strategy: the one that is followed.
        forecasts: what each strategy is expected to come to, the best first.
        ask: the platform, opened.
    """

    settings: AuditFile
    population: Population
    agents: list[Agent]
    planned: list[Agent]
    attributes: list[Attribute]
    strategy: Strategy
    forecasts: list[Forecast]
    ask: Ask

    @property
    def names(self) -> list[str]:
        """Of the agents."""
        return [agent.name for agent in self.agents]

    @property
    def domains(self) -> list[Domain]:
        """The domains that the metrics need, all members first."""
        needed = {"all": None} | {d: None for one in self.settings.metrics for d in one.domains}
        return list(needed)  # type: ignore[arg-type]

    def identity(self, agent: Agent) -> str:
        """Digest of what an agent's ledger belongs to."""
        settings = self.settings
        facts = {
            "population": population_digest(self.population),
            "box": settings.box.identity(),
            "strategy": self.strategy.model_dump(mode="json"),
            "seed": settings.seed,
            "cross_check": settings.cross_check,
            "agents": [[one.name, one.attribute, one.budget] for one in self.agents],
            "agent": agent.name,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def reference(self, attribute: Attribute) -> str:
        """The group that others are compared with."""
        return self.settings.reference.get(attribute.name, attribute.values[0])


def prepare(chosen: AuditFile, box: bool = True) -> Prepared:
    """Read, check and plan; nothing is asked.

    Args:
        box: open the platform, too; a plan alone needs none.

    Raises:
        ConfigError: a setting that cannot work; names it.
        DataError: the population's files are missing or damaged.
    """
    try:
        population = chosen.population.read()
    except ConfigError as error:
        raise error.under("population") from None
    agents = chosen.wanted(tuple(population.attributes))
    attributes = _checked(chosen, population, agents)
    planned = [replace(one, budget=one.budget - _checking(chosen, one)) for one in agents]
    _checked(chosen, population, planned)
    _check_reference(chosen, attributes)
    _check_metrics(chosen, population)
    _check_together(chosen, agents)
    strategy, forecasts = _strategy(chosen, population, planned)
    try:
        strategy.queries(population, planned, Streams(chosen.seed))
    except ConfigError as error:
        raise error if error.field.startswith("strategy") else error.under("strategy") from None
    ask: Ask = _unasked
    if box:
        try:
            ask = chosen.box.opened(population, [one.name for one in agents])
        except ConfigError as error:
            raise error.under("box") from None
    return Prepared(chosen, population, agents, planned, attributes, strategy, forecasts, ask)


def _unasked(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
    raise RuntimeError("a plan asks nothing")


def _checking(chosen: AuditFile, agent: Agent) -> int:
    """Queries of an agent that check whether the platform answers it as it does another."""
    return round(chosen.cross_check * agent.budget)


def _checked(chosen: AuditFile, population: Population, agents: Sequence[Agent]) -> list[Attribute]:
    try:
        return check(population, agents)
    except ConfigError as error:
        if chosen.agents or not error.field.startswith("agents."):
            raise
        _, place, *rest = error.field.split(".")
        field = "budget" if rest[:1] == ["budget"] else f"attributes.{place}"
        raise ConfigError(field, error.value, error.problem, error.fix) from None


def _check_reference(chosen: AuditFile, attributes: Sequence[Attribute]) -> None:
    values = {attribute.name: attribute.values for attribute in attributes}
    for name, group in chosen.reference.items():
        if name not in values:
            fix = f"one of {', '.join(values)}"
            raise ConfigError(f"reference.{name}", group, "is audited by nobody", fix)
        if group not in values[name]:
            fix = f"one of {', '.join(values[name][:20])}"
            raise ConfigError(f"reference.{name}", group, f"is no group of {name}", fix)


def _check_metrics(chosen: AuditFile, population: Population) -> None:
    if not chosen.metrics:
        raise ConfigError("metrics", None, "nothing is to be found out", "hansa list disparity")
    for place, metric in enumerate(chosen.metrics):
        if population.labels is None and set(metric.domains) - {"all"}:
            problem = f"needs true outcomes, and {population.name} has none"
            raise ConfigError(f"metrics.{place}", type(metric).name, problem, "give labels")


def _check_together(chosen: AuditFile, agents: Sequence[Agent]) -> None:
    """Refuse what agents cannot do together: too many liars, checks by one alone, ..."""
    m, liars = len(agents), chosen.liars
    if liars.f and m < 2 * liars.f + 1:
        problem = f"of {m} agents: those who tell the truth have to be more than those who lie"
        fix = f"at most {(m - 1) // 2}, or {2 * liars.f + 1} agents"
        raise ConfigError("liars.f", liars.f, problem, fix)
    if liars.f and liars.rule.least > m:
        problem = f"needs {liars.rule.least} agents, not {m}"
        raise ConfigError("liars.pooling", type(liars.rule).name, problem, "another rule")
    if liars.f and chosen.sharing == "sums":
        problem = "hides who said what, so that a lie goes unseen"
        raise ConfigError("sharing", "sums", problem, "sharing: rows or counts, or liars.f: 0")
    names = [agent.name for agent in agents]
    for name in liars.agents:
        if name not in names:
            problem = "there is no such agent"
            raise ConfigError("liars.agents", name, problem, f"one of {', '.join(names)}")
    if chosen.cross_check and m < 2:
        problem = "needs a second agent to compare with"
        raise ConfigError("cross_check", chosen.cross_check, problem, "0")


def _strategy(
    chosen: AuditFile, population: Population, agents: Sequence[Agent]
) -> tuple[Strategy, list[Forecast]]:
    """The strategy that is followed, and what all that may be are expected to come to."""
    if chosen.strategy == "auto":
        able = [one for one in STRATEGIES if not _unable(chosen, one)]
        forecasts = plan(population, agents, chosen.rate, able)
        return forecasts[0].strategy, forecasts
    strategy = chosen.strategy
    if why := _unable(chosen, strategy):
        field, problem, fix = why
        raise ConfigError(f"strategy.{field}", getattr(strategy, field), problem, fix)
    others = [one for one in STRATEGIES if one != strategy]
    return strategy, plan(population, agents, chosen.rate, [strategy, *others])


def _unable(chosen: AuditFile, strategy: Strategy) -> tuple[str, str, str] | None:
    """Why a strategy does not go with what else is asked: (field, problem, fix)."""
    if chosen.liars.f and strategy.collaboration == "none":
        return "collaboration", "pools nothing, so that liars cannot be outvoted", "a_posteriori"
    if chosen.sharing == "rows" or strategy.collaboration == "none":
        return None
    if strategy.collaboration == "a_posteriori" or strategy.reference:
        problem = f"may ask a row twice, which sharing: {chosen.sharing} would count twice"
        return "collaboration", problem, "a_priori (not as published), or sharing: rows"
    return None


def population_digest(population: Population) -> str:
    """Of who can be asked, and their groups; answers and outcomes are not in it."""
    digest = hashlib.sha256()
    for name, attribute in population.attributes.items():
        digest.update(json.dumps([name, attribute.values]).encode())
        digest.update(np.ascontiguousarray(attribute.codes, dtype="<i2").tobytes())
    if population.ids is not None:
        digest.update(json.dumps([str(one) for one in population.ids.tolist()]).encode())
    return digest.hexdigest()


def planned_facts(prepared: Prepared) -> dict[str, Any]:
    """What there is to know before anything is asked: the object of ``hansa audit plan --json``."""
    box = prepared.settings.box
    pace, batch = box.pace, box.batch
    budgets = [agent.budget for agent in prepared.agents]
    return {
        "population": {
            "name": prepared.population.name,
            "members": prepared.population.rows,
            "groups": {attribute.name: _sizes(attribute) for attribute in prepared.attributes},
            "notes": list(prepared.population.notes),
        },
        "chosen": prepared.strategy.name,
        "cost": {
            "queries": {agent.name: agent.budget for agent in prepared.agents},
            "checks": {
                agent.name: agent.budget - one.budget
                for agent, one in zip(prepared.agents, prepared.planned, strict=True)
            },
            "calls": sum(-(-budget // batch) for budget in budgets),
            "least_seconds": (sum(budgets) if box.one_pace else max(budgets)) / pace[0]
            if pace
            else None,
        },
        "forecasts": [
            {
                "strategy": one.strategy.name,
                "error": one.error,
                "rmse": dict(one.rmse),
                "chosen": one.strategy == prepared.strategy,
            }
            for one in prepared.forecasts
        ],
    }


def _sizes(attribute: Attribute) -> Mapping[str, int]:
    sizes = dict(zip(attribute.values, attribute.sizes.tolist(), strict=True))
    return sizes | ({"(unknown)": attribute.unknown} if attribute.unknown else {})
