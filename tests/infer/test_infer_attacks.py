"""Attacks: what they may do, what they must do, and the order of their strength."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.streams import Streams
from hansa.ensemble.aggregators import Mean, Median, TrimmedMean
from hansa.ensemble.kvote import kvote
from hansa.infer.robust.attacks.black_box import LogitFlip, SecondClassBlind
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene
from hansa.infer.robust.attacks.mixed import Mixed
from hansa.infer.robust.attacks.pgd_cw import PGD
from hansa.infer.robust.attacks.white_box import (
    Impersonation,
    LeastLikely,
    LeastSimilar,
    SecondClass,
    similarity,
)
from hansa.infer.robust.identities import fixed_liars, worst_liars
from hansa.infer.robust.measuring_attacks import Suite, measure
from hansa.infer.robust.score_aggregator import ScoreAggregator, Static
from hansa.infer.robust.server_set import ServerSet

from .conftest import answers, set_network

ATTACKS = sorted(catalogue("inference_attack"))
N, K, M = 7, 4, 24


def named(name: str) -> InferenceAttack:
    attack = catalogue("inference_attack")[name]()
    assert isinstance(attack, InferenceAttack)
    return attack


def rules() -> list[ScoreAggregator]:
    fixed = [Static(Mean()), Static(TrimmedMean(f=2)), Static(Median())]
    return [*fixed, set_network(K), set_network(K, TrimmedMean(f=2))]


def scene(rule: ScoreAggregator, labels: torch.Tensor, f: int, seed: int = 1) -> LiarScene:
    who = torch.from_numpy(fixed_liars(N, f, Streams(seed)))
    return LiarScene(rule, labels, who.expand(len(labels), -1), Streams(seed))


def right(rule: ScoreAggregator, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return rule.scores(rows).argmax(-1) == labels


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("rule", rules(), ids=lambda r: f"{r.name} {r.least}")
def test_lies_are_probabilities_and_honest_rows_are_untouched(
    name: str, rule: ScoreAggregator
) -> None:
    rows, labels = answers(M, N, K)
    before = rows.clone()
    for f in (0, 1, 3):
        among = scene(rule, labels, f)
        forged = named(name).forge(rows, among)
        assert torch.equal(rows, before)
        assert (forged >= 0).all()
        torch.testing.assert_close(forged.sum(-1), torch.ones(M, N))
        honest = np.setdiff1d(np.arange(N), among.liars[0].numpy())
        assert torch.equal(forged[:, honest], rows[:, honest])
        assert torch.equal(forged, named(name).forge(rows, scene(rule, labels, f)))
        if not f:  # nobody lies
            assert torch.equal(forged, rows)


def test_nobody_who_attacks_leaves_gradients_behind() -> None:
    rule, (rows, labels) = set_network(K), answers(M, N, K)
    rule.network.requires_grad_(True)
    for name in ATTACKS:
        named(name).forge(rows, scene(rule, labels, 2))
    assert all(parameter.grad is None for parameter in rule.network.parameters())


def test_each_attack_does_what_it_says() -> None:
    rows = torch.tensor([[[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.2, 0.7, 0.1]]])
    labels, liars = torch.tensor([0]), torch.tensor([[2]])
    among = LiarScene(Static(Mean()), labels, liars, Streams(1))

    def lie(attack: InferenceAttack) -> list[float]:
        return [round(x, 4) for x in attack.forge(rows, among)[0, 2].tolist()]

    # The mean is (.4333, .4, .1667): first 0, second 1, last 2.
    assert lie(SecondClass()) == [0, 1, 0]
    assert lie(SecondClass(off_simplex=True)) == [0.2, 1, 0.1]
    assert lie(LeastLikely()) == [0, 0, 1]
    assert lie(SecondClassBlind()) == [1, 0, 0]
    inverse = [1 / 0.2, 1 / 0.7, 1 / 0.1]
    assert lie(LogitFlip()) == [round(x / sum(inverse), 4) for x in inverse]
    assert lie(Impersonation()) in ([0.6, 0.3, 0.1], [0.5, 0.2, 0.3])
    like = torch.tensor([[1.0, -0.5, -0.2], [-0.5, 1, 0], [-0.2, 0, 1]])
    known = LiarScene(Static(Mean()), labels, liars, Streams(1), like)
    assert LeastSimilar().forge(rows, known)[0, 2].tolist() == [0, 1, 0]
    wrong = LiarScene(Static(Mean()), torch.tensor([2]), liars, Streams(1))
    assert SecondClass().forge(rows, wrong)[0, 2].tolist() == [1, 0, 0]  # already wrong


def test_an_impersonator_copies_the_honest_row_farthest_from_the_others() -> None:
    near = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.85, 0.15]])
    rows = torch.cat([near, torch.tensor([[0.1, 0.9], [0.5, 0.5]])]).unsqueeze(0)
    among = LiarScene(Static(Mean()), torch.tensor([0]), torch.tensor([[4]]), Streams(1))
    assert Impersonation().forge(rows, among)[0, 4].tolist() == pytest.approx([0.1, 0.9])


def test_liars_who_collude_ask_the_rule_about_their_own_rows() -> None:
    rows = torch.tensor([[[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.8, 0.1, 0.1]]])
    among = LiarScene(Static(Mean()), torch.tensor([0]), torch.tensor([[0, 1]]), Streams(1))
    forged = SecondClassBlind(colluding=True).forge(rows, among)
    assert forged[0, :2].tolist() == [[0, 0, 1], [0, 0, 1]]


def test_liars_of_different_kinds_take_turns() -> None:
    rows, labels = answers(M, N, K)
    among = scene(Static(Mean()), labels, 3)
    forged = among.own(Mixed(attacks=("logit_flip", "lma")).forge(rows, among))
    flipped = among.own(LogitFlip().forge(rows, among))
    least = among.own(LeastLikely().forge(rows, among))
    assert torch.equal(forged[:, [0, 2]], flipped[:, [0, 2]])
    assert torch.equal(forged[:, 1], least[:, 1])


def test_similarity_is_the_covariance() -> None:
    shares = answers(40, 1, K)[0][:, 0]
    expected = np.cov(shares.numpy().T)
    torch.testing.assert_close(similarity(shares), torch.from_numpy(expected).float())


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_nothing_is_worse_for_a_monotone_rule_than_a_k_vote(seed: int, f: int) -> None:
    rows, labels = answers(M, N, K, seed)
    for rule in (Static(Mean()), Static(TrimmedMean(f=2)), Static(Median())):
        among = scene(rule, labels, f)
        least = kvote(rule.scores, rows, among.liars, labels)
        for name in ATTACKS:
            attack = PGD(steps=4) if name == "pgd_cw" else named(name)
            assert not (least & ~right(rule, attack.forge(rows, among), labels)).any(), name


def test_pgd_finds_nearly_the_worst_of_a_mean() -> None:
    rows, labels = answers(600, 17, 10, seed=5)
    rule = Static(Mean())
    who = torch.from_numpy(fixed_liars(17, 4, Streams(1)))
    among = LiarScene(rule, labels, who.expand(600, -1), Streams(1))
    exact = kvote(rule.scores, rows, among.liars, labels).double().mean()
    assert 0.1 < exact < 0.9
    found = right(rule, PGD().forge(rows, among), labels).double().mean()
    assert exact <= found <= exact + 0.005


def test_the_published_step_finds_no_less_than_ever_before_it() -> None:
    """The best of all steps counts, so more steps never help the rule."""
    rule, (rows, labels) = set_network(K, TrimmedMean(f=2)), answers(200, N, K)
    among = scene(rule, labels, 3)
    shares = []
    for steps in (1, 5, 20):
        forged = PGD(steps=steps).forge(rows, among)
        shares.append(float(right(rule, forged, labels).double().mean()))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < float(right(rule, rows, labels).double().mean())


def test_without_bpda_gradients_pass_the_trim_itself() -> None:
    rows, labels = answers(100, N, K)
    rule = Static(TrimmedMean(f=2))
    among = scene(rule, labels, 3)
    for bpda in (True, False):
        forged = PGD(steps=10, bpda=bpda).forge(rows, among)
        assert right(rule, forged, labels).sum() <= right(rule, rows, labels).sum()


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_more_liars_never_help_a_mean(seed: int) -> None:
    rows, labels = answers(60, N, K, seed)
    test = ServerSet(rows, labels)
    suite = Suite({}, 3, ("fixed", "certified"), (0, 1, 2, 3), Streams(seed))
    result = measure(Static(Mean()), test, suite)
    for attack in ("kvote", "any"):
        by_f = [row["accuracy"] for row in result.rows if row["attack"] == attack]
        assert len(by_f) == 4
        assert by_f == sorted(by_f, reverse=True)


def test_no_liar_costs_nothing() -> None:
    rows, labels = answers(60, N, K)
    suite = Suite({name: named(name) for name in ATTACKS}, 0, ("fixed", "worst"), (0,), Streams(1))
    for rule in rules():
        result = measure(rule, ServerSet(rows, labels), suite)
        assert len({row["accuracy"] for row in result.rows}) == 1


@given(st.integers(0, 10_000), st.integers(1, 2))
@settings(max_examples=15, deadline=None)
def test_the_worst_liars_of_a_mean_are_found_exactly(seed: int, f: int) -> None:
    import itertools

    rows, labels = answers(M, N, K, seed)
    rule = Static(Mean())
    found = worst_liars(rule, rows, labels, f, fixed_liars(N, f, Streams(seed)))
    assert found.how == "exact"
    every = [
        kvote(rule.scores, rows, torch.tensor(who), labels)
        for who in itertools.combinations(range(N), f)
    ]
    assert torch.equal(found.margin > 0, torch.stack(every).all(0))
    # And what is certified is just that, of what is right.
    certified = rule.certified(rows, f) & right(rule, rows, labels)
    assert torch.equal(certified, found.margin > 0)


def test_few_sets_of_liars_are_all_tried_and_greedy_ones_are_no_worse_than_fixed() -> None:
    rows, labels = answers(100, N, K)
    for rule in rules():
        first = fixed_liars(N, 1, Streams(1))
        found = worst_liars(rule, rows, labels, 1, first)
        assert found.how == ("exact" if rule.monotone else "exhaustive")
        first = fixed_liars(N, 3, Streams(1))
        found = worst_liars(rule, rows, labels, 3, first)
        fixed = kvote(rule.scores, rows, first, labels)
        assert not ((found.margin > 0) & ~fixed).any()
        assert (found.liars.sort(1).values.diff(dim=1) > 0).all()
        certified = rule.certified(rows, 3)
        assert not (certified & right(rule, rows, labels) & ~(found.margin > 0)).any()
