"""The K-vote: exact for monotone rules (brute force beside it), and an attack for all others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hansa.ensemble.kvote import (
    forge,
    kvote,
    margins,
    mask_of,
    surest_votes,
    worst_rows,
    worst_vote,
)


def mean(rows: Tensor) -> Tensor:
    return rows.mean(1)


def median(rows: Tensor) -> Tensor:
    return rows.quantile(0.5, dim=1)


def trimmed(rows: Tensor) -> Tensor:
    return rows.sort(1).values[:, 1:-1].mean(1)


def counted(rows: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(rows.argmax(-1), rows.shape[-1]).double().sum(1)


MONOTONE = pytest.mark.parametrize("rule", [mean, median, trimmed, counted])


def rows_of(seed: int, m: int, members: int, classes: int) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    rows = torch.from_numpy(random.dirichlet(np.full(classes, 0.5), (m, members)))
    return rows, torch.from_numpy(random.integers(classes, size=m))


@MONOTONE
@given(seed=st.integers(0, 1 << 32), members=st.integers(3, 5), liars=st.integers(1, 2))
def test_no_rows_of_liars_do_worse(
    rule: Callable[[Tensor], Tensor], seed: int, members: int, liars: int
) -> None:
    """Against a grid of the simplex, all combinations of liars' rows, and random ones."""
    rows, labels = rows_of(seed, 1, members, 3)
    who = torch.arange(members) < liars
    right = bool(kvote(rule, rows, who, labels))
    steps = [(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)]
    grid = torch.tensor(steps, dtype=rows.dtype) / 4
    tries = torch.stack([torch.stack(p) for p in itertools.product(grid, repeat=liars)])
    tried = rows.expand(len(tries), -1, -1).clone()
    tried[:, who] = tries
    broken = bool((rule(tried).argmax(1) != labels).any())
    assert right == (not broken)


@MONOTONE
def test_robust_accuracy_falls_with_every_liar(rule: Callable[[Tensor], Tensor]) -> None:
    rows, labels = rows_of(3, 200, 7, 4)
    right = [kvote(rule, rows, torch.arange(7) < f, labels) for f in range(4)]
    assert torch.equal(right[0], rule(rows).argmax(1) == labels)
    for fewer, more in itertools.pairwise(right):
        assert not (more & ~fewer).any()
    assert right[0].sum() > right[3].sum()


def test_the_worst_rows_are_those_of_the_margin() -> None:
    rows, labels = rows_of(5, 50, 5, 4)
    who = torch.tensor([1, 3])
    vote, margin = worst_vote(mean, rows, who, labels)
    attacked = worst_rows(mean, rows, who, labels)
    torch.testing.assert_close(margins(mean(attacked), labels), margin)
    assert (vote != labels).all()
    honest = [0, 2, 4]
    assert torch.equal(attacked[:, honest], rows[:, honest])
    assert (attacked[:, [1, 3]].argmax(-1) == vote[:, None]).all()
    assert torch.equal(kvote(mean, rows, who, labels), mean(attacked).argmax(1) == labels)


def test_liars_of_a_rule_that_punishes_votes_are_honest() -> None:
    def against(rows: Tensor) -> Tensor:
        return -rows.mean(1)

    rows = torch.tensor([[[0.2, 0.8], [0.4, 0.6]]])
    vote, margin = worst_vote(against, rows, torch.tensor([0]), torch.tensor([0]))
    assert vote.tolist() == [-1]
    torch.testing.assert_close(margin, torch.tensor([0.4]))
    rows_now = worst_rows(against, rows, torch.tensor([0]), torch.tensor([0]))
    assert torch.equal(rows_now, rows)


def test_examples_may_have_liars_of_their_own_and_few_candidates() -> None:
    rows, labels = rows_of(9, 20, 5, 6)
    who = torch.from_numpy(
        np.random.default_rng(1).permuted(np.tile(np.arange(5), (20, 1)), axis=1)
    )
    each = [bool(kvote(mean, rows[k : k + 1], who[k, :2], labels[k : k + 1])) for k in range(20)]
    assert kvote(mean, rows, who[:, :2], labels).tolist() == each
    assert kvote(mean, rows, mask_of(who[:, :2], 20, 5), labels).tolist() == each
    full = worst_vote(mean, rows, who[:, :2], labels)[1]
    few = worst_vote(mean, rows, who[:, :2], labels, candidates=torch.arange(3).expand(20, -1))
    assert (few[1] >= full).all()
    assert (few[0] < 3).all()


def test_the_number_of_rows_scored_at_a_time_changes_nothing(monkeypatch: Any) -> None:
    rows, labels = rows_of(2, 30, 5, 6)
    whole = worst_vote(median, rows, torch.tensor([0, 4]), labels)
    monkeypatch.setattr("hansa.ensemble.kvote._NUMBERS", 1)
    parts = worst_vote(median, rows, torch.tensor([0, 4]), labels)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_a_tie_is_told_as_it_is_answered() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    first, second = margins(scores, torch.tensor([0, 1]))
    assert first > 0 > second


def test_votes_among_scores_are_as_loud_as_the_surest_answer() -> None:
    sure = torch.tensor([[[1.0, 0.0, 0.0]], [[0.2, 0.3, 0.5]]])
    torch.testing.assert_close(surest_votes(sure), torch.eye(3))
    scores = torch.tensor([[[4.0, -2.0, 1.0]], [[1.0, 1.0, 1.0]]])
    votes = surest_votes(scores)
    torch.testing.assert_close(votes.mean(1), torch.full((3,), float(scores.mean())))
    torch.testing.assert_close(votes.diagonal() - votes[0, 1], torch.full((3,), 6.0))
    single = torch.tensor([[[-3.0], [2.0]]])
    assert surest_votes(single).tolist() == [[-3.0], [3.0]]


def test_one_score_tells_two_classes_apart() -> None:
    rows = torch.tensor([[[2.0], [1.0], [0.5]], [[-2.0], [-1.0], [3.5]]])
    labels = torch.tensor([1, 0])
    assert kvote(mean, rows, torch.zeros(3, dtype=torch.bool), labels).tolist() == [True, False]
    assert kvote(mean, rows, torch.tensor([0]), labels, surest_votes(rows)).tolist() == [
        False,
        False,
    ]
    assert kvote(median, rows, torch.tensor([2]), labels, surest_votes(rows)).tolist() == [
        True,
        True,
    ]


def test_forging_leaves_what_was_given() -> None:
    rows, _ = rows_of(1, 2, 3, 4)
    kept = rows.clone()
    forge(rows, torch.tensor([True, False, False]), torch.eye(4, dtype=rows.dtype)[[0, 1]])
    assert torch.equal(rows, kept)
