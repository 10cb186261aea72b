"""CPFL: cohorts side by side, what they cost, and what becomes of their models."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.models import ParameterLayout

N = 8
CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
STOP = {"window": 2, "patience": 2, "min_delta": 0.3}
BASE: dict[str, Any] = {
    "clock": CLOCK,
    "rounds": 12,
    "evaluate": {"every": 1, "local_validation": 0.1},
    "train.optimizer": {"name": "sgd", "lr": 0.3},
}
PUBLIC = {"data": {"name": "digits", "public": 0.2}}
MESSAGE = 910 * 4 + HEADER_BYTES


def cpfl(**settings: Any) -> dict[str, Any]:
    """A run of CPFL, by default without a merge."""
    return {**BASE, "algorithm": {"name": "cpfl", "merge": "none", "stop": STOP, **settings}}


@pytest.mark.parametrize("sampled", [None, 3])
@pytest.mark.parametrize("merge", ["distill", "average", "none"])
def test_one_cohort_is_fedavg_to_the_bit(
    make_job: Callable[..., Job], host: Callable[..., Any], merge: str, sampled: int | None
) -> None:
    """B-2: it needs no public examples and merges nothing."""
    single = cpfl(cohorts=1, merge=merge, sampled=sampled)
    average = {"weighting": "uniform", "stop": STOP, "select": "best", "sampled": sampled}
    block, reports = host(make_job(single))
    other, theirs = host(make_job({**BASE, "algorithm": {"name": "fedavg", **average}}))
    assert torch.equal(block.rows, other.rows)
    assert len(reports) == len(theirs)
    for name, value in other.state.items():
        assert torch.equal(block.state[name], value), name


def test_a_cohort_is_fedavg_of_its_members(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """From the same initial model, with plain means, whatever the others do."""
    job = make_job({**cpfl(cohorts=3, stop=None, select="last"), "rounds": 4})
    block, _ = host(job)
    members = job.algorithm.members(block)  # type: ignore[attr-defined]
    assert np.bincount(members - N).tolist() == [3, 3, 2]
    initial = job.block(np.arange(N + 3)).rows
    assert torch.equal(initial[0], initial[1])
    for cohort in range(3):
        mine = np.flatnonzero(members == N + cohort)
        x = initial[0].clone()
        for t in range(4):
            crew = job.bench(N)
            crew.rows.copy_(x.repeat(N, 1))
            crew.train(t)
            x = crew.rows[torch.from_numpy(mine)].double().mean(0).float()
        torch.testing.assert_close(block.rows[cohort], x, rtol=0, atol=1e-5)


def test_a_cohort_that_has_stopped_rests(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """The run ends with the last cohort; the others' clients are left alone until then."""
    job = make_job({**cpfl(cohorts=4, stop={**STOP, "min_delta": 0.1}), "rounds": 30})
    block, reports = host(job)
    members = job.algorithm.members(block)  # type: ignore[attr-defined]
    ended = {
        e["server"]: r["round"] for r in reports for e in r["events"] if e["kind"] == "stopped"
    }
    assert set(ended) == set(range(N, N + 4))
    assert len(set(ended.values())) > 1
    assert max(ended.values()) == len(reports) < 30
    for report in reports:
        invited = np.flatnonzero(~np.isnan(report["log"]["client_start"]))
        going = [i for i in range(N) if ended[int(members[i])] >= report["round"]]
        assert invited.tolist() == going


@pytest.mark.parametrize("merge", ["distill", "average", "none"])
def test_what_it_costs_adds_up(
    make_job: Callable[..., Job], host: Callable[..., Any], merge: str
) -> None:
    """B-8: work of the clients, time of the last cohort, and a model each way a part taken."""
    taught = {"distillation": {"epochs": 1}} if merge == "distill" else {}
    job = make_job({**cpfl(cohorts=3, sampled=2, merge=merge, **taught), **PUBLIC})
    block, reports = host(job)
    pace = block.clock.pace(block, block.ids)[:N]
    took_part = block.state["training_rounds"].numpy()[:N]
    assert took_part.sum() == sum(
        int((report["log"]["client_outcome"] == 0).sum()) for report in reports
    )
    assert block.state["compute_time"].numpy()[:N] == pytest.approx(16 * pace * took_part)
    hours = sum(
        float((16 * pace)[report["log"]["client_outcome"][:N] == 0].sum()) for report in reports
    )
    assert float(block.state["compute_time"].sum()) == pytest.approx(hours)
    # A loss of 4 bytes goes up with each update.
    assert block.state["bytes_sent"][:N].tolist() == (took_part * (MESSAGE + 4)).tolist()
    down = int(took_part.sum()) * MESSAGE
    merged = 0 if merge == "none" else 2 * MESSAGE
    # A row of three small numbers with their types goes with each model. Servers but the first say
    # after each round that they go on, and the first tells everybody when none does.
    invited = int(took_part.sum()) * (HEADER_BYTES + 1 + 3 * (1 + 1))
    stops = [(e, r) for r in reports for e in r["events"] if e["kind"] == "stopped"]
    assert {e["server"] for e, _ in stops} == {N, N + 1, N + 2}
    ended = [r["round"] - 1 for e, r in stops if e["server"] > N]
    words = HEADER_BYTES * (sum(ended) + N + 2)
    assert int(block.state["bytes_sent"][N:].sum()) == down + merged + invited + words
    ends = np.array([
        np.nansum([report["values"]["round_time"][N + c] for report in reports]) for c in range(3)
    ])  # fmt: skip
    assert block.state["modelled_time"].numpy()[N + 1 :] == pytest.approx(ends[1:])
    assert float(block.state["modelled_time"].max()) == pytest.approx(ends.max(), abs=1e-9)


