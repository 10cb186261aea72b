"""Looped and stacked passes against plain autograd, one module a node."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hansa.base.component import register
from hansa.base.losses import cross_entropy, squared_error
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.engine import Job
from hansa.engine.training.gradients import (
    Looped,
    Passes,
    Stacked,
    has_convolution,
    is_stochastic,
    no_grad_outputs,
    supports_stacking,
)
from hansa.models import (
    LSTM,
    MLP,
    GNLeNet,
    Logistic,
    MatrixFactorization,
    Model,
    ParameterLayout,
    initial_model,
)

IMAGE = DataSpec("image", (1, 8, 8), 10)
PAIRS = DataSpec("pairs", (2,), 1, "regression", (9, 7))
TABLE = DataSpec("table", (5,), 3)
REGRESSION = DataSpec("table", (5,), 2, "regression")
MODELS: list[tuple[Model, DataSpec]] = [
    (Logistic(), TABLE),
    (MLP(hidden=(8, 6)), IMAGE),
    (GNLeNet(), IMAGE),
    (GNLeNet(), DataSpec("image", (3, 8, 8), 10)),
    (MatrixFactorization(factors=3), PAIRS),
    (MLP(hidden=(4,)), REGRESSION),
]


def batch(spec: DataSpec, nodes: int, size: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    if spec.kind == "pairs":
        low = [torch.randint(0, v, (nodes, size), generator=random) for v in spec.vocabulary]
        x = torch.stack(low, -1)
    else:
        x = torch.randn(nodes, size, *spec.shape, generator=random)
    if spec.kind == "image":  # channels last in memory, as data sets give them
        x = x.movedim(2, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 2)
    if spec.task == "classification":
        return x, torch.randint(0, spec.outputs, (nodes, size), generator=random)
    shape = (nodes, size) if spec.outputs == 1 else (nodes, size, spec.outputs)
    return x, torch.randn(*shape, generator=random)


def different_rows(module: nn.Module, layout: ParameterLayout, nodes: int) -> Tensor:
    rows = layout.flatten(module).repeat(nodes, 1)
    return rows + 0.05 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(2))


def plain(
    module: nn.Module, spec: DataSpec, rows: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """(losses, gradients) by autograd on one module a node."""
    layout = ParameterLayout.of(module)
    losses, grads = [], []
    for row, inputs, targets in zip(rows, x, y, strict=True):
        one = copy.deepcopy(module)
        layout.load_(one, row)
        outputs = one(inputs)
        if spec.task == "classification":
            loss = nn.functional.cross_entropy(outputs, targets)
        else:
            loss = nn.functional.mse_loss(outputs, targets.reshape(outputs.shape))
        loss.backward()
        losses.append(loss.detach())
        grads.append(torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None]))
    return torch.stack(losses), torch.stack(grads)


@pytest.mark.parametrize("kind", [Looped, Stacked])
@pytest.mark.parametrize(("model", "spec"), MODELS, ids=lambda v: getattr(v, "name", None))
def test_gradients_are_those_of_autograd(kind: type[Passes], model: Model, spec: DataSpec) -> None:
    nodes = 3
    module = initial_model(model, spec, Streams(1))
    layout = ParameterLayout.of(module)
    rows = different_rows(module, layout, nodes)
    before = rows.clone()
    x, y = batch(spec, nodes, 6)
    expected = plain(module, spec, rows, x, y)
    loss = cross_entropy if spec.task == "classification" else squared_error
    passes = kind(module, layout, loss)
    grads = torch.full((nodes, layout.trainable), torch.nan)
    losses = torch.zeros(nodes)
    for span in [slice(k, k + 1) for k in range(nodes)] if kind is Looped else [slice(None)]:
        passes.attach(rows[span], grads[span])
        for _ in range(2):  # the second pass must not add to the first
            losses[span] = passes.backward(x[span], y[span], grads[span])
    torch.testing.assert_close(losses, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grads, expected[1], rtol=1e-4, atol=1e-6)
    assert torch.equal(rows, before)


@pytest.mark.parametrize(("model", "spec"), MODELS, ids=lambda v: getattr(v, "name", None))
def test_outputs_for_shared_inputs(model: Model, spec: DataSpec) -> None:
    module = initial_model(model, spec, Streams(1))
    layout = ParameterLayout.of(module)
    rows = different_rows(module, layout, 3)
    x, _ = batch(spec, 1, 6)
    stacked = Stacked(module, layout, cross_entropy)
    stacked.attach(rows, None)
    together = no_grad_outputs(stacked, x)
    looped = Looped(module, layout, cross_entropy)
    for k in range(3):
        looped.attach(rows[k : k + 1], None)
        torch.testing.assert_close(no_grad_outputs(looped, x)[0], together[k], rtol=1e-5, atol=1e-5)
    assert looped.module.training


def test_what_can_be_stacked() -> None:
    def built(model: Model, spec: DataSpec = IMAGE) -> nn.Module:
        return initial_model(model, spec, Streams(1))

    assert all(supports_stacking(built(model, spec)) for model, spec in MODELS)
    assert has_convolution(built(GNLeNet()))
    assert not has_convolution(built(MLP()))
    tokens = DataSpec("tokens", (6,), 5, vocabulary=(5,))
    assert not supports_stacking(built(LSTM(), tokens))
    for module in (nn.BatchNorm1d(3), nn.Dropout(0.5)):
        assert not supports_stacking(nn.Sequential(nn.Linear(3, 3), module))
    assert is_stochastic(nn.Sequential(nn.Dropout(0.5)))
    assert not is_stochastic(nn.Sequential(nn.Dropout(0.0)))


def test_a_frozen_parameter_has_no_gradient() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    module[0].weight.requires_grad_(False)
    layout = ParameterLayout.of(module)
    rows = different_rows(module, layout, 2)
    x, y = batch(TABLE, 2, 4)
    found = []
    for kind in (Looped, Stacked):
        passes, grads = kind(module, layout, cross_entropy), torch.zeros(2, layout.trainable)
        for span in (slice(0, 1), slice(1, 2)) if kind is Looped else (slice(None),):
            passes.attach(rows[span], grads[span])
            passes.backward(x[span], y[span], grads[span])
        found.append(grads)
    assert layout.trainable == layout.size == 4 + 15
    assert layout.frozen_numbers == 20
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


# -- models with buffers or randomness -------------------------------------------------------


@register("test_engine_batchnorm")
class Normed(Model):
    """A network with running statistics and a counter."""

    def build(self, spec: DataSpec) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 10)
        )


@register("test_engine_dropout")
class Dropping(Model):
    """A network that draws random numbers when it trains."""

    def build(self, spec: DataSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Dropout(0.5), nn.Linear(6, 10))


def test_batch_norm_keeps_statistics_in_the_row_and_counts_apart(
    make_job: Callable[..., Job],
) -> None:
    job = make_job({"model": Normed(), "nodes": 4, "train.optimizer": {"name": "sgd", "lr": 0.1}})
    block = job.block(np.arange(4))
    layout = block.trainer.layout
    name = "buffer.2.num_batches_tracked"
    assert layout.trainable == layout.size - 12
    assert block.state[name].tolist() == [0] * 4
    block.train(0, who=np.array([0, 2, 3]))
    block.train(1, who=np.array([2]))
    assert block.state[name].tolist() == [2, 0, 4, 2]
    views = layout.views(block.rows)
    assert not torch.equal(views["2.running_mean"][0], views["2.running_mean"][2])
    assert views["2.running_mean"][1].tolist() == [0] * 6
    # By hand, with a module of its own.
    from hansa.engine.training.batches import draw_batches

    module, optimizer = copy.deepcopy(job.module), None
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for t in (0, 1):
        drawn = draw_batches(job.parts[2], 2, 8, job.streams.numpy("batches", 2, t))
        for index in torch.from_numpy(drawn):
            x, y = job.dataset.gather(job.dataset.train, index)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
    torch.testing.assert_close(block.rows[2], layout.flatten(module), rtol=1e-5, atol=1e-6)
    block.trainer.close()


def test_integer_buffers_are_never_averaged(
    make_job: Callable[..., Job], host: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job({"model": Normed(), "topology": "complete", "nodes": 4, "rounds": 3})
    start = Job.block

    def uneven(self: Job, ids: np.ndarray) -> Any:
        block = start(self, ids)
        block.state["buffer.2.num_batches_tracked"] += torch.arange(len(ids)) * 100
        return block

    monkeypatch.setattr(Job, "block", uneven)
    block, reports = host(job)
    assert block.state["buffer.2.num_batches_tracked"].tolist() == [6, 106, 206, 306]
    torch.testing.assert_close(block.rows, block.rows.mean(0).expand_as(block.rows))
    assert (reports[-1]["measured"]["values"]["accuracy"] > 0).all()


def test_evaluation_does_not_move_running_statistics(make_job: Callable[..., Job]) -> None:
    block = make_job({"model": Normed(), "nodes": 4}).block(np.arange(4))
    before = block.rows.clone()
    first = block.trainer.evaluate(block.rows, block.trainer.dataset.test, 100)
    second = block.trainer.evaluate(block.rows, block.trainer.dataset.test, 37)
    assert torch.equal(block.rows, before)
    np.testing.assert_allclose(first["accuracy"], second["accuracy"], atol=1e-12)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-6)
    block.trainer.close()


def test_dropout_is_the_same_again_and_in_any_split(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    changes = {"model": Dropping(), "algorithm": "isolated", "rounds": 2}
    first, _ = host(make_job(changes))
    torch.manual_seed(99)
    second, _ = host(make_job(changes))
    assert torch.equal(first.rows, second.rows)
    alone = make_job(changes).block(np.array([2, 5]))
    for t in range(2):
        alone.train(t)
    assert torch.equal(alone.rows, first.rows[[2, 5]])
    assert not torch.equal(first.rows[0], first.rows[1])


# -- the trainer -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_who_trains_and_threads_do_not_matter(
    make_job: Callable[..., Job], strategy: str, optimizer: str
) -> None:
    """Each node's numbers are its own, whoever else trains with it and on how many threads."""
    changes = {
        "train.strategy": strategy,
        "train.optimizer": {"name": optimizer, "lr": 0.01},
        "train.clip_norm": 0.5,
    }
    whole = make_job(changes).block(np.arange(8))
    job = make_job(changes)
    job.threads = 2
    pieces = job.block(np.arange(8))
    for t in range(2):
        whole.train(t)
        for who in ([0, 3, 4], [1, 2], [5, 7], [6]):
            pieces.train(t, who=np.array(who))
    tolerance = 0 if strategy == "looped" else 1e-6
    torch.testing.assert_close(whole.rows, pieces.rows, rtol=tolerance, atol=tolerance)
    for name, value in whole.state.items():
        torch.testing.assert_close(value, pieces.state[name], rtol=tolerance, atol=tolerance)
    assert whole.state["steps"].tolist() == [4] * 8
    assert whole.state["samples"].tolist() == [32] * 8
    # Those at rest have no loss.
    assert np.isnan(pieces.report["train_loss"]).tolist() == [True] * 6 + [False, True]
    whole.trainer.close()
    pieces.trainer.close()


