"""Mixed precision: bfloat16 within a pass, float32 everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hansa.base.errors import ConfigError
from hansa.base.losses import cross_entropy, squared_error
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.engine import Job
from hansa.engine.training.gradients import Looped, Passes, Stacked, no_grad_outputs
from hansa.experiment import prepare, run
from hansa.experiment.precision_gain import remark_on, step_share
from hansa.experiment.runfile import RunFile
from hansa.models import LSTM, MLP, GNLeNet, Logistic, Model, ParameterLayout, initial_model

from .test_engine_gradients import batch, different_rows
from .test_engine_runtimes import equal

IMAGE = DataSpec("image", (3, 8, 8), 10)
TOKENS = DataSpec("tokens", (12,), 9, "classification", (9,))
CASES: list[tuple[type[Passes], Model, DataSpec]] = [
    (kind, model, spec)
    for model, spec in [
        (Logistic(), DataSpec("table", (5,), 3)),
        (MLP(hidden=(16, 8)), IMAGE),
        (GNLeNet(), IMAGE),
        (MLP(hidden=(8,)), DataSpec("table", (5,), 2, "regression")),
    ]
    for kind in (Looped, Stacked)
] + [(Looped, LSTM(embedding=4, hidden=8, layers=1), TOKENS)]


def some_batch(spec: DataSpec, nodes: int, size: int) -> tuple[Tensor, Tensor]:
    if spec.kind != "tokens":
        return batch(spec, nodes, size)
    random = torch.Generator().manual_seed(1)
    x = torch.randint(0, spec.vocabulary[0], (nodes, size, *spec.shape), generator=random)
    return x, torch.randint(0, spec.outputs, (nodes, size), generator=random)


def passed(
    kind: type[Passes], module: nn.Module, spec: DataSpec, rows: Tensor, precision: Any
) -> tuple[Tensor, Tensor]:
    """(losses, gradients) of three nodes."""
    layout = ParameterLayout.of(module)
    x, y = some_batch(spec, len(rows), 6)
    loss = cross_entropy if spec.task == "classification" else squared_error
    passes = kind(module, layout, loss)
    passes.compute_in(precision)
    grads, losses = torch.zeros(len(rows), layout.trainable), torch.zeros(len(rows))
    alone = [slice(k, k + 1) for k in range(len(rows))]
    for span in alone if kind is Looped else [slice(None)]:
        passes.attach(rows[span], grads[span])
        losses[span] = passes.backward(x[span], y[span], grads[span])
    return losses, grads


@pytest.mark.parametrize(("kind", "model", "spec"), CASES, ids=lambda v: getattr(v, "name", None))
def test_gradients_are_near_those_in_float32(
    kind: type[Passes], model: Model, spec: DataSpec
) -> None:
    """A number of 8 bits is off by up to 1 / 256, and a rectifier may turn the other way."""
    module = initial_model(model, spec, Streams(1))
    rows = different_rows(module, ParameterLayout.of(module), 3)
    before = rows.clone()
    wanted, exact = passed(kind, module, spec, rows, "float32")
    losses, grads = passed(kind, module, spec, rows, "bfloat16")
    assert losses.dtype == grads.dtype == torch.float32
    assert torch.equal(rows, before)
    torch.testing.assert_close(losses, wanted, rtol=0.03, atol=0.03)
    off = (grads - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(off.min()) > 1e-5, "nothing was computed in bfloat16"
    assert float(off.max()) < 0.15
    assert not torch.is_autocast_enabled("cpu")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 12), st.integers(2, 5), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_scores_of_a_linear_model_are_those_of_rounded_numbers(
    examples: int, width: int, classes: int, seed: int
) -> None:
    """The reference: round inputs, weights and bias to bfloat16, add up exactly, round once."""
    random = torch.Generator().manual_seed(seed)
    module = nn.Linear(width, classes)
    layout = ParameterLayout.of(module)
    rows = torch.randn(1, layout.size, generator=random)
    x = torch.randn(1, examples, width, generator=random)
    passes = Looped(module, layout, cross_entropy)
    passes.attach(rows, None)
    passes.compute_in("bfloat16")
    outputs = no_grad_outputs(passes, x)[0]
    rounded = rows[0].bfloat16().double()
    weight, bias = rounded[:-classes].view(classes, width), rounded[-classes:]
    exact = x[0].bfloat16().double() @ weight.T + bias
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs.double(), exact, rtol=2**-7, atol=2**-6)
    assert torch.equal(outputs, outputs.bfloat16().float())


def narrow(model: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": model, "train.precision": "bfloat16", **more}


MODELS = [{"name": "gn_lenet"}, {"name": "mlp", "hidden": [12]}]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m["name"])
def test_nodes_compute_the_same_in_any_company(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any],
    model: dict[str, Any],
) -> None:  # fmt: skip
    """One block or several, one thread or three: every number of every model."""
    changes = narrow(model, rounds=2)
    whole = host(make_job(changes))[0].rows
    job = make_job(changes)
    job.threads = 3
    assert torch.equal(host(job)[0].rows, whole)
    assert torch.equal(host_apart(lambda: make_job(changes), 3)[0], whole)
    assert not torch.equal(host(make_job({**changes, "train.precision": "float32"}))[0].rows, whole)


@pytest.mark.parametrize(
    "model",
    [MODELS[0], pytest.param(MODELS[1], marks=pytest.mark.slow)],
    ids=["gn_lenet", "mlp"],
)
@pytest.mark.usefixtures("nothing_left")
def test_processes_measure_what_the_simulation_does(
    small: Callable[..., Any], tmp_path: Path, model: dict[str, Any]
) -> None:
    chosen = small(narrow(model, rounds=2))
    alone = run(chosen, tmp_path / "alone", report=False)
    workers = {"runtime": {"name": "processes", "workers": 2}}
    equal(alone, run(chosen | workers, tmp_path / "apart", report=False))


def figures_of(job: Job, rows: Tensor) -> dict[str, np.ndarray]:
    trainer = job.trainer()
    try:
        return trainer.evaluate(rows, job.dataset.test, 500)
    finally:
        trainer.close()


def test_models_are_measured_as_they_are_trained_or_as_said(make_job: Callable[..., Job]) -> None:
    job = make_job()
    rows = 0.3 * torch.randn(3, ParameterLayout.of(job.module).size)
    full = figures_of(job, rows)["loss"]
    follows = figures_of(make_job({"train.precision": "bfloat16"}), rows)["loss"]
    own = figures_of(make_job({"evaluate.precision": "bfloat16"}), rows)["loss"]
    back = {"train.precision": "bfloat16", "evaluate.precision": "float32"}
    assert np.array_equal(follows, own)
    assert not np.array_equal(follows, full)
    assert np.allclose(follows, full, rtol=0.02)
    assert np.array_equal(figures_of(make_job(back), rows)["loss"], full)


OWN = """
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, x):
        scores = x.new_zeros(len(x), 10)
        return scores.index_add(1, torch.arange(10), self.inner(x.flatten(1)))
