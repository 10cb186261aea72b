"""The methods of forgetting against their formulas, on a small trained run."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hansa.base.component import catalogue, find
from hansa.base.errors import ConfigError
from hansa.forget import (
    Ascent,
    Downweight,
    FedEraser,
    GradientAscent,
    Judge,
    Noise,
    OnOriginals,
    ProjectedAscent,
    Pruning,
    QuickDrop,
    RandomReal,
    Recovery,
    Request,
    Retrain,
)
from hansa.forget.federaser import calibrated
from hansa.forget.holdings import Mixed, Real, Sampled, Synthetic
from hansa.forget.party import Party
from hansa.forget.playing import tried
from hansa.forget.portions import Portion
from hansa.forget.projected import project_, reference_model
from hansa.forget.pruning import tf_idf
from hansa.forget.stopping import Watch
from hansa.forget.telling import tell
from hansa.models import ParameterLayout

from .conftest import forgotten, rated


def test_ascent_adds_the_gradient_and_two_steps_are_two_ascents(opened, party) -> None:
    client = next(c for c in range(5) if opened.job.roster.labels[c, 3])
    own = party(client)
    holding = own.holding(Portion(True, Request.of(classes=[3]), source="synthetic"))
    assert isinstance(holding, Synthetic)
    row, module, layout = opened.row, copy.deepcopy(opened.job.module), own.network.layout
    layout.load_(module, row)
    for steps in (1, 2):
        found = own.descend(row, holding, steps, 0.02, ascend=True, weight_decay=0.1)
        module.zero_grad()
        F.cross_entropy(module(holding.x), holding.y).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.02 * parameter.grad
        torch.testing.assert_close(found, layout.flatten(module), rtol=1e-5, atol=1e-6)
    assert own.gradients == 3 * len(holding.y)


def test_an_average_weighs_by_examples_and_asks_only_who_holds_some(case, opened, party) -> None:
    """What it costs is counted: the model to each holder and back, with what goes with it."""
    fed = None

    def program(federation):
        nonlocal fed
        fed = federation
        holdings = yield from federation.synthetic(forget=True)
        return holdings, (yield from federation.round(federation.row, holdings, 1, 0.02, True))

    holdings, found = tried(case(classes=[3]), program)
    assert {h.client for h in holdings} == set(np.flatnonzero(opened.job.roster.labels[:5, 3]))
    portion = Portion(True, Request.of(classes=[3]), source="synthetic")
    models = []
    for held in holdings:
        own = party(held.client)
        images = own.holding(portion)
        assert held.mass == len(images.y) == held.counts[3]
        models.append(own.descend(opened.row, images, 1, 0.02, ascend=True))
    weights = np.array([h.mass for h in holdings]) / sum(h.mass for h in holdings)
    expected = sum(w * m.double() for w, m in zip(weights, models, strict=True))
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)
    models = 2 * len(holdings) * fed.network.layout.nbytes
    assert models < fed.ledger.phases["other"].bytes < 1.3 * models


def test_ascent_stops_when_the_class_is_as_good_as_guessed(case) -> None:
    row, story, _ = forgotten(case(classes=[3]), QuickDrop())
    course = story["ascent"]["class"]["losses"]
    assert course[-1] >= math.log(10) > course[-2]
    figures = rated(case(classes=[3]), row)
    assert figures["forget"] < 0.1
    assert figures["retain"] > 0.6
    held = tried(case(classes=[3]), lambda fed: fed.synthetic(forget=True))
    assert story["holders"] == [h.client for h in held]


def test_what_comes_back_is_driven_out_again(case) -> None:
    weak = Ascent(max_rounds=1, lr=1e-4)
    slow = Recovery(rounds=1, steps=1, lr=1e-3, rechecks=2)
    _, story, _ = forgotten(case(classes=[3]), QuickDrop(ascent=weak, recovery=slow))
    assert story["recovery"]["driven_out_again"] == 2
    assert story["recovery"]["came_back"]
    assert len(story["recovery"]["losses"]) == 3


def test_the_last_recovery_goes_only_as_far_as_the_goal_holds(case) -> None:
    ascent = Ascent()

    def program(fed):
        images = yield from fed.synthetic(forget=True)
        judges = yield from fed.real(forget=True)
        goal = yield from ascent.goal(fed, fed.row, images)
        row, _ = yield from ascent.run(fed, fed.row, images, goal=goal)
        # The class too: it is sure to come back.
        everything = yield from fed.held(Portion(False))
        often = Recovery(rounds=2, steps=10, rechecks=1)
        row, story = yield from often.run(fed, row, everything, ascent, [Watch(fed, images, goal)])
        return story, goal.reached((yield from tell(fed, row, judges)))

    story, reached = tried(case(classes=[3]), program)
    assert story["driven_out_again"] == 1
    assert story["shortened"]
    assert not story["came_back"]
    assert reached


def test_a_forgotten_class_is_never_used_again(case, opened, monkeypatch) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    plain = Party.descend

    def watch(self, row, holding, *rest, **more):
        pieces = (holding.synthetic, holding.real) if isinstance(holding, Mixed) else (holding,)
        seen.extend((self.client, piece.labels()) for piece in pieces)
        return plain(self, row, holding, *rest, **more)

    monkeypatch.setattr(Party, "descend", watch)
    again = replace(case(classes=[5]), past=Request.of(classes=[3], clients=[1]))
    for method in (QuickDrop(), QuickDrop(real_share=0.5), OnOriginals()):
        forgotten(again, method)
    assert seen
    assert not any(client == 1 or (labels == 3).any() for client, labels in seen)

    def everybody(fed):
        real, rest = (yield from fed.real(True)), (yield from fed.real(False))
        images = yield from fed.synthetic(True)
        return [h.client for h in (*real, *rest, *images)]

    assert 1 not in tried(again, everybody)


def test_what_is_recovered_with_holds_none_of_the_request(party) -> None:
    portion = Portion(False, Request.of(classes=[5]), Request.of(classes=[3], clients=[1]))
    kinds = (
        replace(portion, source="synthetic", share=0.5), replace(portion, drawn=(50, 1000)),
        portion, replace(portion, source="synthetic"),
    )  # fmt: skip
    random = np.random.default_rng(0)
    for kind, expected in zip(kinds, (Mixed, Sampled, Real, Synthetic), strict=True):
        assert party(1).holding(kind) is None
        for client in (0, 2, 3, 4):
            holding = party(client).holding(kind)
            assert isinstance(holding, expected)
            labels = holding.draw(random)[1]
            assert not ((labels == 5) | (labels == 3)).any()


def test_examples_of_a_recovery_are_drawn_by_size_and_anew(case, party) -> None:
    one = case(classes=[3])
    held = tried(one, lambda fed: fed.sampled(60))
    whole = sum(h.mass for h in held)
    for h in held:
        holding = party(h.client).holding(h.portion)
        first, other = holding.draws(np.random.default_rng(0), 2)
        assert len(first[1]) == max(1, round(60 * h.mass / whole))
        assert float(first[2].sum()) == pytest.approx(1)
        assert not torch.equal(first[0], other[0])
        assert holding.mass == h.mass
    chosen = OnOriginals(examples=1.0, recovery=Recovery(rounds=3, steps=2, rechecks=0))
    _, story, fed = forgotten(one, chosen)
    images = sum(h.mass for h in tried(one, lambda fed: fed.synthetic(forget=False)))
    spent = fed.ledger.phases["recovery"].sample_gradients
    assert abs(spent - 3 * 2 * images) <= 3 * 2 * len(held)
    assert story["recovery"]["driven_out_again"] == 0


def test_controls_recover_as_quickdrop_does(case, party) -> None:
    one = case(classes=[3])
    images = tried(one, lambda fed: fed.synthetic(forget=True))
    for control, name in ((RandomReal(), "random_real"), (Noise(), "noise")):
        own = tried(one, control.forgotten)
        assert [h.mass for h in own] == [h.mass for h in images]
        client = own[0].client
        pairs = [party(client).holding(h.portion) for h in (own[0], images[0])]
        assert not torch.equal(pairs[0].x, pairs[1].x)
        assert torch.equal(pairs[0].y, pairs[1].y)
        remaining = tried(one, control.remaining)
        assert all(h.portion.stand_in == name for h in remaining)
        same = zip(
            tried(one, OnOriginals(stand_in=name).remaining), tried(one, OnOriginals().remaining),
            strict=True,
        )  # fmt: skip
        assert all((a.client, a.portion, a.mass) == (b.client, b.portion, b.mass) for a, b in same)


def test_quickdrop_takes_gradients_of_images_alone(case, monkeypatch) -> None:
    kinds: set[type] = set()
    plain = Party.descend

    def watch(self, row, holding, *rest, **more):
        kinds.add(type(holding))
        return plain(self, row, holding, *rest, **more)

    monkeypatch.setattr(Party, "descend", watch)
    forgotten(case(classes=[3]), QuickDrop())
    forgotten(case(clients=[1]), QuickDrop())
    assert kinds == {Synthetic}


def test_pruning_goes_on_until_the_class_is_as_good_as_guessed(case) -> None:
    stay = Recovery(rounds=0, rechecks=0)
    row, story, _ = forgotten(case(classes=[3, 5]), Pruning(recovery=stay))
    for channels in story["pruned"].values():
        assert len(set(channels)) == len(channels) < 8
    few = {name: len(channels) for name, channels in story["pruned"].items()}

    def loss(fed):
        return (yield from fed.loss(row, (yield from fed.real(forget=True))))

    assert tried(case(classes=[5]), loss) >= math.log(10) or set(few.values()) == {7}


def test_several_things_at_once(case) -> None:
    one = case(classes=[3], clients=[1])
    _, story, _ = forgotten(one, QuickDrop())
    assert set(story["ascent"]) == {"class", "client"}
    assert 1 not in {h.client for h in tried(one, lambda fed: fed.synthetic(forget=False))}


def test_forgetting_is_deterministic(case) -> None:
    one, other = (forgotten(case(classes=[3]), QuickDrop())[0] for _ in range(2))
    assert torch.equal(one, other)


def test_retraining_forgets_and_leaves_out_who_has_nothing_left(case, tmp_path) -> None:
    again = Retrain().train_again(case(clients=[2]), tmp_path / "client")
    assert again.story["clients"] == 4
    assert again.checkpoint is None
    assert again.ledger.total.sample_gradients > 0
    assert again.ledger.total.rounds == 8

    def distance(fed):
        judge = yield from Judge.of(fed)
        return (yield from judge.distance(again.row, again.row))

    own = tried(case(clients=[2]), distance)
    assert own["forget_gap"] == 0
    assert own["test_agreement"] == 1
    row = Retrain().train_again(case(classes=[3]), tmp_path / "class").row
    assert rated(case(classes=[3]), row)["forget"] == 0.0


def test_single_examples_go_by_ascent_on_the_originals(case, opened) -> None:
    one = case(samples=[int(opened.job.parts[0][0])])
    GradientAscent().check(one)
    _, story, _ = forgotten(one, GradientAscent(recovery=Recovery(rounds=1, steps=1)))
    assert story["holders"] == [0]
    with pytest.raises(ConfigError, match="cannot forget a single sample"):
        QuickDrop().check(one)


def test_elastic_weights_keep_the_model_near(case, opened) -> None:
    many = Ascent(local_steps=5, max_rounds=1)
    stay = Recovery(rounds=0)
    moved = []
    for ewc in (0.0, 50.0):
        row, _, _ = forgotten(
            case(classes=[3]), GradientAscent(ascent=many, recovery=stay, ewc=ewc)
        )
        moved.append(float((row - opened.row).norm()))
    assert moved[1] < moved[0]


def test_federaser_repeats_training_where_nobody_leaves(case, opened) -> None:
    def both(fed):
        fed.updates = fed.updates[:4]
        row, _ = yield from FedEraser(share=1).forget(fed)
        exact, _ = yield from FedEraser(calibrate=False).forget(fed)
        return row, exact

    row, exact = tried(case(), both)
    torch.testing.assert_close(row, exact, rtol=1e-5, atol=1e-5)
    whole, _, _ = forgotten(case(), FedEraser(share=1))
    torch.testing.assert_close(whole, opened.row, rtol=0, atol=5e-5)


def test_a_calibrated_update_has_the_old_length_and_the_new_direction(opened) -> None:
    layout = ParameterLayout.of(opened.job.module)
    stored, new = torch.randn(layout.trainable), torch.randn(layout.trainable)
    found = calibrated(stored, new, layout)
    for entry in layout.entries:
        part = slice(entry.offset, entry.offset + entry.size)
        assert float(found[part].norm()) == pytest.approx(float(stored[part].norm()), rel=1e-5)
        cosine = F.cosine_similarity(found[part], new[part], dim=0)
        assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_a_class_exclusive_channel_ranks_first_and_stays_closed(case, opened) -> None:
    table = torch.tensor([[5.0, 1.0, 1.0], [5.0, 0.0, 1.0], [5.0, 0.0, 1.0]])
    table[0, 1] = 6.0
    assert int(tf_idf(table)[0].argmax()) == 1
    few = Pruning(ratio=0.25, recovery=Recovery(rounds=1, steps=2, rechecks=0))
    row, story, fed = forgotten(case(classes=[3]), few)
    views = fed.network.layout.views(row)
    for name, channels in story["pruned"].items():
        assert len(channels) == 2
        assert not views[f"{name}.weight"][channels].any()
        assert not views[f"{name.replace('conv', 'norm')}.weight"][channels].any()
    assert (row != opened.row).any()


def test_projected_ascent_stays_in_its_ball(case) -> None:
    _, story, _ = forgotten(case(clients=[1]), ProjectedAscent(lr=1.0, until=100, radius=0.05))
    assert story["moved"][0] <= story["radius"] * (1 + 1e-5)
    row, centre = torch.tensor([3.0, 4.0]), torch.zeros(2)
    project_(row, centre, 1.0)
    torch.testing.assert_close(row, torch.tensor([0.6, 0.8]))
    models = torch.randn(4, 7)
    others = reference_model(models.mean(0), models[0], 1 / 4)
    torch.testing.assert_close(others, models[1:].mean(0), rtol=1e-5, atol=1e-6)


def test_downweighting_follows_its_formula(case) -> None:
    Downweight(down=-0.1, rounds=1).check(case(clients=[1]))
    row, story, _ = forgotten(case(clients=[1]), Downweight(down=-0.1, rounds=1))
    assert story["weights"][0] < 0
    assert row.isfinite().all()
    with pytest.raises(ConfigError, match="nothing is left"):
        Downweight(down=-100).check(case(clients=[1]))


def test_who_cannot_serve_a_request_says_what_can(case, opened) -> None:
    one = case(classes=[3])
    for name in ("pgd", "federaser", "downweight"):
        with pytest.raises(ConfigError, match="cannot forget a single class"):
            find("forgetting", name)().check(one)
    with pytest.raises(ConfigError, match="--method sga or --method retrain"):
        QuickDrop().check(replace(one, layout=None, imaged=np.zeros(0, np.int64)))
    plain = opened.job.algorithm.model_copy(update={"keep_updates": 0})
    with pytest.raises(ConfigError, match="keep_updates"):
        FedEraser().check(replace(case(clients=[1]), job=replace(opened.job, algorithm=plain)))


def test_all_methods_are_known_by_name() -> None:
    names = (
        "downweight fu_mp federaser noise pgd quickdrop quickdrop_originals random_real retrain sga"
    )
    assert {*names.split(), "downweight", "shards"} <= set(catalogue("forgetting"))


def test_our_own_formula_bears_no_papers_name() -> None:
    with pytest.raises(ConfigError, match="now downweight: it is our own formula"):
        find("forgetting", "s2u")
    assert "own formula" in Downweight.summary()