def test_an_error_names_the_node(make_job: Callable[..., Job]) -> None:
    from hansa.base.errors import RunError

    block = make_job().block(np.arange(8))
    block.parts = [*block.parts]
    block.parts[5] = np.array([10**6] * 8)
    with pytest.raises(RunError, match="IndexError") as caught:
        block.train(0)
    assert caught.value.node == 5
    block.trainer.close()


def test_evaluation_of_no_row_is_empty(make_job: Callable[..., Job]) -> None:
    block = make_job().block(np.arange(8))
    found = block.trainer.evaluate(block.rows[:0], block.trainer.dataset.test, 100)
    assert {name: len(values) for name, values in found.items()} == {"loss": 0, "accuracy": 0}
    block.trainer.close()


def test_evaluation_against_plain_torch(make_job: Callable[..., Job]) -> None:
    job = make_job()
    block = job.block(np.arange(8))
    block.train(0)
    found = block.trainer.evaluate(block.rows, job.dataset.test, 50)
    x, y = job.dataset.gather(job.dataset.test, torch.arange(len(job.dataset.test)))
    for k in range(8):
        module = copy.deepcopy(job.module)
        block.trainer.layout.load_(module, block.rows[k])
        with torch.no_grad():
            outputs = module(x)
        loss = float(nn.functional.cross_entropy(outputs, y))
        assert found["loss"][k] == pytest.approx(loss, rel=1e-5)
        assert found["accuracy"][k] == float((outputs.argmax(1) == y).double().mean())
    block.trainer.close()


def test_a_module_of_ones_own_file_trains(tmp_path: Path, make_job: Callable[..., Job]) -> None:
    file = tmp_path / "engine_own_net.py"
    file.write_text(
        "from torch import nn\n"
        "def net(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width),"
        " nn.Linear(width, 10))\n"
    )
    model = {"name": "module", "path": f"{file}:net", "arguments": {"width": 5}}
    block = make_job({"model": model, "nodes": 4}).block(np.arange(4))
    before = block.rows.clone()
    block.train(0)
    assert not torch.equal(block.rows, before)
    assert block.state["buffer.2.num_batches_tracked"].tolist() == [2] * 4
    block.trainer.close()
