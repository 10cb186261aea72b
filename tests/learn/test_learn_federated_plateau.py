"""Early stopping: the rule on sequences made by hand, and in runs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hansa.engine import Job
from hansa.learn.federated.plateau import LossWatch, Plateau
from hansa.models import ParameterLayout


def seen(rule: Plateau, losses: list[float]) -> tuple[list[int], int | None]:
    """(rounds whose model was the best so far, the round that stops), from 1."""
    watch, better = LossWatch.start(rule), []
    for t, loss in enumerate(losses, start=1):
        if watch.see(loss):
            better.append(t)
        if watch.stopped:
            return better, t
    return better, None


@given(
    patience=st.integers(1, 9), window=st.integers(1, 9), strict=st.booleans(), loss=st.floats(0, 9)
)
def test_a_constant_loss_stops_after_the_patience(
    patience: int, window: int, strict: bool, loss: float
) -> None:
    rule = Plateau(patience=patience, window=window, strict=strict)
    assert seen(rule, [loss] * 20) == ([1], patience + 1)


@given(patience=st.integers(1, 5), window=st.integers(1, 5), fall=st.integers(1, 9))
def test_a_falling_loss_never_stops(patience: int, window: int, fall: int) -> None:
    """Its mean falls too, by half a step at least while the window fills."""
    losses = [1000.0 - fall * t for t in range(40)]
    rule = Plateau(patience=patience, window=window, min_delta=0.4)
    assert seen(rule, losses) == (list(range(1, 41)), None)


def test_a_spike_in_the_window_does_not_reset_the_best() -> None:
    rule = Plateau(window=3, patience=4, strict=True)
    # Means: 4, 3.5, 3, 5.67, 5.33, 5, 2: the spike waits three rounds, then the best returns.
    assert seen(rule, [4, 3, 2, 12, 2, 1, 3]) == ([1, 2, 3, 7], None)
    assert seen(rule, [4, 3, 2, 12, 2, 1, 9, 9]) == ([1, 2, 3], 7)


def test_a_window_that_is_not_full_takes_what_there_is() -> None:
    watch = LossWatch.start(Plateau(window=20, patience=3, strict=True))
    assert [watch.see(loss) for loss in (3.0, 2.0, 4.5, 2.4)] == [True, True, False, False]
    assert watch.best == 2.5
    assert watch.waited == 2
    assert watch.see(0.5)
    assert watch.best == pytest.approx(12.4 / 5)


def test_an_improvement_must_be_worth_it() -> None:
    losses = [1.0, 0.95, 0.9, 0.85, 0.8]
    assert seen(Plateau(window=1, patience=9, min_delta=0.08), losses) == ([1, 3, 5], None)
    assert seen(Plateau(window=1, patience=9, min_delta=0.3), losses) == ([1], None)
    assert seen(Plateau(window=1, patience=9, min_delta=0.3, strict=True), losses)[0] == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip
    # A share of the best: 10 -> below 9.5, 9 -> below 8.55.
    relative = Plateau(window=1, patience=9, min_delta=0.05, relative=True)
    assert seen(relative, [10, 9.6, 9, 8.6, 8.5]) == ([1, 3, 5], None)
    # Exactly as much as asked for is not more than it.
    assert seen(Plateau(window=1, patience=9, min_delta=0.5), [2, 1.5, 1.25]) == ([1, 3], None)


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    rule = Plateau(window=1, patience=2)
    assert seen(rule, [math.nan, math.nan]) == ([], 2)
    assert seen(rule, [math.inf, 1.0, math.nan, 0.5]) == ([2, 4], None)


@given(
    losses=st.lists(st.one_of(st.floats(0, 5), st.just(math.nan)), max_size=12),
    window=st.integers(1, 5),
    cut=st.integers(0, 12),
)
def test_a_watch_survives_being_saved(losses: list[float], window: int, cut: int) -> None:
    rule = Plateau(window=window, patience=3)
    one, other = LossWatch.start(rule), LossWatch.start(rule)
    for t, loss in enumerate(losses):
        if t == cut:
            row = one.row()
            assert row.shape == (window + 3,)
            one = LossWatch.of(rule, row)
        assert one.see(loss) == other.see(loss)
        assert one == other


# -- in runs ---------------------------------------------------------------------------------------

CHANGES: dict[str, Any] = {
    "rounds": 14,
    "evaluate": {"every": 1, "local_validation": 0.1},
    "train.optimizer": {"name": "sgd", "lr": 1.0},
}


def losses_of(job: Job, row: torch.Tensor) -> float:
    """Mean over clients of the loss on what each holds back."""
    module = job.module
    ParameterLayout.of(module).load_(module, row)
    found = []
    with torch.no_grad():
        for part in job.held:
            x, y = job.dataset.gather(job.dataset.train, torch.from_numpy(part))
            found.append(float(nn.functional.cross_entropy(module(x), y)))
    return float(np.mean(found))


def test_the_best_is_the_model_that_was_measured(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Clients judge the model that they get: that of before the round, by its smoothed loss."""
    rule = {"window": 2, "patience": 3, "min_delta": 0.12}
    plain = {**CHANGES, "algorithm": {"name": "fedavg", "select": "last"}}
    models = [make_job(plain).block(np.arange(9)).rows[0].clone()]
    for rounds in range(1, 14):
        models.append(host(make_job({**plain, "rounds": rounds}))[0].rows[0].clone())
    judge = make_job(plain)
    losses = [losses_of(judge, row) for row in models]
    better, end = seen(Plateau.model_validate(rule), losses)
    assert end is not None
    assert 4 <= end < 14
    for select in ("best", "last"):
        method = {"name": "fedavg", "stop": rule, "select": select}
        block, reports = host(make_job({**CHANGES, "algorithm": method}))
        assert len(reports) == end
        assert block.outcome is not None
        measured = [report["values"]["local_validation_loss"][8] for report in reports]
        assert measured == pytest.approx(losses[:end], abs=1e-5)
        assert [e["kind"] for e in reports[-1]["events"]] == ["stopped"]
        assert not any(report["events"] for report in reports[:-1])
        wanted = models[better[-1] - 1] if select == "best" else models[end]
        torch.testing.assert_close(block.rows[0], wanted, rtol=0, atol=1e-5)


