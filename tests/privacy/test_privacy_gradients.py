"""Clipped sums of gradients against a plain loop over examples; noise, batches and limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hansa.base.losses import cross_entropy
from hansa.engine.settings import TrainSettings
from hansa.engine.training.batches import PoissonBatching
from hansa.engine.training.gradients import Looped, Passes, Stacked
from hansa.engine.training.per_example import PerExample
from hansa.engine.training.private_steps import PrivateSteps
from hansa.models import ParameterLayout
from hansa.privacy.example import ExamplePrivacy


class Recurrent(nn.Module):
    """An LSTM over the columns: what torch has no batched form of."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(1, 4, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.inner(x.unsqueeze(2))[0][:, -1])


class Branching(nn.Module):
    """Decides by its numbers, which no batched form can."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x) if float(x.detach().sum()) > 0 else self.two(x)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 3))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


def by_hand(module: nn.Module, x: torch.Tensor, y: torch.Tensor, clip: float) -> torch.Tensor:
    """The sum of clipped gradients, one example after the other."""
    total = torch.zeros(sum(p.numel() for p in module.parameters()))
    for a, b in zip(x, y, strict=True):
        module.zero_grad()
        nn.functional.cross_entropy(module(a[None]), b[None]).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
        flat = torch.cat([grad.flatten() for grad in grads])
        total += flat * min(1.0, clip / float(flat.norm()))
    return total


def sums(
    kind: type[Passes], module: nn.Module, rows: torch.Tensor, x: torch.Tensor, y: torch.Tensor,
    lengths: torch.Tensor | None, clip: float,
) -> torch.Tensor:  # fmt: skip
    layout = ParameterLayout.of(module)
    passes = kind(module, layout, cross_entropy)
    grads = torch.full((len(rows), layout.trainable), 7.0)
    passes.attach(rows, grads)
    PerExample(passes).clipped_sums(rows, x, y, lengths, clip, grads)
    return grads


@pytest.mark.parametrize("make", [perceptron, images, Recurrent, Branching])
@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
def test_sums_are_those_of_a_plain_loop(make: type[nn.Module], clip: float) -> None:
    torch.manual_seed(3)
    module = make()
    x, y = torch.randn(1, 9, 6), torch.randint(0, 3, (1, 9))
    row = ParameterLayout.of(module).flatten(module).unsqueeze(0)
    want = by_hand(module, x[0, :7], y[0, :7], clip)
    found = sums(Looped, module, row, x, y, torch.tensor([7]), clip)
    torch.testing.assert_close(found[0], want, rtol=1e-4, atol=1e-6)


def test_stacked_nodes_each_have_their_own() -> None:
    torch.manual_seed(4)
    module = perceptron()
    layout = ParameterLayout.of(module)
    rows = layout.flatten(module).repeat(3, 1) + 0.1 * torch.randn(3, layout.size)
    x, y = torch.randn(3, 5, 6), torch.randint(0, 3, (3, 5))
    lengths = torch.tensor([5, 0, 2])
    found = sums(Stacked, module, rows.clone(), x, y, lengths, 0.5)
    for k, length in enumerate(lengths.tolist()):
        layout.load_(module, rows[k])
        want = by_hand(module, x[k, :length], y[k, :length], 0.5)
        torch.testing.assert_close(found[k], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("hidden", [8, 64, 700])  # of the last a few examples are a piece
def test_a_nodes_sum_has_the_same_bits_in_any_company(hidden: int) -> None:
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(300, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    layout = ParameterLayout.of(module)
    lengths = torch.tensor([60, 3, 33, 8, 1])
    rows = layout.flatten(module).repeat(5, 1) + 0.05 * torch.randn(5, layout.size)
    x, y = torch.randn(5, 60, 300), torch.randint(0, 3, (5, 60))

    def of(who: slice) -> torch.Tensor:
        width, some = int(lengths[who].max()), rows[who].clone()
        return sums(Stacked, module, some, x[who, :width], y[who, :width], lengths[who], 1.0)

    together = of(slice(0, 5))
    for k in range(5):
        assert torch.equal(of(slice(k, k + 1))[0], together[k])
    assert torch.equal(of(slice(2, 5)), together[2:])


@pytest.mark.parametrize("make", [perceptron, Recurrent])
def test_a_gradient_that_is_not_finite_moves_nothing(make: type[nn.Module]) -> None:
    torch.manual_seed(6)
    module = make()
    row = ParameterLayout.of(module).flatten(module).unsqueeze(0)
    x, y = torch.randn(1, 4, 6), torch.randint(0, 3, (1, 4))
    want = sums(Looped, module, row, x[:, :3], y[:, :3], None, 1.0)
    x[0, 3] = float("nan")
    found = sums(Looped, module, row, x, y, None, 1.0)
    assert torch.isfinite(found).all()
    assert float((found - want).norm()) <= 1.0 + 1e-4


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.01, 2.0))
def test_one_example_moves_a_sum_by_no_more_than_the_clip(seed: int, clip: float) -> None:
    torch.manual_seed(seed)
    module = perceptron()
    row = ParameterLayout.of(module).flatten(module).unsqueeze(0)
    x, y = 30 * torch.randn(1, 4, 6), torch.randint(0, 3, (1, 4))
    whole = sums(Looped, module, row, x, y, None, clip)
    less = sums(Looped, module, row, x, y, torch.tensor([3]), clip)
    assert float((whole - less).norm()) <= clip * (1 + 1e-4)


def test_dropout_draws_once_an_example() -> None:
    module = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 3))
    layout = ParameterLayout.of(module)
    passes = Looped(module, layout, cross_entropy)
    passes.expect("dropout")
    passes.draw_from(11)
    row, grads = layout.flatten(module).unsqueeze(0), torch.zeros(1, layout.trainable)
    passes.attach(row, grads)
    x, y = torch.ones(1, 2, 6), torch.zeros(1, 2, dtype=torch.int64)
    seen = PerExample(passes)
    seen.clipped_sums(row, x, y, torch.tensor([1]), 10.0, grads)
    first = grads.clone()
    seen.clipped_sums(row, x, y, torch.tensor([1]), 10.0, grads)
    assert not torch.equal(first, grads)  # another draw
    passes.draw_from(11)
    seen.clipped_sums(row, x, y, torch.tensor([1]), 10.0, grads)
    assert torch.equal(first, grads)  # the same stream


def test_noise_has_the_deviation_that_is_accounted() -> None:
    module = nn.Linear(200, 50)
    layout = ParameterLayout.of(module)
    privacy = ExamplePrivacy(clip=0.5, noise=2.0, delta=1e-5)
    private = PrivateSteps(privacy, TrainSettings(batch_size=8), 10)
    passes = Looped(module, layout, cross_entropy)
    row, grads = layout.flatten(module).unsqueeze(0), torch.zeros(1, layout.trainable)
    passes.attach(row, grads)
    nothing = torch.zeros(1, 0, 200), torch.zeros(1, 0, dtype=torch.int64)
    random = np.random.default_rng(5)
    losses = private.gradients(passes, row, *nothing, None, grads, np.array([100]), [random])
    assert float(losses) == 0  # nobody was drawn, and there is noise all the same
    assert float(grads.std()) == pytest.approx(2.0 * 0.5 / 8, rel=0.03)
    assert abs(float(grads.mean())) < 0.01


def test_poisson_batches_have_each_example_with_its_chance() -> None:
    part, steps = np.arange(100, 140), 3000
    batches, lengths = PoissonBatching(10, False).drawn(part, steps, np.random.default_rng(6))
    assert lengths is not None
    seen = np.array([np.isin(part, b[:n]) for b, n in zip(batches, lengths, strict=True)])
    assert lengths.mean() == pytest.approx(10, rel=0.03)
    assert lengths.var() == pytest.approx(40 * 0.25 * 0.75, rel=0.1)  # binomial
    np.testing.assert_allclose(seen.mean(0), 0.25, atol=0.04)
    together = np.corrcoef(seen[:, 0], seen[:, 1])[0, 1]
    assert abs(together) < 0.06  # each by itself
    for batch, length in zip(batches[:50], lengths[:50], strict=True):
        assert len(set(batch[:length].tolist())) == length


def test_a_node_never_passes_its_limit() -> None:
    privacy = ExamplePrivacy(clip=1.0, noise=1.0, delta=1e-5, budget=3.0)
    private = PrivateSteps(privacy, TrainSettings(batch_size=8), 10)
    sizes, done = np.array([40, 400]), np.array([0, 0])
    left = private.affordable(sizes, done)
    assert left[0] < left[1]  # who has more examples can go on for longer
    assert (private.epsilons(sizes, left) <= 3.0).all()
    assert (private.epsilons(sizes, left + 1) > 3.0).all()
    assert (private.affordable(sizes, left + 5) == 0).all()
