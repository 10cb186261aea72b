"""When the ascent stops: the foretold loss, shortened steps, and what they come to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hansa.forget import Ascent, GradientAscent, QuickDrop, Recovery
from hansa.forget.classifier import Classifier
from hansa.forget.holdings import Real, Synthetic
from hansa.forget.phases import shortened
from hansa.forget.playing import tried
from hansa.forget.stopping import NEAR, SAFE, Goal, foretold_losses, guessing
from hansa.forget.telling import Told, only, tell

from .conftest import forgotten, rated


def by_hand(opened, client: int) -> np.ndarray:
    """The targets from their definition, class by class."""
    data, parts, row = opened.job.dataset, opened.job.parts, opened.row
    train, labels = data.train, data.train.targets.numpy()
    x, y = data.gather(train, torch.from_numpy(np.asarray(parts[client])))
    scores = Classifier(opened.job.module).logits(row, x)
    losses = F.cross_entropy(scores, y, reduction="none").numpy()
    everyone = np.bincount(labels[np.concatenate(list(parts))], minlength=10)
    found = np.zeros(10)
    for label in np.unique(y.numpy()):
        mine = y.numpy() == label
        left = everyone[label] - mine.sum()
        now = losses[mine].mean()
        found[label] = min(math.log(10), now * everyone[label] / left) if left else math.log(10)
    return found


def foretold(fed):
    """The foretold losses of what a request names, and their shares."""
    return (yield from foretold_losses(fed, fed.row, (yield from fed.real(forget=True))))


@pytest.mark.parametrize("client", range(5))
def test_the_foretold_losses_are_their_definition(case, opened, client: int) -> None:
    found, share = tried(case(clients=[client]), foretold)
    np.testing.assert_allclose(found, by_hand(opened, client), rtol=1e-5)
    assert share.sum() == pytest.approx(1)
    assert ((share > 0) == (found > 0)).all()


def told(losses: list[float], right: list[float]) -> Told:
    """Of 100 examples of each class."""
    return Told(100 * np.array(losses), np.rint(100 * np.array(right)), np.full(len(losses), 100))


def test_what_nobody_keeps_can_only_be_guessed(case) -> None:
    found, share = tried(case(classes=[3]), foretold)
    assert found[3] == pytest.approx(math.log(10))
    assert share.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    goal = tried(case(classes=[3]), lambda fed: Ascent(until=1.5).goal(fed, fed.row, []))
    assert goal.target[3] == pytest.approx(1.5 * math.log(10))
    assert goal.most == SAFE / 10


def test_a_loss_alone_is_no_goal_for_a_class(case) -> None:
    def guessed(fed):
        return guessing(fed, (yield from fed.real(forget=True)))

    goal = tried(case(classes=[3, 5]), guessed)
    high, none = np.full(10, 9.0), np.zeros(10)
    for right, reached in ((0.5, False), (SAFE / 10 + 0.01, False), (SAFE / 10 - 0.01, True)):
        shares = none.copy()
        shares[5] = right
        assert goal.reached(told(high, shares)) == reached
    low = high.copy()
    low[3] = 2.2
    assert not goal.reached(told(low, none))  # the mean is far beyond
    assert goal.low(told(low, none)).tolist() == [k == 3 for k in range(10)]
    assert not goal.reached(told(np.full(10, np.nan), none))


def test_unseen_examples_raise_it(case) -> None:
    one = case(clients=[1])
    plain, _ = tried(one, foretold)
    data = one.job.dataset
    wrong = replace(data.test, targets=(data.test.targets + 1) % 10)
    unseen = replace(one, job=replace(one.job, dataset=replace(data, validation=wrong)))
    raised, _ = tried(unseen, foretold)
    assert (raised >= plain).all()
    assert (raised > plain).any()


def done(script):
    """What a script comes to that asks for nothing."""
    with pytest.raises(StopIteration) as end:
        next(script)
    return end.value.value


def test_a_step_is_shortened_on_its_way() -> None:
    start, end = torch.zeros(3), torch.ones(3)
    seen: list[float] = []

    def look(at: torch.Tensor):
        yield from ()
        seen.append(float(at[0]))
        return seen[-1]

    def fits(bound: tuple[float, float]):
        def script(_, now: float):
            yield from ()
            return bound[0] < now <= bound[1]

        return script

    at, found = done(shortened(start, end, look, fits((0.0, 0.3))))
    assert (float(at[0]), found, seen) == (0.25, 0.25, [1.0, 0.5, 0.25])
    assert done(shortened(start, end, look, fits((0.0, 9.0))))[0] is end
    at, found = done(shortened(start, end, look, fits((9.0, 0.0))))
    assert at is start
    assert found is None


def test_a_goal_moves_with_what_comes_back() -> None:
    half, right = np.array([0.5, 0.5]), [1.0, 1.0]
    goal = Goal(np.array([0.4, 2.0]), half, gently=True)
    assert goal.reached(told([0.4 * NEAR + 1e-9, 2.0 * NEAR + 1e-9], right))
    assert not goal.reached(told([9.0, 1.7], right))  # one class makes up for no other
    assert goal.low(told([0.2, 2.0], right)).tolist() == [True, False]
    goal.ascended = np.array([0.4, 2.0])
    goal.aim_beyond(told([0.1, 3.0], right), chance=2.3)
    np.testing.assert_allclose(goal.aim, [0.8, 2.0])  # half of the way back, in logarithms
    goal.ascended = np.array([100.0, 100.0])
    goal.aim_beyond(told([0.001, 100.0], right), chance=2.3)
    np.testing.assert_allclose(goal.aim, [4.6, 2.0])
    classes = Goal(np.array([2.3, 0.0]), np.array([1.0, 0.0]), most=0.1)
    before = classes.aim.copy(), classes.most_aim
    classes.aim_beyond(told([0.1, 0.0], right), chance=2.3)
    assert classes.aim[0] > before[0][0]
    assert classes.most_aim < before[1] < classes.most
    assert classes.reached(told([2.3, 0.0], [0.1, 1.0]))  # the goal itself has not moved
    assert Goal(None).reached(told([0.0], [1.0]))


def test_a_step_that_fits_neither_explodes_nor_goes_down() -> None:
    goal, low = Goal(np.array([2.0]), most=0.1), np.array([True])
    before = told([0.5], [1.0])
    for loss, fits in ((0.4, True), (0.1, False), (2.4, True), (2.6, False), (np.inf, False)):
        assert goal.fits(before, told([loss], [1.0]), low) == fits


def test_holdings_of_some_classes(case, party) -> None:
    some, one = np.isin(np.arange(10), [0, 4, 7]), case(clients=[1])
    for what in (lambda fed: fed.real(forget=False), lambda fed: fed.synthetic(forget=False)):
        held = tried(one, what)
        for part in only(held, some):
            holding = party(part.client).holding(part.portion)
            assert isinstance(holding, Real | Synthetic)
            assert holding.mass == part.mass == part.counts.sum()
            _, y, weight = holding.draw(np.random.default_rng(0))
            assert some[y.numpy()].all()
            assert float(weight.sum()) == pytest.approx(1)
        assert only(held, np.zeros(10, dtype=bool)) == []
    with pytest.raises(TypeError, match="told apart"):
        only(tried(one, lambda fed: fed.sampled(50)), some)


def test_clients_are_ascended_on_until_the_target(case, opened) -> None:
    one = case(clients=[1])
    row, story, fed = forgotten(one, QuickDrop())
    course = story["ascent"]["client"]
    _, share = tried(one, foretold)
    assert course["target"] == pytest.approx((by_hand(opened, 1) * share).sum(), rel=1e-5)
    assert course["losses"][-1] > course["losses"][0]
    assert len(course["losses"]) == course["rounds"] + 1
    assert len(story["recovery"]["losses"]) >= QuickDrop().recovery.rounds
    assert rated(one, row)["forget"] < rated(one, opened.row)["forget"]
    assert fed.ledger.phases["checks"].sample_checks > 0
    assert fed.ledger.phases["checks"].rounds == 0


def test_a_number_of_rounds_overrides_it(case) -> None:
    chosen = QuickDrop(ascent=Ascent(client_rounds=2), recovery=Recovery(rounds=0))
    row, story, _ = forgotten(case(clients=[1]), chosen)

    def twice(fed):
        images, at = (yield from fed.synthetic(forget=True)), fed.row
        for _ in range(2):
            at = yield from fed.round(at, images, 1, 0.02, ascend=True)
        return at

    assert torch.equal(row, tried(case(clients=[1]), twice))
    assert story["ascent"]["client"]["target"] is None


def test_samples_and_clients_are_watched_together(case, opened) -> None:
    both = case(clients=[1], samples=[int(opened.job.parts[2][0])])
    short = GradientAscent(recovery=Recovery(rounds=1, steps=1, rechecks=0))
    assert set(forgotten(both, short)[1]["ascent"]) == {"client", "sample"}


def test_the_rate_adapts_whatever_it_is_at_first(case) -> None:
    for lr in (1e-6, 1e3):
        row, story, _ = forgotten(case(classes=[3]), QuickDrop(ascent=Ascent(lr=lr)))
        assert story["ascent"]["class"]["reached"]
        figures = rated(case(classes=[3]), row)
        assert figures["forget"] <= 0.1
        assert figures["retain"] > 0.6


def test_a_recovery_that_diverges_is_held_back(case) -> None:
    wild = Recovery(rounds=6, steps=2, rechecks=4, lr=1e3)
    row, story, _ = forgotten(case(classes=[3]), QuickDrop(recovery=wild))
    assert row.isfinite().all()
    assert rated(case(classes=[3]), row)["retain"] > 0.5
    assert not story["recovery"]["came_back"]


def test_looking_is_counted(case) -> None:
    def look(fed):
        held = yield from fed.real(forget=True)
        return held, (yield from tell(fed, fed.row, held)), fed

    held, seen, fed = tried(case(classes=[3]), look)
    cost = fed.ledger.total
    assert seen.counts.sum() == cost.sample_checks == sum(h.mass for h in held)
    assert cost.bytes >= len(held) * fed.network.layout.nbytes
    assert cost.sample_gradients == cost.rounds == 0
