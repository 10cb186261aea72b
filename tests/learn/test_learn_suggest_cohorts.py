"""CPFL's dial: what cohorts would cost, against runs and by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.data import label_histogram
from hansa.data.dealing.cohorts import CohortsByDevice, LabelBalancedCohorts
from hansa.engine import Job
from hansa.learn.federated.suggest_cohorts import suggest_cohorts

N = 8
CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
SKEWED = {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.1}}


@pytest.mark.parametrize("method", [{}, {"codec": "qsgd", "sampled": 8}], ids=str)
def test_one_cohort_costs_what_a_round_of_fedavg_does(
    make_job: Callable[..., Job], host: Callable[..., Any], method: Any
) -> None:
    changes = {"clock": CLOCK, "rounds": 1, "algorithm": {"name": "fedavg", **method}}
    dial = suggest_cohorts(make_job(changes)).tried[0]
    block, reports = host(make_job(changes))
    assert dial.slowest == pytest.approx(reports[0]["values"]["round_time"][N])
    assert dial.mean == dial.slowest
    assert dial.device_seconds == pytest.approx(float(block.state["compute_time"].sum()))
    assert dial.nbytes == int(block.state["bytes_sent"].sum())
    assert (dial.cohorts, dial.clients, dial.distance) == (1, 8.0, 0.0)


def test_several_cohorts_cost_what_cpfl_does(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Of cohorts by device, chance has no part: each cohort's round, and all of them together."""
    rule = {"name": "by_device", "cohorts": 4}
    method = {"name": "cpfl", "cohorts": rule, "merge": "none", "stop": None, "select": "last"}
    changes = {"clock": CLOCK, "rounds": 1, "algorithm": method}
    found = suggest_cohorts(make_job(changes), CohortsByDevice(), draws=1).tried
    dial = next(dial for dial in found if dial.cohorts == 4)
    block, reports = host(make_job(changes))
    rounds = reports[0]["values"]["round_time"][N:]
    assert dial.slowest == pytest.approx(rounds.max())
    assert dial.mean == pytest.approx(rounds.mean())
    assert dial.device_seconds == pytest.approx(float(block.state["compute_time"].sum()))
    assert dial.nbytes == int(block.state["bytes_sent"].sum())


def test_sampled_clients_are_so_many_in_each_cohort(make_job: Callable[..., Job]) -> None:
    """More cohorts, more clients at work; of those that are surplus the fastest count."""
    some = make_job({"clock": CLOCK, "algorithm": {"name": "fedavg", "sampled": 2}})
    each = [dial.nbytes for dial in suggest_cohorts(some).tried]
    assert each == pytest.approx([each[0], 2 * each[0], 4 * each[0], 4 * each[0]])
    more = {"name": "fedavg", "sampled": 4, "over_selection": 2}
    fast = suggest_cohorts(make_job({"clock": CLOCK, "algorithm": more})).tried[0]
    slow = suggest_cohorts(make_job({"clock": CLOCK, "algorithm": "fedavg"})).tried[0]
    assert fast.slowest < slow.slowest
    assert fast.nbytes == slow.nbytes


def test_distances_by_hand(make_job: Callable[..., Job]) -> None:
    job = make_job({"data": SKEWED, "algorithm": "fedavg"})
    labels = label_histogram(job.dataset.train.targets.numpy(), job.parts, 10)
    assert labels is not None
    mixes = labels / labels.sum(1, keepdims=True)
    whole = labels.sum(0) / labels.sum()
    alone = np.abs(mixes - whole).sum(1).mean() / 2
    tried = suggest_cohorts(job, draws=30).tried
    assert [dial.cohorts for dial in tried] == [1, 2, 4, 8]
    assert tried[-1].distance == pytest.approx(alone)
    assert tried[-1].examples == pytest.approx(labels.sum() / 80)
    distances = [dial.distance for dial in tried]
    assert distances == sorted(distances)
    balanced = suggest_cohorts(job, LabelBalancedCohorts(), draws=3).tried
    assert balanced[1].distance < tried[1].distance


def test_the_suggestion_is_the_most_that_both_limits_allow(make_job: Callable[..., Job]) -> None:
    job = make_job({"data": SKEWED, "algorithm": "fedavg"})
    tried = suggest_cohorts(job).tried
    for dial in tried:
        alike = suggest_cohorts(job, distance=dial.distance, examples=0).cohorts
        assert alike == dial.cohorts
        full = suggest_cohorts(job, distance=1, examples=dial.examples).cohorts
        assert full == dial.cohorts
    assert suggest_cohorts(job, distance=0, examples=1e9).cohorts == 1
    assert str(suggest_cohorts(job).tried) == str(tried)
    untimed = make_job({"clock": "wall", "algorithm": "fedavg"})
    assert np.isnan(suggest_cohorts(untimed).tried[0].slowest)


@pytest.mark.parametrize("draw", ["node", "class"])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_the_defaults_allow_what_cost_little_and_not_what_cost_much(
    make_job: Callable[..., Job], alpha: float, draw: str
) -> None:
    """The module's experiment: 4 cohorts of 40 clients lost 0.7 points, 8 more than 1.4."""
    partition = {"name": "dirichlet", "alpha": alpha, "draw": draw, "min_samples": 8}
    data = {"name": "digits", "partition": partition}
    job = make_job({"nodes": 40, "data": data, "algorithm": "fedavg"})
    assert suggest_cohorts(job).cohorts == 4


def test_what_has_no_cohorts_is_refused(make_job: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match="rounds"):
        suggest_cohorts(make_job())
    job = make_job({"algorithm": "fedavg"})
    spec = replace(job.dataset.spec, task="regression", outputs=1)
    job.dataset = replace(job.dataset, spec=spec)
    with pytest.raises(ConfigError, match="classes"):
        suggest_cohorts(job)


def test_nothing_is_trained(make_job: Callable[..., Job]) -> None:
    job = make_job({"algorithm": "fedavg"})
    before = torch.cat([p.detach().ravel().clone() for p in job.module.parameters()])
    suggest_cohorts(job)
    assert torch.equal(before, torch.cat([p.detach().ravel() for p in job.module.parameters()]))
