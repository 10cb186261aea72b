"""Who trains when, on what budget, and that all else is the inner algorithm's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine import Job
from hansa.experiment import RunFile, prepare, resume, run
from hansa.learn import SkipTrain, SkipTrainConstrained

ROUNDS = 12
FOUR = {"train_rounds": 2, "sync_rounds": 2}


def skip(name: str = "skiptrain", **settings: Any) -> dict[str, Any]:
    return {"rounds": ROUNDS, "algorithm": {"name": name, **settings}}


def log(reports: list[dict[str, Any]]) -> np.ndarray:
    """bool [rounds, n]: who trained in which round."""
    totals = np.stack([report["counters"]["training_rounds"] for report in reports])
    return np.diff(totals, axis=0, prepend=0).astype(bool)


@pytest.fixture(scope="module")
def go(make_job: Callable[..., Job], host: Callable[..., Any]) -> Callable[..., Any]:
    """Run with changed settings: (block, who trained when)."""

    def run_with(changes: dict[str, Any]) -> Any:
        block, reports = host(make_job(changes))
        return block, log(reports)

    return run_with


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "sync"), [(1, 1), (4, 4), (4, 2), (1, 9), (3, 0)])
def test_rounds_with_training(train: int, sync: int) -> None:
    schedule = SkipTrain(train_rounds=train, sync_rounds=sync)
    slots = [schedule.slot(t) for t in range(20 * (train + sync))]
    assert slots == ([True] * train + [False] * sync) * 20
    assert sum(slots) == schedule.slots(len(slots))


def test_all_train_together_and_all_always_talk(go: Callable[..., Any]) -> None:
    block, trained = go(skip(**FOUR))
    assert (trained == trained[:, :1]).all()
    assert trained[:, 0].tolist() == [True, True, False, False] * 3
    assert block.state["training_rounds"].tolist() == [6] * 8
    assert block.state["messages_sent"].tolist() == [3 * ROUNDS] * 8
    assert block.state["steps"].tolist() == [2 * 6] * 8


# -- the equivalence ladder ------------------------------------------------------------------------


def test_without_synchronization_rounds_it_is_dpsgd(go: Callable[..., Any]) -> None:
    plain, _ = go({"rounds": ROUNDS})
    same, trained = go(skip(sync_rounds=0))
    assert trained.all()
    assert torch.equal(plain.rows, same.rows)


def test_greedy_that_can_pay_for_all_rounds_is_dpsgd(go: Callable[..., Any]) -> None:
    plain, _ = go({"rounds": ROUNDS})
    same, trained = go(skip("greedy", budget=ROUNDS))
    assert trained.all()
    assert torch.equal(plain.rows, same.rows)


def test_constrained_that_can_pay_for_all_slots_is_skiptrain(go: Callable[..., Any]) -> None:
    one, first = go(skip(**FOUR))
    two, second = go(skip("skiptrain_constrained", budget=6, **FOUR))
    assert np.array_equal(first, second)
    assert torch.equal(one.rows, two.rows)


def test_jwins_that_never_skips_is_jwins(go: Callable[..., Any]) -> None:
    plain, _ = go({"rounds": ROUNDS, "algorithm": "jwins"})
    same, _ = go(skip(sync_rounds=0, algorithm="jwins"))
    assert torch.equal(plain.rows, same.rows)
    assert torch.equal(plain.state["jwins.accumulated"], same.state["jwins.accumulated"])
    assert torch.equal(plain.state["bytes_sent"], same.state["bytes_sent"])


@pytest.mark.parametrize(
    "inner", ["jwins", "topk", "choco", "random_sampling", "centralized", "el_local", "isolated"]
)
def test_any_algorithm_rests(go: Callable[..., Any], inner: str) -> None:
    plain, _ = go({"rounds": ROUNDS, "algorithm": inner})
    block, trained = go(skip(algorithm=inner, **FOUR))
    assert trained.sum() == 6 * 8
    assert torch.isfinite(block.rows).all()
    assert torch.equal(block.state["messages_sent"], plain.state["messages_sent"])
    assert block.awake is None


def test_a_round_of_rest_is_pure_gossip(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """It keeps the average model; a round with training does not."""
    means: list[torch.Tensor] = []
    for rounds in (2, 3, 4, 5):
        job = make_job(skip(**FOUR) | {"rounds": rounds})
        means.append(host(job)[0].rows.double().mean(0))
    assert (means[0] - means[1]).abs().max() < 1e-7
    assert (means[1] - means[2]).abs().max() < 1e-7
    assert (means[2] - means[3]).abs().max() > 1e-4


# -- budgets ---------------------------------------------------------------------------------------


def test_greedy_trains_first_and_then_rests(go: Callable[..., Any]) -> None:
    budgets = [1, 2, 3, 4, 5, 6, 20, 12]
    block, trained = go(skip("greedy", budget=budgets))
    for i, budget in enumerate(budgets):
        assert trained[:, i].tolist() == [t < budget for t in range(ROUNDS)]
    assert block.state["budget.left"].tolist() == [0, 0, 0, 0, 0, 0, 8, 0]


@pytest.mark.parametrize("name", ["greedy", "skiptrain_constrained"])
def test_budgets_are_never_overdrawn(
    make_job: Callable[..., Job], host: Callable[..., Any], name: str
) -> None:
    budgets = np.array([1, 1, 2, 2, 3, 3, 4, 9])
    _, reports = host(make_job(skip(name, budget=budgets.tolist())))
    spent = np.zeros(8)
    for trained, report in zip(log(reports), reports, strict=True):
        spent += trained
        left = report["values"]["budget_left"]
        assert (left >= 0).all()
        assert np.array_equal(left, budgets - spent)


def test_nodes_train_as_often_as_their_chance_says(make_job: Callable[..., Job]) -> None:
    """Coins of 4,000 slots a node, within 3 sigma; each node's own, and none in sync rounds."""
    rounds, budgets = 8000, np.array([400, 1000, 2000, 3000, 3600, 4000, 5000, 40])
    job = make_job(skip("skiptrain_constrained", budget=budgets.tolist(), **FOUR))
    block = job.block(np.arange(8))
    block.trainer.rounds = rounds
    schedule = job.algorithm
    assert isinstance(schedule, SkipTrainConstrained)
    wanted = np.stack([schedule.wants(block, t) for t in range(rounds)])
    slots = np.array([schedule.slot(t) for t in range(rounds)])
    assert not wanted[~slots].any()
    chances = np.minimum(budgets / 4000, 1)
    sigma = np.sqrt(4000 * chances * (1 - chances))
    assert (np.abs(wanted.sum(0) - 4000 * chances) <= 3 * sigma).all()
    apart = np.corrcoef(wanted[slots][:, :5].T.astype(float))
    assert np.abs(apart - np.eye(5)).max() < 0.08


