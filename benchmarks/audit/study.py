"""Collaborative audits: the published figures, the mended strategies, and the planner's choice.

    HANSA_DATA=... python benchmarks/audit/study.py    # about 3 minutes on an idle core
    python benchmarks/audit/study.py --smoke           # made populations, a few repetitions

COMPAS, German credit and the ACS extract, with the attributes, budgets and error of the paper (mean
of | |estimate| - |truth| | over agents) where published figures are compared, and of the signed
difference elsewhere, which is larger where the truth is small. Adult is a population that no table
of the paper has: attributes of several values and unequal budgets, where the worst agent counts,
not the mean. Everything is drawn by counts, which is exact
(tests/audit/test_audit_montecarlo.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import Goals, markdown, publish

from hansa.audit.montecarlo import MonteCarlo
from hansa.audit.planner import STRATEGIES, plan
from hansa.audit.population import Agent, Population
from hansa.audit.population_source import PopulationSource
from hansa.audit.strategies import Strategy

SAMPLINGS = ("uniform", "stratified", "neyman")
COLLABORATIONS = ("none", "a_posteriori", "a_priori")
TABLE = {
    "uniform": (0.054, 0.024, 0.024),
    "stratified": (0.048, 0.023, 0.032),
    "neyman": (0.048, 0.023, 0.022),
}
CURVES = {
    ("uniform", "a_posteriori"): (0.061, 0.0476, 0.040, 0.035, 0.032),
    ("stratified", "a_posteriori"): (0.056, 0.0442, 0.038, 0.034, 0.0314),
    ("stratified", "a_priori"): (0.056, 0.0456, 0.042, 0.040, 0.039),
    ("neyman", "a_priori"): (0.0556, 0.0442, 0.0376, 0.0336, 0.0304),
}


def strategy(sampling: str, collaboration: str, **settings: object) -> Strategy:
    """A strategy by its words."""
    words = {"sampling": sampling, "collaboration": collaboration, **settings}
    return Strategy.model_validate(words)


def population(name: str, smoke: bool) -> Population:
    """A population by name; of a smoke test a made one."""
    if smoke:
        return PopulationSource.resolve({"name": "made", "rows": 800, "dependence": 0.3}).read()
    return PopulationSource.resolve(name).read()


def agents(names: Sequence[str], budget: int) -> list[Agent]:
    """An agent for each attribute, with budgets alike."""
    return [Agent(name, name, budget) for name in names]


def errors(study: MonteCarlo, one: Strategy, published: bool = False) -> tuple[float, float]:
    """Mean error over the agents, and the worst agent's."""
    each = study.errors(one, published).mean(0)
    return float(each.mean()), float(each.max())


def compas(goals: Goals, smoke: bool) -> None:
    """The printed table: five agents, R = 250, 300 repetitions."""
    people = population("compas", smoke)
    study = MonteCarlo(
        people, agents(list(people.attributes)[:5], 60 if smoke else 250), 20 if smoke else 300,
        np.random.default_rng(12),
    )  # fmt: skip
    for sampling, expected in TABLE.items():
        for collaboration, printed in zip(COLLABORATIONS, expected, strict=True):
            got, _ = errors(study, strategy(sampling, collaboration, reference=True), True)
            what = f"COMPAS, as published, {sampling} {collaboration}"
            goals.add(what, f"{got:.4f}", f"{printed} ± .002", abs(got - printed) <= 0.002)


def german(goals: Goals, smoke: bool) -> float:
    """The plotted curves: one to five agents, all choices, R = 100; all strategies, CPU-s."""
    people = population("german", smoke)
    names = list(people.attributes)[:5]
    every = [strategy(s, c, reference=True) for s in SAMPLINGS for c in COLLABORATIONS]
    every += [*STRATEGIES, strategy("adaptive_neyman", "a_priori")]
    random, repetitions = np.random.default_rng(12), 10 if smoke else 1000
    means: dict[Strategy, list[float]] = {one: [] for one in every}
    began = time.process_time()
    for m in range(1, 6):
        parts: dict[Strategy, list[float]] = {one: [] for one in every}
        for chosen in combinations(names, m):
            study = MonteCarlo(people, agents(chosen, 40 if smoke else 100), repetitions, random)
            for one in every:
                parts[one].append(errors(study, one, published=one.reference)[0])
        for one, values in parts.items():
            means[one].append(float(np.mean(values)))
    cost = time.process_time() - began
    for one in every:
        expected = CURVES.get((one.sampling, one.collaboration)) if one.reference else None
        curve = " ".join(f"{value:.4f}" for value in means[one])
        if expected is None:
            error = "" if one.reference else ", signed errors"
            goals.add(f"German credit, m = 1 to 5, {one.name}{error}", curve)
            continue
        near = all(abs(a - b) <= 0.003 for a, b in zip(means[one], expected, strict=True))
        wanted = " ".join(f"{value:.4f}" for value in expected) + " ± .003"
        goals.add(f"German credit, m = 1 to 5, {one.name}", curve, wanted, near)
    return cost


