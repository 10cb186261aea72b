"""When the ascent stops: the foretold loss, shortened steps, and what they come to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hansa.forget import Ascent, Federation, GradientAscent, Judge, QuickDrop, Recovery
from hansa.forget.holdings import Real, Synthetic
from hansa.forget.stopping import NEAR, Goal, foretold_losses, mean_losses, only, shortened


def by_hand(fed: Federation, client: int) -> np.ndarray:
    """The targets from their definition, class by class."""
    train = fed.job.dataset.train
    parts, labels = fed.job.parts, train.targets.numpy()
    x, y = fed.job.dataset.gather(train, torch.from_numpy(np.asarray(parts[client])))
    losses = F.cross_entropy(fed.network.logits(fed.row, x), y, reduction="none").numpy()
    everyone = np.bincount(labels[np.concatenate(list(parts))], minlength=10)
    found = np.zeros(10)
    for label in np.unique(y.numpy()):
        mine = y.numpy() == label
        left = everyone[label] - mine.sum()
        now = losses[mine].mean()
        found[label] = min(math.log(10), now * everyone[label] / left) if left else math.log(10)
    return found


@pytest.mark.parametrize("client", range(5))
def test_the_foretold_losses_are_their_definition(federation, client: int) -> None:
    fed = federation(clients=[client])
    found, share = foretold_losses(fed, fed.row, fed.real(forget=True))
    np.testing.assert_allclose(found, by_hand(fed, client), rtol=1e-5)
    assert share.sum() == pytest.approx(1)
    assert ((share > 0) == (found > 0)).all()


def test_what_nobody_keeps_can_only_be_guessed(federation) -> None:
    fed = federation(classes=[3])
    found, share = foretold_losses(fed, fed.row, fed.real(forget=True))
    assert found[3] == pytest.approx(math.log(10))
    assert share.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert Ascent(until=1.5).goal(fed, fed.row, []).target == pytest.approx(1.5 * math.log(10))


def test_unseen_examples_raise_it(federation) -> None:
    fed = federation(clients=[1])
    plain, _ = foretold_losses(fed, fed.row, fed.real(forget=True))
    data = fed.job.dataset
    wrong = replace(data.test, targets=(data.test.targets + 1) % 10)
    fed.job = replace(fed.job, dataset=replace(data, validation=wrong))
    raised, _ = foretold_losses(fed, fed.row, fed.real(forget=True))
    assert (raised >= plain).all()
    assert (raised > plain).any()


def test_a_step_is_shortened_on_its_way(federation) -> None:
    fed = federation(clients=[1])
    judges = fed.real(forget=True)
    now = mean_losses(fed, fed.row, judges)
    _, share = foretold_losses(fed, fed.row, judges)
    far = fed.round(fed.row, judges, 1, 0.5, ascend=True)
    near, wide = (Goal(now * factor, share, gently=True) for factor in (1.2, 1e3))
    there = near.mean(mean_losses(fed, far, judges))
    assert there > 1.5 * near.mean(now)
    row, losses = shortened(fed, fed.row, far, judges, near)
    way = (row - fed.row).norm() / (far - fed.row).norm()
    assert float(way) in [pytest.approx(2.0**-k, rel=1e-4) for k in range(1, 5)]
    torch.testing.assert_close(row - fed.row, (far - fed.row) * way, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(losses, mean_losses(fed, row, judges))
    assert near.mean(losses) < there
    assert torch.equal(shortened(fed, fed.row, far, judges, wide)[0], far)


def test_a_goal_moves_with_what_comes_back() -> None:
    goal = Goal(np.array([0.4, 2.0]), np.array([0.5, 0.5]), gently=True)
    assert goal.reached(np.array([0.4, 2.0]) * (NEAR + 1e-9))
    assert not goal.reached(np.array([9.0, 1.7]))  # one class makes up for no other
    assert goal.low(np.array([0.2, 2.0])).tolist() == [True, False]
    goal.ascended = np.array([0.4, 2.0])
    goal.aim_beyond(np.array([0.1, 3.0]), chance=2.3)
    np.testing.assert_allclose(goal.aim, [0.8, 2.0])  # half of the way back, in logarithms
    goal.ascended = np.array([100.0, 100.0])
    goal.aim_beyond(np.array([0.001, 100.0]), chance=2.3)
    np.testing.assert_allclose(goal.aim, [4.6, 2.0])
    guessing = Goal(np.array([2.3]))
    guessing.aim_beyond(np.array([0.1]), chance=2.3)
    assert guessing.aim == 2.3
    assert not guessing.reached(np.array([2.2]))
    assert Goal(None).reached(np.zeros(1))


def test_holdings_of_some_classes(federation) -> None:
    fed = federation(clients=[1])
    some = np.isin(np.arange(10), [0, 4, 7])
    for holdings in (fed.real(forget=False), fed.synthetic(forget=False)):
        for holding in only(holdings, some):
            assert isinstance(holding, Real | Synthetic)
            _, y, weight = holding.draw(np.random.default_rng(0))
            assert some[y.numpy()].all()
            assert float(weight.sum()) == pytest.approx(1)
    assert only(fed.real(forget=False), np.zeros(10, dtype=bool)) == []


def test_clients_are_ascended_on_until_the_target(federation) -> None:
    fed = federation(clients=[1])
    row, story = QuickDrop().forget(fed)
    told = story["ascent"]["client"]
    _, share = foretold_losses(fed, fed.row, fed.real(forget=True))
    assert told["target"] == pytest.approx((by_hand(fed, 1) * share).sum(), rel=1e-5)
    assert told["losses"][-1] > told["losses"][0]
    assert len(told["losses"]) == told["rounds"] + 1
    assert len(story["recovery"]["losses"]) >= QuickDrop().recovery.rounds
    before, after = Judge(fed).figures(fed.row), Judge(fed).figures(row)
    assert after["forget"] < before["forget"]
    assert fed.ledger.phases["checks"].sample_checks > 0
    assert fed.ledger.phases["checks"].rounds == 0


def test_a_number_of_rounds_overrides_it(federation) -> None:
    fed = federation(clients=[1])
    chosen = QuickDrop(ascent=Ascent(client_rounds=2), recovery=Recovery(rounds=0))
    row, story = chosen.forget(fed)
    again = federation(clients=[1])
    expected = again.row
    for _ in range(2):
        expected = again.round(expected, again.synthetic(forget=True), 1, 0.02, ascend=True)
    assert torch.equal(row, expected)
    assert story["ascent"]["client"]["target"] is None


def test_samples_and_clients_are_watched_together(federation) -> None:
    fed = federation(clients=[1])
    sample = int(fed.job.parts[2][0])
    both = federation(clients=[1], samples=[sample])
    _, story = GradientAscent(recovery=Recovery(rounds=1, steps=1, rechecks=0)).forget(both)
    assert set(story["ascent"]) == {"client", "sample"}
    assert len(story["recovery"]["losses"]) == 2
