"""From what agents reported to what an audit found: estimates, findings, groups, frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hansa.audit.boxes.own_box import OwnBox
from hansa.audit.consistency import Consistency
from hansa.audit.deciding import more
from hansa.audit.disparity import ImpactRatio
from hansa.audit.estimates import Estimate
from hansa.audit.frames import metric_frame
from hansa.audit.group_rows import group_rows
from hansa.audit.pooling import Agreed, domain_rows, pooled
from hansa.audit.population import Asked, Attribute, Population
from hansa.audit.preparing import Prepared
from hansa.audit.sharing import outcome_cells, standing_for
from hansa.audit.verdicts import Disparity, Domain, Finding

Estimates = Mapping[Domain, Sequence[Estimate]]


def estimates(
    prepared: Prepared, reports: Sequence[Asked], counts: Sequence[np.ndarray]
) -> dict[Domain, list[Estimate]]:
    """An estimate for each agent over each domain, from what agents told each other.

    Args:
        prepared: the audit.
        reports: the rows and answers of each agent, where rows are told.
        counts: int64 [3, C] of each agent, or of all together, where only counts are.
    """
    settings, population, agents = prepared.settings, prepared.population, prepared.planned
    believed, alone = list(reports), list(reports)
    if settings.sharing != "rows" and prepared.strategy.collaboration != "none":
        cells, _ = outcome_cells(population, audited_cells(prepared))
        alone = [standing_for(cells, one) for one in counts]
        total = standing_for(cells, np.sum(counts, axis=0))
        nobody = Asked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int8))
        believed = [total, *[nobody] * (len(agents) - 1)]
    made: dict[Domain, list[Estimate]] = {}
    for name in prepared.domains:
        domain = domain_rows(population, name)
        together = prepared.strategy.estimate(population, agents, believed, domain)
        made[name] = together
        if settings.liars.f:
            rule, f = settings.liars.rule, settings.liars.f
            made[name] = list(
                pooled(
                    prepared.strategy, population, agents, alone, together, rule, f,
                    settings.confidence, domain,
                )
            )  # fmt: skip
    return made


def audited_cells(prepared: Prepared) -> Any:
    """The cells that all agents' attributes cut the population into."""
    return prepared.population.cells([agent.attribute for agent in prepared.agents])


def results(
    prepared: Prepared, made: Estimates, spent: Sequence[int], consistency: Consistency
) -> dict[str, Any]:
    """What the run folder keeps of the findings (``audit.json``).

    Args:
        prepared: the audit.
        made: the estimates.
        spent: queries of each agent whose answers are in the estimates.
        consistency: whether the platform answered all alike.
    """
    alone = prepared.strategy.collaboration == "none"
    rows, groups, frames, suspects = [], {}, {}, {}
    told: set[str] = set()
    for place, (agent, attribute) in enumerate(
        zip(prepared.agents, prepared.attributes, strict=True)
    ):
        if attribute.name in told and not alone:
            continue  # whoever pools finds the same
        told.add(attribute.name)
        own = {name: each[place] for name, each in made.items()}
        used = spent[place] if alone else sum(spent)
        who = agent.name if alone else ""
        rows += _findings(prepared, own, attribute, who, used)
        title = attribute.name if attribute.name not in groups else f"{attribute.name}, {who}"
        confidence, reference = prepared.settings.confidence, prepared.reference(attribute)
        groups[title] = group_rows(own["all"], confidence, reference, used)
        frames[title] = metric_frame(own)
        if isinstance(own["all"], Agreed):
            outside, torn = own["all"].outside(confidence), own["all"].torn(confidence)
            suspects[title] = {"outside": list(outside), "torn": list(torn)}
    return {
        "findings": rows,
        "groups": groups,
        "frames": frames,
        "pool": suspects,
        "consistency": {**asdict(consistency), "verdict": consistency.verdict},
    }


def _findings(
    prepared: Prepared,
    own: Mapping[Domain, Estimate],
    attribute: Attribute,
    who: str,
    spent: int,
) -> list[dict[str, Any]]:
    """The findings of one attribute; of a study with the truth beside them."""
    settings, reference = prepared.settings, prepared.reference(attribute)
    rows = []
    for metric in settings.metrics:
        domains = {name: own[name] for name in metric.domains}
        for place, finding in enumerate(metric.findings(domains, settings.confidence, reference)):
            needed = None
            if finding.verdict == "undecided":
                needed = more(metric, domains, place, spent, settings.confidence, reference)
            row = {**asdict(finding), "unit": unit(metric), "agent": who, "needed": needed}
            if isinstance(settings.box, OwnBox):
                row["truth"] = _truth(prepared.population, metric, domains, attribute, finding)
            rows.append(row)
    return rows


def unit(metric: Disparity) -> str:
    """Whether a measure is a ratio, or a difference of shares."""
    ratio = isinstance(metric, ImpactRatio) or getattr(metric, "form", "") == "ratio"
    return "ratio" if ratio else "share"


def _truth(
    population: Population,
    metric: Disparity,
    domains: Mapping[Domain, Estimate],
    attribute: Attribute,
    finding: Finding,
) -> float:
    """What a study knows: the same measure, had everybody been asked, of the same groups."""
    census = {name: _census(population, one, attribute, name) for name, one in domains.items()}
    if isinstance(metric, ImpactRatio):  # the highest may truly be another
        metric = metric.model_copy(update={"of_highest": False})
    pair = finding.reference if finding.group in attribute.values else None
    rows = metric.findings(census, 0.95, pair or None)
    return next((row.estimate for row in rows if row.group == finding.group), rows[0].estimate)


def _census(population: Population, like: Estimate, attribute: Attribute, name: Domain) -> Estimate:
    """What asking everybody would have said."""
    answers = population.answers
    assert answers is not None  # the population's own box has them
    inside = attribute.codes >= 0
    domain = domain_rows(population, name)
    inside = inside if domain is None else inside & domain
    codes, count = attribute.codes[inside], len(attribute.values)
    sizes = np.bincount(codes, minlength=count)
    yes = np.bincount(codes, answers[inside] > 0, minlength=count)
    rates = np.where(sizes > 0, yes / np.maximum(sizes, 1), np.nan)
    return Estimate(
        like.agent, attribute.name, attribute.values, sizes, sizes, sizes, yes, rates,
        np.zeros(count), like.unknown,
    )  # fmt: skip