def many(goals: Goals, smoke: bool) -> None:
    """ACS: up to 20 agents, R = 500; the mean and the worst agent."""
    people = population("acs", smoke)
    for m in (2, 4) if smoke else (2, 4, 8, 12, 20):
        names = list(people.attributes)[:m]
        study = MonteCarlo(
            people, agents(names, 60 if smoke else 500), 10 if smoke or m == 20 else 100,
            np.random.default_rng(1),
        )  # fmt: skip
        for words in (
            ("uniform", "a_posteriori"),
            ("stratified", "a_posteriori"),
            ("stratified", "a_priori"),
            ("neyman", "a_priori"),
        ):
            mean, worst = errors(study, strategy(*words))
            what = f"ACS, m = {m} ({len(study.cells)} cells), {' '.join(words)}"
            goals.add(what, f"{mean:.4f}, worst agent {worst:.4f}")


def mended(goals: Goals, smoke: bool) -> None:
    """COMPAS at R = 1000 and German credit at R = 200: published against mended, signed."""
    for name, budget in (("compas", 1000), ("german", 190)):
        people = population(name, smoke)
        names = list(people.attributes)[:5]
        study = MonteCarlo(
            people, agents(names, 60 if smoke else budget), 10 if smoke else 1000,
            np.random.default_rng(3),
        )  # fmt: skip
        for collaboration in ("a_posteriori", "a_priori"):
            words = ("stratified", collaboration)
            old, _ = errors(study, strategy(*words, reference=True))
            weighed, _ = errors(study, strategy(*words, weights="balance"))
            new, _ = errors(study, strategy(*words))
            got = f"{old:.4f} -> {weighed:.4f} (balance) -> {new:.4f} (post-stratified)"
            what = f"{name}, R = {budget}, stratified {collaboration}, published -> mended"
            goals.add(what, got, "smaller", new <= old)


def label_free(goals: Goals, smoke: bool) -> None:
    """What it is worth to know the answers' true deviations beforehand: nothing."""
    for name, budget in (("compas", 250), ("german", 100), ("adult", 250), ("acs", 250)):
        people = population(name, smoke)
        study = MonteCarlo(
            people, agents(list(people.attributes)[:5], 60 if smoke else budget),
            10 if smoke else 1000, np.random.default_rng(5),
        )  # fmt: skip
        plans = [strategy("neyman", "a_priori", sigma=sigma) for sigma in ("oracle", "half")]
        came_to = [errors(study, one) for one in (*plans, strategy("adaptive_neyman", "a_priori"))]
        means, worst = (" -> ".join(f"{pair[k]:.4f}" for pair in came_to) for k in (0, 1))
        what = f"{name}, neyman a_priori, deviations known -> one half -> learned by a pilot"
        goals.add(what, f"{means}, worst agent {worst}")


def chosen(goals: Goals, smoke: bool) -> None:
    """The planner's choice against the best of nine, by what they come to."""
    cases = {
        "compas": (5, [250] * 5),
        "german": (5, [100] * 5),
        "acs": (8, [500] * 8),
        "adult": (5, [800, 200, 400, 600, 300]),
    }
    for name, (m, budgets) in cases.items():
        people = population(name, smoke)
        names = list(people.attributes)[: min(m, 5) if smoke else m]
        if smoke:
            budgets = [60] * len(names)
        who = [Agent(n, n, b) for n, b in zip(names, budgets, strict=True)]
        forecasts = plan(people, who)
        study = MonteCarlo(people, who, 20 if smoke else 1500, np.random.default_rng(4))
        came_to = {one.strategy: errors(study, one.strategy) for one in forecasts}
        best = min(came_to, key=lambda one: came_to[one][0])
        first = forecasts[0]
        got, least = came_to[first.strategy][0], came_to[best][0]
        assert people.answers is not None
        off = [
            max(abs(one.error / came_to[one.strategy][0] - 1) for one in plan(people, who, rate))
            for rate in (None, float(people.answers.mean()))
        ]
        goals.add(
            f"{name}, planner's choice of nine: {first.strategy.name}",
            f"{got:.4f}, worst agent {came_to[first.strategy][1]:.4f}; best {best.name} "
            f"{least:.4f}; the nine forecasts are off by {off[0]:.0%} at most, by {off[1]:.0%} "
            "where the overall rate is told",
            "within 5 % of the best",
            got <= 1.05 * least,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="made populations, few repetitions")
    smoke = parser.parse_args().smoke
    goals = Goals()
    compas(goals, smoke)
    cost = german(goals, smoke)
    said = "CPU-s of German credit: 31 choices of agents, 19 strategies, 1,000 repetitions"
    goals.add(said, f"{cost:.1f}", "under 30", cost < 30)
    mended(goals, smoke)
    label_free(goals, smoke)
    chosen(goals, smoke)
    many(goals, smoke)
    command = "python benchmarks/audit/study.py"
    text = markdown("Collaborative audits: mean error an agent", command, goals.HEADER, goals.rows)
    publish("audit_study", text, smoke)


if __name__ == "__main__":
    main()
