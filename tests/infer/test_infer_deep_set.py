"""Set networks: their form, their training against liars, and their certificates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.ensemble import certificates
from hansa.ensemble.aggregators import Mean, Median, TrimmedMean
from hansa.infer.robust import set_certificates
from hansa.infer.robust.deep_set import DeepSetAggregator
from hansa.infer.robust.server_set import ServerSet, check_classes
from hansa.infer.robust.set_training import (
    Attacked,
    Inner,
    TrainingPlan,
    draw_masks,
    liar_counts,
    shortfall,
)

from .conftest import answers, set_network

N, K = 7, 4


def plan(inner: str, **more: int) -> TrainingPlan:
    settings = {"epochs": 3, "batch_size": 64, "masks": 10, "steps": 3, "candidates": 24, **more}
    return TrainingPlan(inner=inner, lr=0.003, decay=0.999, step_size=0.1, **settings)  # type: ignore[arg-type]


def test_its_form_is_the_papers() -> None:
    network = DeepSetAggregator().network(10)
    shapes = {name: list(p.shape) for name, p in network.named_parameters()}
    assert shapes == {
        "encoder.0.weight": [128, 10], "encoder.0.bias": [128],
        "encoder.2.weight": [128, 128], "encoder.2.bias": [128],
        "decoder.0.weight": [128, 128], "decoder.0.bias": [128],
        "decoder.2.weight": [10, 128], "decoder.2.bias": [10],
    }  # fmt: skip
    rows = answers(3, N, 10)[0]
    by_hand = torch.relu(rows @ network.encoder[0].weight.T + network.encoder[0].bias)
    by_hand = (by_hand @ network.encoder[2].weight.T + network.encoder[2].bias).mean(1)
    by_hand = torch.relu(by_hand @ network.decoder[0].weight.T + network.decoder[0].bias)
    by_hand = by_hand @ network.decoder[2].weight.T + network.decoder[2].bias
    torch.testing.assert_close(network(rows), by_hand)


@pytest.mark.parametrize("pooling", [Mean(), TrimmedMean(f=2), Median()])
def test_it_tells_no_member_apart_and_takes_any_number(pooling) -> None:
    rule, rows = set_network(K, pooling), answers(9, N, K)[0]
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rule.scores(rows[:, order]), rule.scores(rows))
    assert rule.scores(rows[:, :5]).shape == (9, K)
    twice = torch.cat([rows, rows], 1)
    torch.testing.assert_close(set_network(K).scores(twice), set_network(K).scores(rows))


def test_one_training_serves_all_poolings_and_no_trim_is_the_mean() -> None:
    rows = answers(9, N, K)[0]
    plain, trimmed = set_network(K), set_network(K, TrimmedMean(f=0))
    torch.testing.assert_close(plain.scores(rows), trimmed.scores(rows))
    keys = {DeepSetAggregator(pooling=p).training_key for p in ("mean", "median")}
    assert len(keys) == 1
    assert DeepSetAggregator(training="none").training_key not in keys


@pytest.mark.parametrize("straight", [False, True])
def test_scores_of_the_liars_rows_alone_are_those_of_all_rows(straight: bool) -> None:
    rows, liars = answers(9, N, K)[0], torch.tensor([[1, 5]]).expand(9, -1)
    lies = answers(9, 2, K, seed=3)[0]
    whole = rows.clone()
    whole[:, [1, 5]] = lies
    for pooling in (Mean(), TrimmedMean(f=2), Median()):
        rule = set_network(K, pooling)
        found = rule.under(rows, liars, straight)(lies)
        torch.testing.assert_close(found, rule.scores(whole))


def test_masks_are_as_frequent_as_published() -> None:
    chances = liar_counts(17, 4)
    assert chances.round(4).tolist() == pytest.approx([0.0602, 0.0637, 0.0896, 0.2081, 0.5784])
    masks = draw_masks(20_000, 17, 4, np.random.default_rng(1))
    counts = np.bincount(masks.sum(1), minlength=5)
    assert stats.chisquare(counts, 20_000 * chances).pvalue > 1e-4
    everyone = masks.sum(0)  # all members alike
    assert stats.chisquare(everyone).pvalue > 1e-4


def test_the_margin_that_is_left_to_a_liar() -> None:
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1]])
    left = shortfall(shares, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(left, torch.tensor([0.6, 0.0, 0.0]))


def batch(seed: int = 0) -> tuple[Attacked, ServerSet, np.ndarray]:
    rows, _ = answers(6, N, K, seed)
    server = ServerSet(rows, set_network(K).scores(rows).argmax(-1))  # the network is right
    which = np.array([0, 3, 3, 5, 1, 0])
    mask = draw_masks(6, N, 3, np.random.default_rng(seed))
    return Attacked.of(server, which, mask), server, which


def test_what_training_sees_is_the_network_on_attacked_rows() -> None:
    """An independent reference: rows are replaced, all are encoded anew."""
    network = set_network(K).network.requires_grad_(True)
    attacked, server, which = batch()
    logits = Inner(network, plan("kvote"), np.random.default_rng(1))(attacked)
    rows = server.probabilities[which]
    losses, answers_of = [], []
    for j in range(K):
        forged = torch.where(attacked.mask.unsqueeze(-1), torch.eye(K)[j], rows)
        answers_of.append(network(forged))
        loss = torch.nn.functional.cross_entropy(answers_of[-1], attacked.labels, reduction="none")
        losses.append(loss.masked_fill(attacked.labels == j, -torch.inf))
    worst = torch.stack(losses).argmax(0)
    expected = torch.stack(answers_of)[worst, torch.arange(6)]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    honest = Attacked(attacked.rows, attacked.at, attacked.labels, torch.zeros_like(attacked.mask))
    plain = Inner(network, plan("none"), np.random.default_rng(1))(honest)
    torch.testing.assert_close(plain, network(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inner", ["adversarial", "kvote"])
def test_attacks_in_training_hurt_and_leave_no_gradients(inner: str) -> None:
    network = set_network(K).network.requires_grad_(True)
    attacked, server, which = batch()
    logits = Inner(network, plan(inner, steps=20), np.random.default_rng(1))(attacked)
    assert all(parameter.grad is None for parameter in network.parameters())
    cross_entropy = torch.nn.functional.cross_entropy
    with torch.no_grad():
        honest = cross_entropy(network(server.probabilities[which]), attacked.labels)
    assert cross_entropy(logits, attacked.labels) > honest


@pytest.mark.parametrize("training", ["none", "adversarial", "kvote"])
def test_training_learns_is_repeatable_and_leaves_generators_alone(training: str) -> None:
    rows, labels = answers(150, N, K)
    server = ServerSet(rows, labels)
    learning, judging = server.held_out(0.2, np.random.default_rng(1))
    entry = DeepSetAggregator(training=training, hidden=32, masks=30, epochs=3, steps=3, lr=0.01)
    state = torch.random.get_rng_state()
    said: list[str] = []
    first = entry.train(learning, judging, 2, Streams(1), said.append)
    again = entry.train(learning, judging, 2, Streams(1), said.append)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(said) == 6
    rule = entry.build("set", K, first)
    test, truth = answers(200, N, K, seed=9)
    assert float((rule.scores(test).argmax(-1) == truth).double().mean()) > 0.8


def test_many_classes_are_not_all_tried() -> None:
    server = ServerSet(*answers(60, N, 40))
    learning, judging = server.held_out(0.2, np.random.default_rng(1))
    entry = DeepSetAggregator(hidden=8, masks=2, epochs=1, candidates=6)
    learned = entry.train(learning, judging, 2, Streams(1), lambda text: None)
    assert entry.build("set", 40, learned).scores(server.probabilities).shape == (60, 40)


def test_what_judges_is_a_share_of_each_class_and_never_learned_from() -> None:
    rows, labels = answers(100, N, K)
    server = ServerSet(rows, labels)
    learning, judging = server.held_out(0.2, np.random.default_rng(1))
    assert len(learning) + len(judging) == 100
    for k in range(K):
        assert int((judging.labels == k).sum()) == round(0.2 * int((labels == k).sum()))
    whole = torch.cat([learning.probabilities, judging.probabilities]).flatten(1)
    assert len(torch.unique(whole, dim=0)) == 100
    single = ServerSet(rows[:1], labels[:1])
    assert len(single.held_out(0.2, np.random.default_rng(1))[1]) == 1


def test_a_class_that_nobody_has_is_named() -> None:
    labels = torch.tensor([0, 1, 3, 3, 0])
    with pytest.raises(ConfigError, match="none of class pear"):
        check_classes(labels, K, ("apple", "fig", "pear", "plum"))


@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([Mean(), TrimmedMean(f=2)]))
@settings(max_examples=30, deadline=None)
def test_what_is_certified_no_lie_changes(seed: int, f: int, pooling) -> None:
    rule, (rows, _) = set_network(3, pooling, seed), answers(20, N, 3, seed)
    draw = torch.Generator().manual_seed(seed)
    certified = rule.certified(rows, f)
    answered = rule.scores(rows).argmax(-1)
    assert f > 0 or certified.all()
    for attempt in range(40):
        who = torch.rand(20, N, generator=draw).argsort(1)[:, :f]
        lies = torch.distributions.Dirichlet(torch.full((3,), 0.1)).sample((20, f))
        if attempt % 2:
            lies = torch.eye(3)[torch.randint(3, (20,), generator=draw)][:, None].expand(-1, f, -1)
        forged = rows.scatter(1, who.unsqueeze(-1).expand(-1, -1, 3), lies)
        changed = rule.scores(forged).argmax(-1) != answered
        assert not (certified & changed).any()


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_missing_members_may_say_anything(seed: int) -> None:
    """What they say then changes no certified answer, though it may cost the certificate.

    The linear bound of a box may be looser than that of a larger one around it.
    """
    rule, (rows, _) = set_network(3, TrimmedMean(f=2), seed), answers(20, N, 3, seed)
    came = rows[:, : N - 1]
    certified = rule.certified(came, 1, missing=1)
    decided = []
    for j in range(3):
        whole = torch.cat([came, torch.eye(3)[j].expand(20, 1, -1)], 1)
        decided.append(rule.scores(whole).argmax(-1))
    same = (torch.stack(decided) == decided[0]).all(0)
    assert (same | ~certified).all()


@pytest.mark.parametrize("pooling", [Mean(), TrimmedMean(f=2), Median()])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_box_is_that_of_the_certificates(pooling, missing: int) -> None:
    network, rows = set_network(K).network, answers(20, N - missing, K)[0]
    ranked = set_certificates.Ranked.of(network, pooling, rows, missing)
    low, high = set_certificates.reach(network.encoder)
    encoded = ((network.encoder(rows) - low) / (high - low)).double()
    for f in range(4):
        ends = certificates.bounds(pooling, encoded, f, missing)
        for end, expected in zip(ranked.box(f), ends, strict=True):
            expected = expected * (high - low).double() + low.double()
            torch.testing.assert_close(end, expected.float(), rtol=1e-4, atol=1e-4)


def test_the_reach_of_an_encoder_holds_all_rows_and_its_corners_are_near() -> None:
    for seed in range(5):
        encoder = set_network(K, seed=seed).network.encoder
        low, high = set_certificates.reach(encoder)
        some = torch.distributions.Dirichlet(torch.full((K,), 0.3)).sample((5000,))
        with torch.no_grad():
            encoded = encoder(torch.cat([some, torch.eye(K)]))
        assert (encoded >= low - 1e-5).all()
        assert (encoded <= high + 1e-5).all()


def test_the_largest_f_is_where_certificates_end() -> None:
    rows = answers(40, N, K)[0]
    for pooling in (Mean(), TrimmedMean(f=2), Median()):
        rule = set_network(K, pooling)
        largest = rule.largest_f(rows)
        for f in range((N - 1) // 2 + 1):
            assert torch.equal(rule.certified(rows, f), largest >= f)
    unknown = set_network(K, "geometric_median")
    assert (unknown.largest_f(rows) == -1).all()


def test_adam_is_that_of_the_paper() -> None:
    """Kingma and Ba (2015), algorithm 1, number by number."""
    from hansa.infer.robust.set_training import _Adam

    draw = torch.Generator().manual_seed(1)
    parameter = torch.randn(3, 2, generator=draw, dtype=torch.float64)
    ours, expected = _Adam([parameter], 0.01), parameter.clone()
    m, v = torch.zeros_like(expected), torch.zeros_like(expected)
    for t in range(1, 21):
        gradient = torch.randn(3, 2, generator=draw, dtype=torch.float64)
        ours.step([gradient])
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected -= 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(parameter, expected)
