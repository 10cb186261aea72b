"""The methods of forgetting against their formulas, on a small trained run."""

import copy
import math

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
    Federation,
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
from hansa.forget.projected import project_, reference_model
from hansa.forget.pruning import tf_idf
from hansa.forget.stopping import Watch
from hansa.forget.telling import tell
from hansa.models import ParameterLayout


def test_ascent_adds_the_gradient_and_two_steps_are_two_ascents(federation) -> None:
    fed: Federation = federation(classes=[3])
    holding = fed.synthetic(forget=True)[0]
    module, layout = copy.deepcopy(fed.job.module), fed.network.layout
    layout.load_(module, fed.row)
    for steps in (1, 2):
        found = fed.local(fed.row, holding, steps, 0.02, ascend=True, weight_decay=0.1)
        module.zero_grad()
        F.cross_entropy(module(holding.x), holding.y).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.02 * parameter.grad
        torch.testing.assert_close(found, layout.flatten(module), rtol=1e-5, atol=1e-6)


def test_an_average_weighs_by_examples_and_asks_only_who_holds_some(federation) -> None:
    fed: Federation = federation(classes=[3])
    holdings = fed.synthetic(forget=True)
    holders = {c for c in fed.clients if fed.job.roster.labels[c, 3]}
    assert {h.client for h in holdings} == holders
    models = [fed.local(fed.row, h, 1, 0.02, ascend=True) for h in holdings]
    weights = np.array([len(h.y) for h in holdings]) / sum(len(h.y) for h in holdings)
    expected = sum(w * m.double() for w, m in zip(weights, models, strict=True))
    found = fed.round(fed.row, holdings, 1, 0.02, ascend=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)
    cost = fed.ledger.phases["other"]
    assert cost.bytes == 2 * len(holdings) * fed.network.layout.nbytes


def test_ascent_stops_when_the_class_is_as_good_as_guessed(federation) -> None:
    fed = federation(classes=[3])
    row, story = QuickDrop().forget(fed)
    course = story["ascent"]["class"]["losses"]
    assert course[-1] >= math.log(10) > course[-2]
    figures = Judge(fed).figures(row)
    assert figures["forget"] < 0.1
    assert figures["retain"] > 0.6
    assert story["holders"] == [h.client for h in fed.synthetic(forget=True)]


def test_what_comes_back_is_driven_out_again(federation) -> None:
    fed = federation(classes=[3])
    weak = Ascent(max_rounds=1, lr=1e-4)
    slow = Recovery(rounds=1, steps=1, lr=1e-3, rechecks=2)
    _, story = QuickDrop(ascent=weak, recovery=slow).forget(fed)
    assert story["recovery"]["driven_out_again"] == 2
    assert story["recovery"]["came_back"]
    assert len(story["recovery"]["losses"]) == 3


def test_the_last_recovery_goes_only_as_far_as_the_goal_holds(federation) -> None:
    fed, ascent = federation(classes=[3]), Ascent()
    images, judges = fed.synthetic(forget=True), fed.real(forget=True)
    goal = ascent.goal(fed, fed.row, images)
    row, _ = ascent.run(fed, fed.row, images, goal=goal)
    everything = federation().real(forget=False)  # the class too: it is sure to come back
    often = Recovery(rounds=2, steps=10, rechecks=1)
    watch = Watch(fed, images, goal)
    row, story = often.run(fed, row, everything, ascent, [watch])
    assert story["driven_out_again"] == 1
    assert story["shortened"]
    assert not story["came_back"]
    assert goal.reached(tell(fed, row, judges))


