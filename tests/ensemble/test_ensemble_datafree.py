"""Distillation without data: the terms of its loss, the moved weights and what a student learns."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hansa.ensemble import DataFree, InputForm, data_free
from hansa.ensemble.datafree import Statistics, adversarial_loss, label_loss
from hansa.ensemble.generator import generator, restart
from hansa.ensemble.mixture import Mixture, mixed, moved, perturbed
from hansa.ensemble.networks import TwoScores

DIGITS = InputForm((1, 8, 8), torch.zeros(1), torch.ones(1))
QUICK = DataFree(epochs=3, batch_size=8, steps=3, latent=8, width=4)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def small(outputs: int = 10, inputs: int = 64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


# -- what the generator makes


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (2, 1, 3), (3, 16, 32)])
def test_images_of_any_size_stay_in_their_range(shape: tuple[int, int, int]) -> None:
    low = torch.linspace(-3, -1, shape[0])
    form = InputForm(shape, low, low + 2)
    network = generator(form, latent=6, width=4)
    restart(network, torch.Generator().manual_seed(1))
    x = network(5 * torch.randn(9, 6))
    assert x.shape == (9, *shape)
    for channel in range(shape[0]):
        assert low[channel] <= x[:, channel].min() <= x[:, channel].max() <= low[channel] + 2
    assert form.span.flatten().tolist() == pytest.approx([2.0] * shape[0])


def test_rows_of_a_table_are_standardized() -> None:
    network = generator(InputForm((5,)), latent=6, width=8)
    restart(network, torch.Generator().manual_seed(1))
    x = network(torch.randn(64, 6))
    assert x.mean(0).abs().max() < 1e-5
    # Batch normalization adds 1e-5 to variances that are tiny at first.
    assert x.std(0).max() <= 1.01


def test_other_forms_are_refused() -> None:
    with pytest.raises(ValueError, match="images"):
        InputForm((4, 4))
    with pytest.raises(ValueError, match="limits"):
        InputForm((1, 4, 4))


# -- the terms of the loss


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.5, 8))
def test_the_adversarial_term_is_that_of_disagreement_alone(seed: int, hot: float) -> None:
    chance = torch.Generator().manual_seed(seed)
    student, teacher = 4 * torch.randn(2, 12, 5, generator=chance)
    apart = student.argmax(1) != teacher.argmax(1)
    p = torch.softmax(teacher / hot, 1).double()
    q = torch.softmax(student / hot, 1).double()
    by_hand = -(hot**2) * ((p * (p / q).log()).sum(1) * apart).mean()
    found = adversarial_loss(student, teacher, hot)
    assert found.item() == pytest.approx(by_hand.item(), abs=1e-4, rel=1e-4)
    assert found <= 0
    same = adversarial_loss(3 * teacher, teacher, hot)  # other numbers, the same class
    assert same == 0


def test_easy_examples_count_less() -> None:
    z = torch.tensor([[9.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0])
    p = torch.softmax(z, 1)[:, 0]
    assert label_loss(z, labels).item() == pytest.approx(float(-p.log().mean()), rel=1e-5)
    hard = -((1 - p) * p.log()).mean()
    assert label_loss(z, labels, 1.0).item() == pytest.approx(float(hard), rel=1e-4)
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(label_loss(leaf, labels, 1.0), leaf)
    plain = z.clone().requires_grad_()
    (other,) = torch.autograd.grad(label_loss(plain, labels), plain)
    # The weight itself has no gradient: each row's is scaled, and easy rows' more.
    assert torch.allclose(slope, other * (1 - p).unsqueeze(1), atol=1e-6)


def test_statistics_are_0_at_what_was_seen_and_without_such_layers() -> None:
    layer = nn.BatchNorm2d(3).eval()
    x = torch.randn(16, 3, 4, 4) * 2 + 1
    layer.running_mean, layer.running_var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    statistics = Statistics([layer, nn.BatchNorm1d(3, track_running_stats=False)])
    layer(x)
    assert float(statistics.take()) == pytest.approx(0, abs=1e-5)
    layer(x + torch.tensor([0.0, 3.0, 0.0]).view(1, 3, 1, 1))
    assert float(statistics.take()) == pytest.approx(3 / 2, rel=1e-4)  # of two members
    assert statistics.take() == 0.0
    statistics.close()
    layer(x + 1)
    assert statistics.take() == 0.0
    bare = Statistics([nn.GroupNorm(1, 3)])
    assert bare.take() == 0.0


# -- what Co-Boosting adds


@settings(max_examples=60)
@given(
    st.integers(0, 10_000), st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 2)
)  # fmt: skip
def test_weights_stay_within_0_and_1_and_never_all_vanish(
    seed: int, start: list[float], step: float
) -> None:
    chance = torch.Generator().manual_seed(seed)
    weights = torch.tensor(start)
    if weights.sum() == 0:
        weights += 0.5
    scores = torch.randn(len(start), 7, 4, generator=chance)
    labels = torch.randint(4, (7,), generator=chance)
    for _ in range(5):
        weights = moved(weights, scores, labels, step)
        assert weights.min() >= 0
        assert weights.max() <= 1
        assert weights.sum() > 0
        assert torch.isfinite(mixed(scores, weights)).all()


def test_weights_move_to_who_is_right() -> None:
    labels = torch.randint(4, (200,))
    right = 3 * nn.functional.one_hot(labels, 4).float()
    scores = torch.stack([torch.randn(200, 4), right, -right])
    loss = lambda w: nn.functional.cross_entropy(mixed(scores, w), labels)  # noqa: E731
    weights = torch.full((3,), 1 / 3)
    new = moved(weights, scores, labels, 0.01)
    assert new[1] == pytest.approx(1 / 3 + 0.01)
    assert new[2] == pytest.approx(1 / 3 - 0.01)
    assert loss(new) < loss(weights)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.5))
def test_inputs_move_by_the_reach_and_no_further(seed: int, share: float) -> None:
    form = InputForm((2, 4, 4), torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 10.0]))
    reach = share * form.span
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    teacher = Mixture([small(3, 32), small(3, 32)])
    gone = (perturbed(x, teacher, reach, np.random.default_rng(seed)) - x).abs()
    assert (gone <= reach + 1e-5).all()
    if share > 0.01:
        assert gone.max() > 0


# -- the whole


@pytest.mark.parametrize("boost", [False, True], ids=["dense", "coboosting"])
def test_the_same_seed_gives_the_same_student(boost: bool) -> None:
    members = [nn.Sequential(small(), nn.BatchNorm1d(10)) for _ in range(3)]
    before = [t.clone() for m in members for t in m.state_dict().values()]
    first = nn.Sequential(small(), nn.Dropout(0.2))

    def taught(seed: int) -> tuple[list[Tensor], Tensor]:
        student = nn.Sequential(small(), nn.Dropout(0.2))
        student.load_state_dict(first.state_dict())
        rng = np.random.default_rng(seed)
        torch.manual_seed(int(np.random.default_rng().integers(2**31)))  # must not matter
        found = data_free(student, members, DIGITS, 10, QUICK, rng, boost=boost)
        assert found.pool.shape == (24, 1, 8, 8)
        assert len(found.history) == 3
        assert student.training
        return [*student.state_dict().values(), found.pool, found.weights], found.weights

    one, weights = taught(1)
    assert all(torch.equal(a, b) for a, b in zip(one, taught(1)[0], strict=True))
    assert not torch.equal(one[-2], taught(2)[0][-2])
    assert torch.allclose(weights, torch.full((3,), 1 / 3)) != boost
    after = [t for m in members for t in m.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.requires_grad for m in members for p in m.parameters())


def test_one_score_is_two_with_the_same_probabilities() -> None:
    z = torch.randn(9, 1)
    both = torch.softmax(TwoScores(nn.Identity())(z), 1)[:, 1:]
    assert torch.allclose(both, torch.sigmoid(z))


def test_a_table_with_one_score_is_learned() -> None:
    line = nn.Linear(4, 1)
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[3.0, -2.0, 0.0, 0.0]]))
        line.bias.zero_()
    student = nn.Linear(4, 1)
    how = DataFree(epochs=15, batch_size=64, steps=5, width=16, latent=8, lr=0.1, passes=3)
    data_free(student, [line, line], InputForm((4,)), 1, how, np.random.default_rng(1))
    x = torch.randn(500, 4)
    assert ((student(x) > 0) == (line(x) > 0)).double().mean() > 0.9


def teach(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("boost", [False, True], ids=["dense", "coboosting"])
def test_a_student_of_digits_is_far_from_chance(boost: bool) -> None:
    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy(x).float().view(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(y)
    # Two members, each of which has seen half of the digits.
    members = []
    for some in (labels < 5, labels >= 5):
        members.append(teach(small(), images[some], labels[some]))
    student = small()
    how = DataFree(
        epochs=10, batch_size=64, width=8, generator_lr=0.01, lr=0.1, passes=10, steps=15
    )
    found = data_free(student, members, DIGITS, 10, how, np.random.default_rng(1), boost=boost)
    accuracy = (student(images).argmax(1) == labels).double().mean()
    assert accuracy > 0.5
    assert found.history[-1] < found.history[0]
