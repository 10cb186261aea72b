"""Strategies: nobody asks a row twice, nobody overspends, and the whole budget is used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.audit.estimators import Cells, poststrata
from hansa.audit.population import Agent, Asked, Attribute, Population
from hansa.audit.strategies import Strategy
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams

Ask = Callable[..., list[Asked]]
SAMPLINGS = ("uniform", "stratified", "neyman", "adaptive_neyman")
COLLABORATIONS = ("none", "a_posteriori", "a_priori")


@st.composite
def populations(draw: st.DrawFn) -> Population:
    """2 to 4 attributes of 2 or 3 groups, some unknown, every group with somebody in it."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(12, 120))
    attributes = {}
    for name in "abcd"[: draw(st.integers(2, 4))]:
        count = draw(st.integers(2, 3))
        codes = random.integers(0, count, rows).astype(np.int16)
        codes[random.random(rows) < draw(st.sampled_from([0.0, 0.2]))] = -1
        codes[:count] = np.arange(count)
        attributes[name] = Attribute(name, tuple(f"{name}{k}" for k in range(count)), codes)
    answers = (random.random(rows) < random.random()).astype(np.int8)
    return Population(attributes, answers)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    population=populations(),
    sampling=st.sampled_from(SAMPLINGS),
    collaboration=st.sampled_from(COLLABORATIONS),
    sigma=st.sampled_from(["half", "oracle"]),
    data=st.data(),
)
def test_no_row_twice_never_above_the_budget_and_all_of_it(
    ask: Ask,
    population: Population,
    sampling: str,
    collaboration: str,
    sigma: str,
    data: st.DataObject,
) -> None:
    agents = [
        Agent(name, name, data.draw(st.integers(len(one.values), population.rows)))
        for name, one in population.attributes.items()
    ]
    strategy = Strategy.model_validate(
        {"sampling": sampling, "collaboration": collaboration, "sigma": sigma}
    )
    asked = ask(strategy, population, agents)
    for agent, own in zip(agents, asked, strict=True):
        assert len(own.rows) <= agent.budget
        assert len(np.unique(own.rows)) == len(own.rows)
        attribute = population.attributes[agent.name]
        if collaboration != "a_priori":
            able = population.rows if sampling == "uniform" else int(attribute.sizes.sum())
            assert len(own.rows) == min(agent.budget, able)
    together = np.concatenate([own.rows for own in asked])
    if collaboration == "a_priori":
        assert len(np.unique(together)) == len(together)
        assert len(together) <= sum(agent.budget for agent in agents)
    for estimate in strategy.estimate(population, agents, asked):
        assert (estimate.answered <= estimate.population).all()
        known = ~np.isnan(estimate.rates)
        assert ((estimate.rates[known] >= -1e-12) & (estimate.rates[known] <= 1 + 1e-12)).all()
        whole = (estimate.answered == estimate.population) & known
        assert np.abs(estimate.variances[whole]).max(initial=0) < 1e-12


def test_a_whole_population_asked_is_the_truth(ask: Ask) -> None:
    random = np.random.default_rng(1)
    codes = random.integers(0, 2, 50).astype(np.int16)
    answers = random.integers(0, 2, 50).astype(np.int8)
    population = Population({"a": Attribute("a", ("no", "yes"), codes)}, answers)
    truth = answers[codes == 1].mean() - answers[codes == 0].mean()
    for collaboration in COLLABORATIONS:
        strategy = Strategy.model_validate({"collaboration": collaboration})
        agents = [Agent("a", "a", 50)]
        (estimate,) = strategy.estimate(population, agents, ask(strategy, population, agents))
        assert estimate.difference() == pytest.approx(truth)
        assert np.isinf(estimate.effective).all()


def _pair(**sizes: int) -> Population:
    codes = np.repeat(np.arange(len(sizes)), list(sizes.values())).astype(np.int16)
    return Population({"sex": Attribute("sex", tuple(sizes), codes)}, name="the town")


@pytest.mark.parametrize(
    ("population", "agent", "field", "problem"),
    [
        (_pair(f=5, m=5), Agent("a", "sez", 4), "agents.0.attribute", "did you mean 'sex'"),
        (_pair(f=5, m=0), Agent("a", "sex", 4), "agents.0.attribute", "constant"),
        (_pair(f=5, m=5, x=0), Agent("a", "sex", 4), "agents.0.attribute", "nobody"),
        (_pair(f=5, m=5), Agent("a", "sex", 0), "agents.0.budget", "2 groups"),
        (_pair(f=5, m=5), Agent("a", "sex", 11), "agents.0.budget", "above the 10 rows"),
    ],
)
def test_what_cannot_be_audited_is_said_before_anything_is_asked(
    population: Population, agent: Agent, field: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        next(Strategy().queries(population, [agent], Streams(0)))
    assert caught.value.field == field


@given(
    groups=st.lists(st.integers(-1, 2), min_size=1, max_size=12),
    data=st.data(),
)
def test_a_post_stratum_is_of_one_group(groups: list[int], data: st.DataObject) -> None:
    """Also where no answer is to be expected of some cells."""
    expected = [data.draw(st.sampled_from([0.0, 1.0, 5.0])) for _ in groups]
    cells = Cells(np.array(groups, np.int16), np.full(len(groups), 9), 3)
    strata = poststrata(cells, np.array(expected))
    assert ((strata >= 0) == (np.array(groups) >= 0)).all()
    for stratum in set(strata[strata >= 0].tolist()):
        assert len(set(np.array(groups)[strata == stratum].tolist())) == 1


def test_a_cell_that_nobody_can_ask_joins_its_own_group() -> None:
    cells = Cells(np.array([0, 0, 1, 1], np.int16), np.array([6, 1, 3, 5]), 2)
    assert poststrata(cells, np.array([5.0, 0.0, 2.0, 4.0])).tolist() == [0, 0, 1, 1]