"""


def test_a_network_that_cannot_is_refused_before_anything_starts(
    small: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(OWN)
    own = {"name": "module", "path": f"{tmp_path / 'nets.py'}:Net"}
    prepare(RunFile.parse(small({"model": own})))
    with pytest.raises(ConfigError, match=r"nets\.py, line 12") as caught:
        prepare(RunFile.parse(small(narrow(own))))
    assert "bfloat16" in caught.value.problem
    assert "train.precision: float32" in caught.value.fix


@pytest.mark.parametrize(
    ("verb", "changes"),
    [
        ("learn", {"algorithm": "quickdrop", "model": {"name": "mlp", "hidden": [8]}}),
        ("recommend", {}),
    ],
)
def test_methods_with_steps_of_their_own_refuse_it(
    small: Callable[..., Any], verb: str, changes: dict[str, Any]
) -> None:
    if verb == "learn":
        chosen: RunFile = RunFile.parse(small({"train.precision": "bfloat16", **changes}))
    else:
        from hansa.recommend.recommend_file import RecommendFile

        data = {"name": "synthetic_ratings", "users": 40, "items": 60, "per_user": 20}
        chosen = RecommendFile.parse(
            {"nodes": 12, "data": data, "train": {"precision": "bfloat16"}, "baselines": []}
        )
    with pytest.raises(ConfigError) as caught:
        prepare(chosen)
    assert "train.precision: float32" in caught.value.fix


def test_what_a_step_takes_is_measured(make_job: Callable[..., Job]) -> None:
    job = make_job({"train.strategy": "auto"})
    before = ParameterLayout.of(job.module).flatten(job.module)
    assert 0.05 < step_share(job) < 50
    assert torch.equal(ParameterLayout.of(job.module).flatten(job.module), before)
    assert remark_on(0.6, "cpu") == ""
    assert "1.30 of a float32 one" in remark_on(1.3, "cpu")
