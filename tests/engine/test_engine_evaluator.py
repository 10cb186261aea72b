"""Figures on a whole split, however much of it is decoded at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hansa.engine import Job
from hansa.engine.training import evaluator
from hansa.models import ParameterLayout
from hansa.models.draws import drawing


class Noisy(nn.Module):
    """Draws when it is evaluated, too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.linear(x + torch.rand_like(x))


def measured(job: Job, rows: torch.Tensor, batch_size: int) -> dict[str, np.ndarray]:
    trainer = job.trainer()
    try:
        return trainer.evaluate(rows, job.dataset.test, batch_size)
    finally:
        trainer.close()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("strategy", ["looped", "stacked"])
@pytest.mark.parametrize("room", [1, 20_000, 1 << 30])
def test_figures_do_not_depend_on_how_much_is_decoded_at_a_time(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch,
    room: int, strategy: Any, threads: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(evaluator, "_SHARED_BYTES", room)
    job = make_job()
    job.strategy, job.threads = strategy, threads
    rows = torch.randn(5, ParameterLayout.of(job.module).size)
    alone = measured(job, rows, 37)
    apart = measured(replace(job, workers=4), rows, 37)
    assert alone.keys() == apart.keys()
    for name, values in alone.items():
        assert np.array_equal(values, apart[name]), name


def test_a_model_that_draws_draws_the_same(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "_SHARED_BYTES", 1)
    job = make_job()
    with drawing(3):
        job.module = Noisy()
    job.__dict__.pop("tried", None)
    rows = torch.randn(2, ParameterLayout.of(job.module).size)
    alone, apart = measured(job, rows, 50), measured(replace(job, workers=2), rows, 50)
    assert all(np.array_equal(alone[name], apart[name]) for name in alone)


def test_what_is_decoded_at_a_time_is_a_few_batches(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "_SHARED_BYTES", 3 * 20 * 64 * 4)
    job = replace(make_job(), workers=2)
    sizes: list[int] = []
    plain = type(job.dataset).gather

    def gather(self: Any, split: Any, index: torch.Tensor) -> Any:
        sizes.append(len(index))
        return plain(self, split, index)

    rows = torch.randn(3, ParameterLayout.of(job.module).size)
    trainer = job.trainer()
    monkeypatch.setattr(type(job.dataset), "gather", gather)
    trainer.evaluate(rows, job.dataset.test, 20)
    trainer.close()
    assert max(sizes) == 60
    assert sum(sizes) == len(job.dataset.test)


class Coupled(nn.Module):
    """Looks at all examples of a batch, also when it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 2, 3), nn.Linear(72, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear((self.conv(x) - x.mean(0)[:, 1:-1, 1:-1]).flatten(1))


@pytest.mark.parametrize("model", ["gn_lenet", "femnist_cnn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_batch_in_pieces_gives_the_figures_of_the_whole(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, model: Any, precision: str
) -> None:
    """Small products may add up in another order where a linear layer is large: the last bits."""
    job = make_job({"model": model, "evaluate.precision": precision})
    rows = 0.2 * torch.randn(2, ParameterLayout.of(job.module).size)
    assert job.tried.widest == 32 * 8 * 8
    assert make_job().tried.widest == 0, "an mlp is not cut"
    figures = []
    for room in (1, 9 * 4 * job.tried.widest, 1 << 30):
        monkeypatch.setattr(evaluator, "_LAYER_BYTES", room)
        figures.append(measured(job, rows, 150))
    for name, values in figures[0].items():
        for other in figures[1:]:
            assert np.allclose(values, other[name], rtol=1e-6 if precision == "float32" else 0.01)
            assert model != "gn_lenet" or np.array_equal(values, other[name]), name


def test_a_batch_of_coupled_examples_is_not_cut(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    job.module = Coupled()
    rows = torch.randn(2, ParameterLayout.of(job.module).size)
    wanted = measured(job, rows, 150)
    assert job.tried.widest == 0
    monkeypatch.setattr(evaluator, "_LAYER_BYTES", 1)
    assert np.array_equal(measured(job, rows, 150)["loss"], wanted["loss"])