def test_a_coin_is_its_node_s_and_round_s(make_job: Callable[..., Job]) -> None:
    job = make_job(skip("skiptrain_constrained", budget=3, **FOUR))
    assert isinstance(job.algorithm, SkipTrainConstrained)
    block = job.block(np.arange(8))
    expected = [Streams(3).numpy("skiptrain", i, 5).random() < 0.5 for i in range(8)]
    assert job.algorithm.wants(block, 5).tolist() == expected


def test_an_absent_node_spends_nothing(make_job: Callable[..., Job]) -> None:
    job = make_job(skip("greedy", budget=5))
    block = job.block(np.arange(8))
    job.network.present = lambda t: np.arange(8) != 2  # type: ignore[method-assign]
    send = next(job.algorithm.round(block, 0))
    assert len(send.rows) == 8
    assert block.state["budget.left"].tolist() == [4, 4, 5, 4, 4, 4, 4, 4]
    assert block.state["steps"].tolist() == [2, 2, 0, 2, 2, 2, 2, 2]


# -- wherever and whenever -------------------------------------------------------------------------

BUDGETS = [1, 2, 3, 4, 5, 6, 20, 12]
COMPOSED = [
    skip(algorithm="jwins", **FOUR),
    skip("skiptrain_constrained", budget=BUDGETS, algorithm="topk", **FOUR),
    skip("greedy", budget=BUDGETS, algorithm="choco"),
]


