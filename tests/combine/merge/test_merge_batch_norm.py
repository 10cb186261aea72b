"""Batch normalization: refused by name, or its statistics are those of the given inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hansa.base.errors import ConfigError
from hansa.combine.merge.batch_norm import (
    is_statistic,
    layers_with_statistics,
    reestimate,
    refuse_statistics,
)

from ...weights.tiny_models import made


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(3 * 36, 4), nn.BatchNorm1d(4), nn.Linear(4, 2),
    )  # fmt: skip


def test_layers_are_found_by_their_names() -> None:
    names = list(network().state_dict())
    assert layers_with_statistics(names) == ("1", "6")
    assert [n for n in names if is_statistic(n)] == [
        *("1.running_mean", "1.running_var", "1.num_batches_tracked"),
        *("6.running_mean", "6.running_var", "6.num_batches_tracked"),
    ]
    assert layers_with_statistics(made("bert").state_dict()) == ()
    refuse_statistics(made("bert").state_dict())
    with pytest.raises(ConfigError, match=r"embedder\.embedder\.normalization, .* and 5 more"):
        refuse_statistics(made("resnet").state_dict())


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 9))
def test_statistics_are_means_over_the_batches(count: int, size: int, seed: int) -> None:
    module = network(seed)
    batches = [torch.randn(size, 1, 8, 8) * (1 + i) + i for i in range(count)]
    assert reestimate(module, batches) == 2
    before = [module[0](batch).detach() for batch in batches]
    expected = torch.stack([value.mean((0, 2, 3)) for value in before]).mean(0)
    torch.testing.assert_close(module[1].running_mean, expected)
    spread = torch.stack([value.var((0, 2, 3)) for value in before]).mean(0)
    torch.testing.assert_close(module[1].running_var, spread)
    assert int(module[1].num_batches_tracked) == count


def test_a_trained_model_keeps_its_statistics_and_all_else_stays() -> None:
    module = network()
    inputs = [torch.randn(16, 1, 8, 8) for _ in range(3)]
    reestimate(module, inputs)
    first = {name: value.clone() for name, value in module.state_dict().items()}
    module[3].train()
    module[1].momentum = 0.3
    modes = [part.training for part in module.modules()]
    reestimate(module, inputs)
    assert modes == [part.training for part in module.modules()]
    assert module[1].momentum == 0.3
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, first[name])


def test_merged_models_are_better_with_statistics_of_their_own() -> None:
    """The mean of two networks' statistics is not that of their mean: its outputs are off."""
    one, other, merged = network(1), network(2), network(3)
    inputs = [torch.randn(32, 1, 8, 8) * 2 + 1 for _ in range(4)]
    for module in (one, other):
        reestimate(module, inputs)
    states = (one.state_dict(), other.state_dict())
    merged.load_state_dict(
        {n: (v + states[1][n]) / 2 if v.is_floating_point() else v for n, v in states[0].items()}
    )

    def off(module: nn.Sequential) -> float:
        hidden = module.eval()[:2](torch.cat(inputs)).detach()
        return float((hidden.std((0, 2, 3)) - 1).abs().max())

    averaged = off(merged)
    reestimate(merged, inputs)
    assert off(merged) < 0.05 < averaged


def broken(value: float) -> torch.Tensor:
    return torch.full((4, 1, 8, 8), value)


@pytest.mark.parametrize(
    ("batches", "named"),
    [
        (list, "no batch"),
        (lambda: [torch.randn(2, 1, 8, 8), torch.randn(1, 1, 8, 8)], "a single example"),
        (lambda: [broken(float("nan"))], "not finite"),
    ],
)
def test_inputs_that_tell_nothing_are_refused(
    batches: Callable[[], list[torch.Tensor]], named: str
) -> None:
    module = network()
    reestimate(module, [torch.randn(8, 1, 8, 8)])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ConfigError, match=named):
        reestimate(module, batches())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_model_of_transformers_is_counted_by_a_function_of_ones_own() -> None:
    module = made("resnet")
    images = [torch.randn(4, 1, 16, 16) for _ in range(2)]
    layers = len(layers_with_statistics(module.state_dict()))
    assert reestimate(module, images, lambda model, x: model(pixel_values=x)) == layers
    assert reestimate(made("bert"), []) == 0