def test_a_forgotten_class_is_never_used_again(federation, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    plain = Federation.local

    def watch(self, row, holding, *rest, **more):
        synthetic = holding.synthetic if isinstance(holding, Mixed) else holding
        real = holding.real if isinstance(holding, Mixed) else holding
        if isinstance(synthetic, Synthetic):
            seen.append(synthetic.y)
        if isinstance(real, Real | Sampled):
            seen.append(self.job.dataset.train.targets[torch.from_numpy(real.index)])
        return plain(self, row, holding, *rest, **more)

    monkeypatch.setattr(Federation, "local", watch)
    fed = federation(classes=[5])
    fed.past = Request.of(classes=[3], clients=[1])
    QuickDrop().forget(fed)
    QuickDrop(real_share=0.5).forget(fed)
    OnOriginals().forget(fed)
    assert seen
    assert not any((y == 3).any() for y in seen)
    assert 1 not in {h.client for h in (*fed.real(True), *fed.real(False), *fed.synthetic(True))}
    recovering = [*fed.mixed(fed.synthetic(forget=False), 0.5), *fed.sampled(50)]
    assert not any((h.draw(np.random.default_rng(0))[1] == 5).any() for h in recovering)


def test_examples_of_a_recovery_are_drawn_by_size_and_anew(federation) -> None:
    fed = federation(classes=[3])
    holdings, sizes = fed.sampled(60), {h.client: len(h.index) for h in fed.real(forget=False)}
    whole = sum(sizes.values())
    for holding in holdings:
        one, other = holding.draws(np.random.default_rng(0), 2)
        assert len(one[1]) == max(1, round(60 * sizes[holding.client] / whole))
        assert float(one[2].sum()) == pytest.approx(1)
        assert not torch.equal(one[0], other[0])
        assert holding.mass == sizes[holding.client]
    chosen = OnOriginals(examples=1.0, recovery=Recovery(rounds=3, steps=2, rechecks=0))
    _, story = chosen.forget(fed)
    images = sum(len(h.y) for h in fed.synthetic(forget=False))
    spent = fed.ledger.phases["recovery"].sample_gradients
    assert abs(spent - 3 * 2 * images) <= 3 * 2 * len(holdings)
    assert story["recovery"]["driven_out_again"] == 0


def test_controls_recover_as_quickdrop_does(federation) -> None:
    fed = federation(classes=[3])
    for control, name in ((RandomReal, "random_real"), (Noise, "noise")):
        held, own = fed.synthetic(forget=True), control().forgotten(fed)
        assert [len(h.y) for h in own] == [len(h.y) for h in held]
        assert not torch.equal(own[0].x, held[0].x)
        assert all(isinstance(h, Synthetic) for h in control().remaining(fed))
        same = zip(OnOriginals(stand_in=name).remaining(fed), OnOriginals().remaining(fed),
                   strict=True)  # fmt: skip
        assert all(np.array_equal(a.index, b.index) and a.count == b.count for a, b in same)


def test_quickdrop_takes_gradients_of_images_alone(federation, monkeypatch) -> None:
    kinds: set[type] = set()
    plain = Federation.local

    def watch(self, row, holding, *rest, **more):
        kinds.add(type(holding))
        return plain(self, row, holding, *rest, **more)

    monkeypatch.setattr(Federation, "local", watch)
    QuickDrop().forget(federation(classes=[3]))
    QuickDrop().forget(federation(clients=[1]))
    assert kinds == {Synthetic}


def test_pruning_goes_on_until_the_class_is_as_good_as_guessed(federation) -> None:
    fed = federation(classes=[3, 5])
    stay = Recovery(rounds=0, rechecks=0)
    row, story = Pruning(recovery=stay).forget(fed)
    for channels in story["pruned"].values():
        assert len(set(channels)) == len(channels) < 8
    own = federation(classes=[5])
    few = {name: len(channels) for name, channels in story["pruned"].items()}
    assert own.loss(row, own.real(forget=True)) >= math.log(10) or set(few.values()) == {7}


def test_several_things_at_once(federation) -> None:
    fed = federation(classes=[3], clients=[1])
    _, story = QuickDrop().forget(fed)
    assert set(story["ascent"]) == {"class", "client"}
    assert 1 not in {h.client for h in fed.synthetic(forget=False)}


def test_forgetting_is_deterministic_and_leaves_the_images_alone(federation) -> None:
    one, other = federation(classes=[3]), federation(classes=[3])
    before = {client: row.clone() for client, row in one.images.items()}
    assert torch.equal(QuickDrop().forget(one)[0], QuickDrop().forget(other)[0])
    assert all(torch.equal(one.images[client], row) for client, row in before.items())


def test_retraining_forgets_and_leaves_out_who_has_nothing_left(federation) -> None:
    fed = federation(clients=[2])
    row, story = Retrain().forget(fed)
    assert story["clients"] == 4
    assert fed.ledger.total.sample_gradients > 0
    assert fed.ledger.total.rounds == 8
    own = Judge(fed).distance(row, row)
    assert own["forget_gap"] == 0
    assert own["test_agreement"] == 1
    assert (
        Judge(federation(classes=[3])).figures(Retrain().forget(federation(classes=[3]))[0])[
            "forget"
        ]
        == 0.0
    )


def test_single_examples_go_by_ascent_on_the_originals(federation) -> None:
    sample = int(federation().job.parts[0][0])
    fed = federation(samples=[sample])
    GradientAscent().check(fed)
    _, story = GradientAscent(recovery=Recovery(rounds=1, steps=1)).forget(fed)
    assert story["holders"] == [0]
    with pytest.raises(ConfigError, match="cannot forget a single sample"):
        QuickDrop().check(fed)


def test_elastic_weights_keep_the_model_near(federation) -> None:
    many = Ascent(local_steps=5, max_rounds=1)
    stay = Recovery(rounds=0)
    moved = []
    for ewc in (0.0, 50.0):
        fed = federation(classes=[3])
        row, _ = GradientAscent(ascent=many, recovery=stay, ewc=ewc).forget(fed)
        moved.append(float((row - fed.row).norm()))
    assert moved[1] < moved[0]


def test_federaser_repeats_training_where_nobody_leaves(federation) -> None:
    fed = federation()
    fed.updates = fed.updates[:4]
    row, _ = FedEraser(share=1).forget(fed)
    exact, _ = FedEraser(calibrate=False).forget(fed)
    torch.testing.assert_close(row, exact, rtol=1e-5, atol=1e-5)
    whole = federation()
    torch.testing.assert_close(FedEraser(share=1).forget(whole)[0], whole.row, rtol=0, atol=5e-5)


def test_a_calibrated_update_has_the_old_length_and_the_new_direction(federation) -> None:
    layout: ParameterLayout = federation().network.layout
    stored, new = torch.randn(layout.trainable), torch.randn(layout.trainable)
    found = calibrated(stored, new, layout)
    for entry in layout.entries:
        part = slice(entry.offset, entry.offset + entry.size)
        assert float(found[part].norm()) == pytest.approx(float(stored[part].norm()), rel=1e-5)
        cosine = F.cosine_similarity(found[part], new[part], dim=0)
        assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_a_class_exclusive_channel_ranks_first_and_stays_closed(federation) -> None:
    table = torch.tensor([[5.0, 1.0, 1.0], [5.0, 0.0, 1.0], [5.0, 0.0, 1.0]])
    table[0, 1] = 6.0
    assert int(tf_idf(table)[0].argmax()) == 1
    fed = federation(classes=[3])
    row, story = Pruning(ratio=0.25, recovery=Recovery(rounds=1, steps=2, rechecks=0)).forget(fed)
    views = fed.network.layout.views(row)
    for name, channels in story["pruned"].items():
        assert len(channels) == 2
        assert not views[f"{name}.weight"][channels].any()
        assert not views[f"{name.replace('conv', 'norm')}.weight"][channels].any()
    assert (row != fed.row).any()


def test_projected_ascent_stays_in_its_ball(federation) -> None:
    fed = federation(clients=[1])
    _, story = ProjectedAscent(lr=1.0, until=100, radius=0.05).forget(fed)
    assert story["moved"][0] <= story["radius"] * (1 + 1e-5)
    row, centre = torch.tensor([3.0, 4.0]), torch.zeros(2)
    project_(row, centre, 1.0)
    torch.testing.assert_close(row, torch.tensor([0.6, 0.8]))
    models = torch.randn(4, 7)
    others = reference_model(models.mean(0), models[0], 1 / 4)
    torch.testing.assert_close(others, models[1:].mean(0), rtol=1e-5, atol=1e-6)


def test_downweighting_follows_its_formula(federation) -> None:
    fed = federation(clients=[1])
    row, story = Downweight(down=-0.1, rounds=1).forget(fed)
    assert story["weights"][0] < 0
    assert row.isfinite().all()
    with pytest.raises(ConfigError, match="nothing is left"):
        Downweight(down=-100).forget(federation(clients=[1]))


def test_who_cannot_serve_a_request_says_what_can(federation) -> None:
    fed = federation(classes=[3])
    for name in ("pgd", "federaser", "downweight"):
        with pytest.raises(ConfigError, match="cannot forget a single class"):
            find("forgetting", name)().check(fed)
    fed.images, fed.layout, fed.updates = {}, None, None
    with pytest.raises(ConfigError, match="--method sga or --method retrain"):
        QuickDrop().check(fed)
    fed.request = Request.of(clients=[1])
    with pytest.raises(ConfigError, match="keep_updates"):
        FedEraser().check(fed)


def test_all_methods_are_known_by_name() -> None:
    names = (
        "downweight fu_mp federaser noise pgd quickdrop quickdrop_originals random_real retrain sga"
    )
    assert {*names.split(), "downweight", "shards"} <= set(catalogue("forgetting"))


def test_our_own_formula_bears_no_papers_name() -> None:
    with pytest.raises(ConfigError, match="now downweight: it is our own formula"):
        find("forgetting", "s2u")
    assert "own formula" in Downweight.summary()
