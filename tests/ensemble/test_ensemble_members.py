"""Many models on the same inputs, one by one in the plainest way as the reference."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hansa.base.spec import DataSpec
from hansa.ensemble import Ensemble, Examples, Rows, Weighted, average, label_weights, logits_of
from hansa.models import MLP, GNLeNet, ParameterLayout

SPEC = DataSpec("image", (3, 16, 16), 4)


def networks(count: int, kind: type = MLP) -> list[nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(count)
        return [kind().build(SPEC) for _ in range(count)]


def pixels(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def plainly(models: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([copy.deepcopy(model).eval()(x) for model in models])


@pytest.mark.parametrize("kind", [MLP, GNLeNet])
@pytest.mark.parametrize("batch_size", [7, 100, 1000])
def test_rows_and_modules_agree_with_one_by_one(kind: type, batch_size: int) -> None:
    models, x = networks(3, kind), pixels(150)
    layout = ParameterLayout.of(models[0])
    rows = torch.stack([layout.flatten(model) for model in models])
    before = rows.clone()
    form = networks(1, kind)[0]
    weights = layout.flatten(form)
    wanted = plainly(models, x)
    for members in (models, Rows(form, layout, rows)):
        found = logits_of(members, x, batch_size)
        assert found.shape == (3, 150, 4)
        assert not found.requires_grad
        assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(rows, before)
    assert torch.equal(layout.flatten(form), weights)


def test_models_may_differ_and_are_left_in_their_mode() -> None:
    one = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    two = networks(1, GNLeNet)[0].eval()
    one[2].eval()
    state = copy.deepcopy(one.state_dict())
    x = pixels(20)
    first = logits_of([one, two], x)
    assert torch.equal(first, logits_of([one, two], x))
    assert torch.allclose(first, plainly([one, two], x), atol=1e-5)
    assert [part.training for part in one.modules()] == [True, True, True, False, True]
    assert not two.training
    for name, value in one.state_dict().items():
        assert torch.equal(value, state[name])


def test_an_ensemble_combines_on_either_scale() -> None:
    models, x = networks(3), pixels(30)
    wanted = plainly(models, x)
    assert torch.allclose(Ensemble(models)(x), wanted.mean(0), atol=1e-6)
    weights = label_weights(np.arange(12).reshape(3, 4))
    found = Ensemble(models, Weighted(weights))(x, "log_probabilities")
    logs = torch.log_softmax(wanted, -1).double()
    assert torch.allclose(found.double(), torch.einsum("imc,ic->mc", logs, weights), atol=1e-5)
    assert len(Ensemble(models, average)) == 3


def test_a_combiner_may_be_a_module() -> None:
    class Flat(nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits.permute(1, 0, 2).flatten(1)[:, :4]

    models, x = networks(2), pixels(5)
    assert torch.equal(Ensemble(models, Flat())(x), plainly(models, x)[0])


def test_examples_are_made_when_they_are_needed() -> None:
    stored = (pixels(50) * 255).byte()
    asked = []

    def at(index: torch.Tensor) -> torch.Tensor:
        asked.append(len(index))
        return stored[index].float() / 255

    models = networks(2)
    found = logits_of(models, Examples(50, at), batch_size=20)
    assert asked == [20, 20, 10]
    assert torch.allclose(found, plainly(models, stored.float() / 255), atol=1e-6)


def test_nothing_to_run() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        logits_of([], pixels(3))
    with pytest.raises(ValueError, match="no example"):
        logits_of(networks(1), pixels(0))
    layout = ParameterLayout.of(networks(1)[0])
    with pytest.raises(ValueError, match=r"rows are \[n, D\]"):
        Ensemble(Rows(networks(1)[0], layout, torch.zeros(layout.size)))