def test_the_best_without_a_stop(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    """Of all rounds; a rate so large that later ones are worse."""
    wild = {**CHANGES, "rounds": 8, "train.optimizer": {"name": "sgd", "lr": 6.0}}
    models = [make_job({**wild, "algorithm": "fedavg"}).block(np.arange(9)).rows[0].clone()]
    for rounds in range(1, 8):
        job = make_job({**wild, "algorithm": "fedavg", "rounds": rounds})
        models.append(host(job)[0].rows[0].clone())
    judge = make_job({**wild, "algorithm": "fedavg"})
    best = int(np.argmin([losses_of(judge, row) for row in models]))
    block, reports = host(make_job({**wild, "algorithm": {"name": "fedavg", "select": "best"}}))
    assert len(reports) == 8
    torch.testing.assert_close(block.models()[1][0], models[best], rtol=0, atol=1e-5)


def test_the_last_is_selected_where_nobody_could_judge(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Clients that hold nothing back took part, or the only trained model is not judged yet."""
    changes = {**CHANGES, "rounds": 3, "algorithm": {"name": "fedavg", "select": "best"}}

    job = make_job(changes)
    held = [part if i == 7 else part[:0] for i, part in enumerate(job.held)]
    job.held = held
    job.algorithm = job.algorithm.model_copy(update={"sampled": 1})
    for seed in range(100):
        job.streams.seed = seed
        block, reports = host(job)
        if not any(report["log"]["client_outcome"][7] == 0 for report in reports):
            break
    assert torch.equal(block.models()[1], block.rows)
    (event,) = reports[-1]["events"]
    assert event["kind"] == "remark"
    assert "no client that took part could judge" in event["text"]
    for rounds in (1, 2):
        block, reports = host(make_job({**changes, "rounds": rounds}))
        told = [event["text"] for event in reports[-1]["events"]]
        assert torch.equal(block.models()[1], block.rows) == (rounds == 1)
        assert len(told) == (rounds == 1)
