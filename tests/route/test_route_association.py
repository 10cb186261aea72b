"""Which cells association measures: cost, disjoint rounds, resume, half the work for the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.route.association import (
    Association,
    Exhaustive,
    Screen,
    SuccessiveHalving,
    cost,
    rounds,
)
from hansa.route.score_ledger import ScoreLedger
from hansa.route.score_matrix import matrix_of


class Arms:
    """Adapters that are right with a chance each; every answer is drawn once, and counted."""

    def __init__(self, chances: np.ndarray, examples: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        tasks, self.pool = chances.shape
        self.answers = [
            (rng.random((self.pool, examples)) < row[:, None]).astype(np.float32) for row in chances
        ]
        self.seen = [np.full((self.pool, examples), np.nan, np.float32) for _ in range(tasks)]
        self.sizes = [examples] * tasks
        self.evaluated = 0
        self.calls: list[tuple[int, list[int], list[int]]] = []

    def fill(self, task: int, adapters, examples) -> None:  # type: ignore[no-untyped-def]
        self.calls.append((task, list(adapters), list(examples)))
        for adapter in adapters:
            for example in examples:
                if np.isnan(self.seen[task][adapter, example]):
                    self.evaluated += 1
                    self.seen[task][adapter, example] = self.answers[task][adapter, example]

    def scores(self, task: int) -> np.ndarray:
        return self.seen[task]

    def choices(self) -> np.ndarray:
        names = [f"t{t}" for t in range(len(self.seen))]
        adapters = [f"a{a}" for a in range(self.pool)]
        return matrix_of(names, adapters, self.seen, [None] * len(names),
                         [True] * len(names)).choices()  # fmt: skip


def run(association: Association, arms: Arms, seed: int = 1) -> np.ndarray:
    association.run(arms, Streams(seed), [f"t{t}" for t in range(len(arms.seen))])
    return arms.choices()


def test_halving_costs_what_the_formula_says() -> None:
    assert rounds(48, 1) == [2, 2, 3, 5]
    assert cost(48, 1) == 210 == 48 * 2 + 24 * 2 + 12 * 3 + 6 * 5
    arms = Arms(np.full((1, 48), 0.5), 200)
    run(SuccessiveHalving(budget=1), arms)
    assert arms.evaluated == 210


@given(st.integers(1, 60), st.floats(0.1, 6))
def test_halving_of_any_pool_costs_what_the_formula_says(pool: int, budget: float) -> None:
    arms = Arms(np.full((1, pool), 0.5), sum(rounds(pool, budget)))
    run(SuccessiveHalving(budget=budget), arms)
    assert arms.evaluated == cost(pool, budget)


def test_rounds_use_new_examples_and_the_better_half_goes_on() -> None:
    chances = np.linspace(0, 1, 12)[None]
    arms = Arms(chances, 100)
    assert run(SuccessiveHalving(budget=4), arms)[0] == 11
    (_, first, early), (_, second, late) = arms.calls
    assert first == list(range(12))
    assert len(second) == 6
    assert early == late[: len(early)]
    assert len(late) == len(set(late)) > len(early)
    best = arms.answers[0][:, early].mean(1)
    assert min(best[second]) >= max(np.delete(best, second))


def test_with_examples_for_one_round_only_halving_is_exhaustive() -> None:
    chances = np.random.default_rng(3).random((4, 20))
    whole, halved = Arms(chances, 30, seed=5), Arms(chances, 30, seed=5)
    np.testing.assert_array_equal(
        run(Exhaustive(), whole), run(SuccessiveHalving(budget=12), halved)
    )
    assert halved.evaluated == whole.evaluated == 4 * 20 * 30


def test_halving_reaches_exhaustive_accuracy_with_less_than_half_the_answers() -> None:
    """48 adapters, 40 tasks, 200 examples: a few good ones, many that barely work."""
    rng = np.random.default_rng(0)
    chances = np.clip(rng.beta(2, 4, size=(40, 48)), 0, 1)
    chances[np.arange(40), rng.integers(48, size=40)] += 0.35
    chances = np.clip(chances, 0, 0.97)
    whole, halved = Arms(chances, 200, seed=1), Arms(chances, 200, seed=1)
    everyone, half = run(Exhaustive(), whole), run(SuccessiveHalving(budget=18), halved)
    true = np.arange(40)
    reached = chances[true, half].mean() / chances[true, everyone].mean()
    assert reached > 0.995
    assert halved.evaluated < 0.45 * whole.evaluated


def test_a_screen_keeps_the_best_and_measures_those_in_full() -> None:
    chances = np.full((2, 300), 0.1)
    chances[0, 17], chances[1, 250] = 0.9, 0.95
    arms = Arms(chances, 60)
    assert run(Screen(first=8, keep=20), arms).tolist() == [17, 250]
    assert arms.evaluated == 2 * (300 * 8 + 20 * 52)


def test_a_pool_of_one_and_a_task_of_one_example() -> None:
    for association in (Exhaustive(), SuccessiveHalving(), Screen()):
        assert run(association, Arms(np.ones((1, 1)), 1)).tolist() == [0]
    assert set(catalogue("association")) == {"exhaustive", "successive_halving", "screen"}


def test_a_tasks_order_does_not_depend_on_others() -> None:
    alone, beside = Arms(np.full((1, 8), 0.5), 50), Arms(np.full((3, 8), 0.5), 50)
    SuccessiveHalving().run(alone, Streams(1), ["b"])
    SuccessiveHalving().run(beside, Streams(1), ["a", "b", "c"])
    first = [call for call in beside.calls if call[0] == 1]
    assert alone.calls[0][2] == first[0][2]


def test_a_ledger_goes_on_where_a_kill_cut_a_line(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    ledger = ScoreLedger(file, "base")
    ledger.put("t", "a", [2, 0], np.array([1.0, 0.25]))
    ledger.put("t", "b", [1], np.array([0.5]))
    with file.open("a") as stream:
        stream.write('{"task": "t", "adapter": "c", "at": [0], "sco')
    again = ScoreLedger(file, "base")
    np.testing.assert_array_equal(again.row("t", "a", 3), [0.25, np.nan, 1])
    assert np.isnan(again.row("t", "c", 2)).all()
    again.put("t", "c", [0], np.array([1.0]))
    np.testing.assert_array_equal(ScoreLedger(file, "base").row("t", "c", 1), [1])
    with pytest.raises(ConfigError, match="scores of another base"):
        ScoreLedger(file, "other")
    file.write_text(file.read_text().replace('"at": [1]', '"at": 1'))
    with pytest.raises(ConfigError, match="is damaged"):
        ScoreLedger(file, "base")
