"""Answers, and decisions before all have answered."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.cli.serving import opened
from hansa.ensemble import Aggregator, LabelWeighted, Mean, Median, Panel, TrimmedMean, certificates
from hansa.ensemble.aggregators import MajorityVote
from hansa.ensemble.networks import Aggregated, Fixed, Votes
from hansa.ensemble.voting import Voting
from hansa.infer.robust.answering import Answerer
from hansa.infer.robust.deep_set import DeepSetAggregator
from hansa.infer.robust.rule_store import save_aggregators
from hansa.infer.robust.score_aggregator import Static
from hansa.infer.serving.ensemble_rule import RuleScores
from hansa.infer.serving.serve_file import ServeFile
from hansa.infer.serving.serve_model import aggregate_of

from .conftest import answers, set_network

EVERY = pytest.mark.parametrize(
    "aggregator",
    [Mean(), Median(), TrimmedMean(f=0), TrimmedMean(f=1), TrimmedMean(f=2), MajorityVote()],
    ids=lambda one: f"{one.name}{getattr(one, 'f', '')}",
)


@st.composite
def some_rows(draw: Any) -> np.ndarray:
    """[m, r, K], many of them ties."""
    m, r, classes = draw(st.integers(1, 4)), draw(st.integers(5, 8)), draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    sure = draw(st.sampled_from([0.05, 0.3, 3.0]))
    rows = random.dirichlet(np.full(classes, sure), (m, r))
    return np.round(rows, 1) if draw(st.booleans()) else rows


@EVERY
@given(rows=some_rows(), missing=st.integers(0, 3))
def test_an_answer_is_judged_as_the_aggregator_and_its_certificate_are(
    aggregator: Aggregator, rows: np.ndarray, missing: int
) -> None:
    judged = certificates.judged(aggregator, rows, missing)
    assert judged is not None
    scores, f_star = judged
    whole = torch.from_numpy(rows)
    np.testing.assert_allclose(scores, aggregator.many(whole).numpy(), rtol=0, atol=1e-12)
    theirs = certificates.largest_f(aggregator, whole, missing).numpy()
    near = np.zeros(len(rows), dtype=bool)  # a lead of 0, but for the last bit
    for k in np.flatnonzero(f_star != theirs):
        near[k] = (
            abs(lead_at(aggregator, whole[k : k + 1], max(f_star[k], theirs[k]), missing)) < 1e-9
        )
    assert ((f_star == theirs) | near).all()


def lead_at(aggregator: Aggregator, rows: torch.Tensor, f: int, missing: int) -> float:
    ends = certificates.bounds(aggregator, rows, int(f), missing)
    assert ends is not None
    low, high = ends
    leading = low.argmax(1, keepdim=True)
    if isinstance(aggregator, Mean):
        leading = rows.mean(1).argmax(1, keepdim=True)
        leads = (
            (rows.gather(2, leading[:, None].expand(-1, rows.shape[1], 1)) - rows).sort(1).values
        )
        left = leads[:, : rows.shape[1] - int(f)].sum(1) - int(f) - missing
        return float(left.scatter(1, leading, torch.inf).amin(1))
    return float(low.gather(1, leading)[:, 0] - high.scatter(1, leading, -torch.inf).amax(1))


def test_aggregators_without_bounds_are_not_judged() -> None:
    from hansa.base.component import find

    for name in ("geometric_median", "krum"):
        assert (
            certificates.judged(find("aggregator", name).parse({}), np.full((1, 5, 3), 1 / 3))
            is None
        )


@EVERY
@given(rows=some_rows(), seed=st.integers(0, 1 << 32))
def test_what_is_decided_early_is_what_is_answered_in_the_end(
    aggregator: Aggregator, rows: np.ndarray, seed: int
) -> None:
    """Whatever those say who are out, and if some say nothing; f liars beside."""
    random = np.random.default_rng(seed)
    n, classes = rows.shape[1], rows.shape[2]
    answerer = Answerer(aggregator, classes, n, 1)
    r = random.integers(max(3, aggregator.least), n + 1)
    here = rows[0, :r]
    early = answerer.decided(here, range(r))
    if early is None or not early.early:
        return
    assert early.certified
    assert early.f_star >= 1
    for _ in range(10):
        later = np.eye(classes)[random.integers(classes, size=random.integers(0, n - r + 1))]
        lied = here.copy()
        lied[random.integers(r)] = np.eye(classes)[random.integers(classes)]
        for mine in (here, lied):
            whole = np.concatenate([mine, later])
            assert answerer.answer(whole, range(len(whole))).class_index == early.class_index


def test_an_answer_says_what_is_missing_and_abstains() -> None:
    rows = np.array([[0.6, 0.4], [0.6, 0.4], [0.5, 0.5]])
    answer = Answerer(Mean(), 2, 5, 1).answer(rows, [0, 2, 4])
    assert (answer.class_index, answer.missing, answer.early) == (0, 2, False)
    assert answer.scores == pytest.approx([0.5667, 0.4333], abs=1e-3)
    assert not answer.certified
    assert Answerer(Mean(), 2, 5, 1, margin=0.2).answer(rows, [0, 2, 4]).class_index is None
    assert Answerer(Mean(), 2, 5, 1, margin=0.1).answer(rows, [0, 2, 4]).class_index == 0
    only = Answerer(Mean(), 2, 5, 1, certified_only=True)
    assert only.answer(rows, [0, 2, 4]).class_index is None


def test_with_a_margin_nothing_is_decided_early() -> None:
    rows = np.eye(3)[[0, 0, 0, 0, 0]]
    assert Answerer(TrimmedMean(f=1), 3, 7, 1).decided(rows, range(5)) is not None
    assert Answerer(TrimmedMean(f=1), 3, 7, 1, margin=0.1).decided(rows, range(5)) is None


def test_those_who_have_failed_are_not_out() -> None:
    rows = np.array([[0.7, 0.3]] * 4)
    answerer = Answerer(Median(), 2, 7, 1)
    assert answerer.decided(rows, range(4)) is None
    answer = answerer.decided(rows, range(4), pending=0)
    assert answer is not None
    assert (answer.class_index, answer.missing) == (0, 3)


def test_any_score_aggregator_answers() -> None:
    """Those that have no quick way go by their own certificates."""

    class Slow(Static):
        pass

    rows = np.random.default_rng(1).dirichlet(np.ones(3), 7)
    quick, slow = (
        Answerer(one, 3, 7, 1).answer(rows, range(7)) for one in (Median(), Slow(Median()))
    )
    assert (quick.class_index, quick.f_star) == (slow.class_index, slow.f_star)
    np.testing.assert_allclose(quick.scores, slow.scores)


@pytest.mark.parametrize("pooling", ["mean", {"name": "trimmed_mean", "f": 1}, "median"])
def test_a_set_network_answers_and_decides_early(pooling: Any) -> None:
    """What it decides before all have answered, it answers in the end, whatever they say."""
    network = set_network(3, pooling)
    answerer = Answerer(network, 3, 9, 1)
    rows = answers(60, 9, 3, seed=3)[0].double().numpy()
    rows[::2] = rows[::2, :1]  # members who agree to the letter
    whole = torch.from_numpy(rows).float()
    for k, answer in enumerate(answerer.answers(rows, range(9))):
        assert answer.class_index == int(network.scores(whole[k : k + 1]).argmax())
        assert answer.f_star == int(network.largest_f(whole[k : k + 1]))
    early = answerer.decisions(rows[:, :8], range(8), 1)
    assert pooling == "mean" or any(answer is not None for answer in early)
    for k, answer in enumerate(early):
        if answer is not None:
            for last in np.eye(3):
                full = np.concatenate([rows[k, :8], last[None]])
                assert answerer.answer(full, range(9)).class_index == answer.class_index


def test_a_run_s_rule_is_served(tmp_path: Path) -> None:
    """A learned rule of a run, with the run's classes and its number of liars."""
    entry = DeepSetAggregator(pooling={"name": "trimmed_mean", "f": 2}, hidden=16)
    learned = {"set": dict(set_network(3, "mean").network.state_dict())}
    facts = {"classes": 3, "members": 7, "f": 2, "class_names": ["x", "y", "z"]}
    save_aggregators(tmp_path, {"set": entry, "median": Median()}, learned, "set", facts)
    endpoints = [{"url": f"http://127.0.0.1:{k}"} for k in range(1, 8)]
    model = aggregate_of(*opened(ServeFile.parse({"run": tmp_path, "endpoints": endpoints}), False))
    model.warm()
    assert (model.class_names, model.answerer.f) == (["x", "y", "z"], 2)
    assert (model.waiting.quorum, model.answerer.aggregator.name) == (5, "set")
    picked = ServeFile.parse({"run": tmp_path, "endpoints": endpoints, "pick": "median", "f": 1})
    model = aggregate_of(*opened(picked, False))
    assert (model.waiting.quorum, model.answerer.aggregator.name) == (3, "median")