def test_merges(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    apart, _ = host(make_job({**cpfl(cohorts=3), **PUBLIC}))
    job = make_job({**cpfl(cohorts=3, merge="average"), **PUBLIC})
    block, reports = host(job)
    who, models = block.models()
    assert who.tolist() == [N]
    cohorts = apart.models()[1]
    torch.testing.assert_close(models[0], cohorts.mean(0), rtol=0, atol=1e-6)
    assert torch.equal(block.rows, apart.rows)  # a longer run goes on from the cohorts' models
    # What each cohort reached is on record.
    assert np.isfinite(reports[-1]["values"]["cohort_accuracy"][N:]).all()
    assert reports[-1]["measured"]["models"] == 1
    assert reports[0]["measured"]["models"] == 3


@pytest.mark.parametrize("class_weights", ["labels", "uniform"])
def test_the_student_learns_what_the_cohorts_know(
    make_job: Callable[..., Job], host: Callable[..., Any], class_weights: str
) -> None:
    """Its scores on the public examples near the weighted scores of the cohorts' models."""
    skewed = {
        "data": {"name": "digits", "public": 0.2, "partition": {"name": "dirichlet", "alpha": 0.3}}
    }
    taught = {"merge": "distill", "class_weights": class_weights}
    apart, _ = host(make_job({**cpfl(cohorts=3), **skewed, "train.drop_last": False}))
    job = make_job(
        {
            **cpfl(cohorts=3, distillation={"epochs": 150, "lr": 0.01, "batch_size": 64}, **taught),
            **skewed,
            "train.drop_last": False,
        }
    )
    block, reports = host(job)
    public = job.dataset.public
    assert public is not None
    x, _ = job.dataset.gather(public, torch.arange(len(public)))
    layout = ParameterLayout.of(job.module)

    def scores(row: torch.Tensor) -> np.ndarray:
        module = copy.deepcopy(job.module)
        layout.load_(module, row)
        with torch.no_grad():
            return module(x).double().numpy()

    weights = np.full((3, 10), 1 / 3)
    if class_weights == "labels":
        members = job.algorithm.members(block)  # type: ignore[attr-defined]
        targets, counts = job.dataset.train.targets.numpy(), np.zeros((3, 10))
        for i in range(N):
            for label in targets[job.parts[i]]:
                counts[members[i] - N, label] += 1
        weights = counts / counts.sum(0)
    target = np.einsum("nc,nmc->mc", weights, np.stack([scores(row) for row in apart.models()[1]]))
    initial = job.block(np.arange(N + 3)).rows[0]
    loss, before = (np.abs(scores(row) - target).mean() for row in (block.models()[1][0], initial))
    event = next(e for r in reports for e in r["events"] if e["kind"] == "distilled")
    assert event["loss"] < 0.3 * event["first_loss"]
    assert loss < 0.3 * before
    assert loss == pytest.approx(event["loss"], rel=0.5)


def test_cohorts_are_a_number_or_a_rule(make_job: Callable[..., Job], tmp_path: Any) -> None:
    number = make_job(cpfl(cohorts=3))
    rule = make_job(cpfl(cohorts={"name": "uniform", "cohorts": 3}))
    assert number.algorithm == rule.algorithm
    assert number.servers == 3
    file = tmp_path / "cohorts.txt"
    file.write_text("0,0-7\n1,1-2-3\n2,4-5-6\n")
    job = make_job(cpfl(cohorts={"name": "file", "path": str(file)}))
    block = job.block(np.arange(job.nodes))
    members = job.algorithm.members(block)  # type: ignore[attr-defined]
    assert (members - N).tolist() == [0, 1, 1, 1, 2, 2, 2, 0]
    by_device = make_job(cpfl(cohorts={"name": "by_device", "cohorts": 2}))
    block = by_device.block(np.arange(by_device.nodes))
    members = by_device.algorithm.members(block)  # type: ignore[attr-defined]
    pace = by_device.clock.pace(block, block.ids)[:N]
    assert pace[members == N].max() <= pace[members == N + 1].min()


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        (cpfl(cohorts=3, merge="distill"), "algorithm.merge", "withholds none"),
        (
            {
                **cpfl(cohorts=3, merge="distill", public={"name": "digits", "downscale": 2}),
                "data": "digits",
            },
            "algorithm.public",
            "shape",
        ),
        (cpfl(cohorts=9), "algorithm.cohorts", "8 clients"),
        (
            {
                **cpfl(cohorts=8),
                "data": {
                    "name": "digits",
                    "train_samples": 100,
                    "partition": {"name": "quantity", "alpha": 1, "min_samples": 3},
                },
                "train.drop_last": False,
            },
            "algorithm.stop",
            "has validation examples",
        ),
        ({**cpfl(cohorts=2), "evaluate": {"every": 1}}, "algorithm.stop", "hold back"),
    ],
    ids=["no public", "other shape", "too many", "cohort without validation", "no validation"],
)
def test_what_cannot_work_is_explained_beforehand(
    make_job: Callable[..., Job], changes: Any, field: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        make_job(changes)
    assert caught.value.field.startswith(field)
