"""What nodes can afford: pure by node and round, whatever the split."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine import Ask, Budget, Classes, Full, Job, Time, Uniform
from hansa.engine.training.batches import Batching

BUDGETS: list[Budget] = [
    Full(),
    Uniform(low=0, high=7),
    Uniform(low=1, high=2, unit="epochs"),
    Classes(),
    Classes(shares=(0.25, 0.25, 0.5), steps_each=(0, 3, 50)),
    Time(seconds=0.02),
]


def ask(ids: Any, t: int = 0, steps: int = 10, seed: int = 0, pace: Any = 1e-3) -> Ask:
    ids = np.asarray(ids)
    sizes = 20 + 3 * ids
    paces = np.full(len(ids), pace) * (1 + ids % 3)
    asked = np.full(len(ids), steps)
    return Ask(ids, sizes, asked, Batching(8, drop_last=False), Streams(seed), t, paces)


def test_every_budget_is_tested() -> None:
    assert {type(budget) for budget in BUDGETS} == set(catalogue("budget").values())


@given(
    budget=st.sampled_from(BUDGETS),
    ids=st.lists(st.integers(0, 500), min_size=1, max_size=12, unique=True),
    t=st.integers(0, 9),
    steps=st.integers(0, 30),
    data=st.data(),
)
def test_steps_are_a_nodes_own_and_never_more_than_asked(
    budget: Budget, ids: list[int], t: int, steps: int, data: st.DataObject
) -> None:
    found = budget.steps(ask(ids, t, steps))
    assert found.dtype == np.int64
    assert ((found >= 0) & (found <= steps)).all()
    some = data.draw(st.lists(st.sampled_from(range(len(ids))), min_size=1, unique=True))
    again = budget.steps(ask([ids[i] for i in some], t, steps))
    assert again.tolist() == found[some].tolist()
    assert Budget.resolve(budget.dump()) == budget


def test_uniform_draws_all_values_anew_in_each_round() -> None:
    budget = Uniform(low=2, high=5)
    found = np.stack([budget.steps(ask(range(300), t)) for t in range(4)])
    often = np.bincount(found.ravel(), minlength=7) / found.size
    assert often[[0, 1, 6]].tolist() == [0, 0, 0]
    assert np.abs(often[2:6] - 0.25).max() < 0.05
    assert (found[0] != found[1]).any()
    by_epochs = Uniform(low=1, high=1, unit="epochs").afford(ask([0, 1, 4]))
    assert by_epochs.tolist() == [3, 3, 4]  # of 20, 23 and 32 examples in batches of 8


def test_classes_have_their_shares_and_stay() -> None:
    quarters = Classes(shares=(0.25,) * 4, fractions=(0.1, 0.25, 0.5, 1.0))
    for seed in range(5):
        found = quarters.steps(ask(range(100), 0, 10, seed))
        assert np.unique(found, return_counts=True)[1].tolist() == [25] * 4
        assert sorted(set(found.tolist())) == [1, 3, 5, 10]
        assert found.tolist() == quarters.steps(ask(range(100), 7, 10, seed)).tolist()
    places = [quarters.steps(ask([17], 0, 10, seed))[0] for seed in range(400)]
    assert (np.abs(np.bincount(places)[[1, 3, 5, 10]] / 400 - 0.25) < 0.08).all()


def test_time_is_used_as_far_as_whole_batches_go() -> None:
    # Passes of 20 examples are batches of 8, 8 and 4; 20 ms are 20 examples at 1 ms each.
    assert Time(seconds=0.02).steps(ask([0])).tolist() == [3]
    assert Time(seconds=0.0199).steps(ask([0])).tolist() == [2]
    assert Time(seconds=0.007).steps(ask([0])).tolist() == [0]
    assert Time(seconds=9).steps(ask([0])).tolist() == [10]
    assert Time(seconds=1e-9).steps(ask([0], pace=0.0)).tolist() == [10]
    unclocked = replace(ask([0]), pace=None)
    with pytest.raises(ConfigError, match="clock"):
        Time().steps(unclocked)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": "uniform", "low": 3, "high": 2}, "low"),
        ({"name": "uniform", "low": 0, "high": 0}, "high"),
        ({"name": "classes", "shares": [0.5, 0.4]}, "shares"),
        ({"name": "classes", "shares": [1.0], "fractions": [0.5, 0.5]}, "fractions"),
        ({"name": "classes", "fractions": [0.0, 0.0]}, "fractions"),
        ({"name": "classes", "fractions": [0.5, 1.5]}, "fractions"),
        ({"name": "classes", "steps_each": [1]}, "steps_each"),
        ({"name": "time", "seconds": 0}, "seconds"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Budget.resolve(settings)
    assert caught.value.field == field


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
def test_training_does_what_was_planned(make_job: Callable[..., Job], strategy: str) -> None:
    changes = {
        "train.local_steps": 6,
        "train.budget": {"name": "uniform", "low": 0, "high": 8},
        "train.strategy": strategy,
        "train.drop_last": False,
        "train.batch_size": 60,
    }
    block = make_job(changes).block(np.arange(8))
    sizes = np.array([len(part) for part in block.parts])
    total = np.zeros((2, 8))
    for t in range(3):
        plan = block.trainer.planned(block.ids, sizes, block.streams, t)
        total += plan
        block.train(t)
        assert np.isnan(block.report["train_loss"]).tolist() == (plan[0] == 0).tolist()
    assert len(set(total[0])) > 2
    assert block.state["steps"].tolist() == total[0].tolist()
    assert block.state["samples"].tolist() == total[1].tolist()
    apart = make_job(changes).block(np.array([1, 6]))
    for t in range(3):
        apart.train(t)
    np.testing.assert_allclose(apart.rows, block.rows[[1, 6]], rtol=1e-5, atol=1e-6)
    block.trainer.close()
    apart.trainer.close()