PANEL = Panel(5, 3, torch.tensor([[3, 1, 1], [1, 4, 2], [2, 2, 2], [5, 0, 1], [1, 1, 6]]))


def test_an_ensemble_s_weights_share_out_among_those_who_answer() -> None:
    rule = LabelWeighted().build(PANEL)
    assert isinstance(rule, Fixed)
    scores = RuleScores(rule, PANEL)
    rows = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(scores.scores(rows), (rows * rule.weights).sum(1))
    some = scores.among([0, 2, 4])
    assert some is not None
    weights = rule.weights[[0, 2, 4]]
    expected = (rows[:, [0, 2, 4]] * weights / weights.sum(0)).sum(1)
    torch.testing.assert_close(some.scores(rows[:, [0, 2, 4]]), expected)
    assert scores.largest_f(rows).tolist() == [-1, -1]  # a liar may send any score


def test_an_ensemble_s_network_needs_all() -> None:
    network = torch.nn.Linear(15, 3)
    assert RuleScores(network, PANEL).among([0, 1]) is None
    assert Answerer(RuleScores(network, PANEL), 3, 5, 1).least == 5


@given(seed=st.integers(0, 1 << 32))
def test_the_certificate_of_votes_is_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    tally = torch.from_numpy(random.integers(0, 6, (4, 3, 3))).double()
    panel = Panel(4, 3)
    rule = Voting().build(panel, tally)
    assert isinstance(rule, Votes)
    scores = RuleScores(rule, panel)
    rows = torch.from_numpy(random.standard_normal((1, 4, 3)))
    f_star = int(scores.largest_f(rows))
    best = scores.scores(rows).argmax(1)

    def holds(f: int) -> bool:
        for liars in itertools.combinations(range(4), f):
            for said in itertools.product(range(3), repeat=f):
                lied = rows.clone()
                lied[0, list(liars)] = torch.eye(3, dtype=rows.dtype)[list(said)]
                if scores.scores(lied).argmax(1) != best:
                    return False
        return True

    largest = next((f - 1 for f in range(5) if not holds(f)), 4)
    tied = scores.scores(rows)[0].sort().values
    assert f_star <= largest
    assert (
        f_star == largest or float(tied[-1] - tied[-2]) < 1e-4 or near_tie(rule, rows, f_star + 1)
    )