@pytest.mark.parametrize("changes", COMPOSED, ids=lambda c: c["algorithm"]["name"])
def test_blocks_apart_reach_the_bits_of_one_block(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    changes: dict[str, Any],
) -> None:
    whole, _ = host(make_job(changes))
    for workers in (2, 3):
        rows, state, _ = host_apart(lambda: make_job(changes), workers)
        assert torch.equal(rows, whole.rows)
        for name, value in whole.state.items():
            assert torch.equal(state[name], value), name


class Cut(Exception):
    """The test ends the run here."""


@pytest.mark.parametrize("changes", COMPOSED, ids=lambda c: c["algorithm"]["name"])
def test_a_resumed_run_is_the_uninterrupted_one(
    small: Callable[..., Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    def cut(done: int, figures: dict[str, float]) -> None:
        if done == 6:
            raise Cut

    chosen = small({**changes, "checkpoint.every": 5})
    whole = run(chosen, tmp_path / "whole", report=False)
    with pytest.raises(Cut):
        run(chosen, tmp_path / "cut", progress=cut, report=False)
    again = resume(tmp_path / "cut", report=False)
    for name in ("accuracy", "training_rounds", "budget_left", "bytes_sent", "train_loss"):
        ours, theirs = (
            f.metrics().filter(f.metrics()["name"] == name).sort("round", "node")["value"].to_list()
            for f in (again, whole)
        )
        assert ours == theirs, name
        assert ours or name == "budget_left"


def test_a_run_file_keeps_the_inner_algorithm(small: Callable[..., Any]) -> None:
    chosen = RunFile.parse(small(skip(algorithm={"name": "jwins", "levels": 3}, **FOUR)))
    assert RunFile.parse(chosen.dump()) == chosen
    assert not RunFile.parse(small(skip(algorithm="isolated"))).algorithm.uses_topology


@pytest.mark.parametrize(
    ("algorithm", "field", "words"),
    [
        ({"name": "skiptrain", "train_rounds": 0}, "algorithm.train_rounds", "Gamma_train"),
        ({"name": "skiptrain", "sync_rounds": -1}, "algorithm.sync_rounds", "Gamma_sync"),
        ({"name": "skiptrain", "algorithm": "jwinz"}, "algorithm.algorithm.name", "'jwins'"),
        ({"name": "skiptrain", "algorithm": "greedy"}, "algorithm.algorithm", "schedule itself"),
        ({"name": "skiptrain", "algorithm": {"name": "topk", "share": 2}},
         "algorithm.algorithm.share", "1"),
        ({"name": "skiptrain", "algorithm": {"name": "el_local", "fanout": 99}},
         "algorithm.algorithm.fanout", "only 7"),
        ({"name": "greedy"}, "algorithm.budget", "battery_share"),
        ({"name": "skiptrain_constrained"}, "algorithm.budget", "battery_share"),
        ({"name": "greedy", "budget": 0}, "algorithm.budget", "below one round"),
        ({"name": "greedy", "budget": [1] * 7 + [0]}, "algorithm.budget", "below one round"),
        ({"name": "greedy", "budget": [1] * 7}, "algorithm.budget", "7 budgets for 8 nodes"),
    ],
)  # fmt: skip
def test_what_is_refused(
    small: Callable[..., Any], algorithm: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(RunFile.parse(small({"algorithm": algorithm})))
    assert caught.value.field == field
    assert words in str(caught.value)