def near_tie(rule: Votes, rows: torch.Tensor, f: int) -> bool:
    """Whether, with f liars, two classes come within the last bits of each other."""
    for liars in itertools.combinations(range(4), f):
        for said in itertools.product(range(3), repeat=f):
            lied = rows.clone()
            lied[0, list(liars)] = torch.eye(3, dtype=rows.dtype)[list(said)]
            ends = rule(lied.flatten(1).float())[0].sort().values
            if float(ends[-1] - ends[-2]) < 1e-4:
                return True
    return False


@given(seed=st.integers(0, 1 << 32), liars=st.integers(1, 2))
def test_a_trimmed_mean_of_scores_is_certified_against_any_number(seed: int, liars: int) -> None:
    random = np.random.default_rng(seed)
    panel = Panel(5, 3)
    scores = RuleScores(Aggregated(panel, TrimmedMean(f=2)), panel)
    rows = torch.from_numpy(random.standard_normal((1, 5, 3)) * 3)
    rows[..., 0] += 6
    f_star = int(scores.largest_f(rows))
    assert f_star <= 2
    best = scores.scores(rows).argmax(1)
    if f_star >= liars:
        for _ in range(20):
            lied = rows.clone()
            lied[0, :liars] = torch.from_numpy(random.choice([-1e6, 1e6], (liars, 3)))
            assert scores.scores(lied).argmax(1) == best
