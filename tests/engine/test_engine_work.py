"""Local work of unequal nodes against a slow loop: one module, one node, plain torch."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.engine import Block, Job, choose_strategy
from hansa.engine.training.bench import rows_at
from hansa.models import MLP, ConvNet, Model, ParameterLayout

STRATEGIES = pytest.mark.parametrize("strategy", ["looped", "stacked"])
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.01}
Batches = Callable[[np.ndarray, np.random.Generator], list[np.ndarray]]


def whole_batches(size: int, steps: int) -> Batches:
    """A loader that shuffles and drops its last smaller batch."""

    def draw(part: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        while len(found) < steps:
            order = random.permutation(part)
            found += [order[s : s + size] for s in range(0, len(order) - size + 1, size)]
        return found[:steps]

    return draw


def all_batches(size: int, steps: int | None = None, epochs: int = 0) -> Batches:
    """A loader that shuffles and keeps its last smaller batch."""

    def draw(part: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        found, passes = [], 0
        while passes < epochs or (steps is not None and len(found) < steps):
            order = random.permutation(part)
            found += [order[s : s + size] for s in range(0, len(order), size)]
            passes += 1
        return found[:steps]

    return draw


def slow(
    job: Job,
    block: Block,
    node: int,
    t: int,
    draw: Batches,
    pull: float = 0.0,
    clip: float | None = None,
) -> tuple[Tensor, float]:
    """(row, mean loss) of a node after a first round of its own, with FedProx's pull to x_0."""
    module = copy.deepcopy(job.module)
    anchor = [p.detach().clone() for p in module.parameters()]
    settings = {k: v for k, v in job.train.optimizer.dump().items() if k != "name"}
    optimizer, losses = torch.optim.SGD(module.parameters(), **settings), []
    for index in draw(job.parts[node], job.streams.numpy("batches", node, t)):
        x, y = job.dataset.gather(job.dataset.train, torch.from_numpy(index))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        losses.append(float(loss.detach()))
        if clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        for parameter, start in zip(module.parameters(), anchor, strict=True):
            assert parameter.grad is not None
            parameter.grad += pull * (parameter.detach() - start)
        optimizer.step()
    row = ParameterLayout.of(module).flatten(module)
    return row, float(np.mean(losses)) if losses else float("nan")


def compare(job: Job, block: Block, t: int, draws: list[Batches], **extra: Any) -> None:
    """Every node's row and loss against the slow loop's."""
    for i, draw in enumerate(draws):
        row, loss = slow(job, block, int(block.ids[i]), t, draw, **extra)
        torch.testing.assert_close(block.rows[i], row, rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(block.report["train_loss"][i], loss, rtol=1e-5)
    block.trainer.close()


@STRATEGIES
def test_nodes_take_different_numbers_of_steps(make_job: Callable[..., Job], strategy: str) -> None:
    job = make_job({"train.strategy": strategy, "train.optimizer": SGD})
    block = job.block(np.arange(8))
    steps = np.array([3, 0, 5, 1, 5, 2, 0, 4])
    block.train(2, steps=steps)
    compare(job, block, 2, [whole_batches(8, int(s)) for s in steps])
    assert block.state["steps"].tolist() == steps.tolist()
    assert block.state["samples"].tolist() == (8 * steps).tolist()


@STRATEGIES
def test_only_those_asked_train_and_each_as_long_as_it_says(
    make_job: Callable[..., Job], strategy: str
) -> None:
    job = make_job({"train.strategy": strategy, "train.optimizer": SGD})
    block = job.block(np.arange(8))
    steps = np.array([3, 9, 5, 1, 9, 2, 0, 4])
    block.train(0, who=np.array([0, 2, 3, 6, 7]), steps=steps)
    steps[[1, 4, 5]] = 0
    compare(job, block, 0, [whole_batches(8, int(s)) for s in steps])


@STRATEGIES
def test_nobody_works(make_job: Callable[..., Job], strategy: str) -> None:
    block = make_job({"train.strategy": strategy}).block(np.arange(8))
    before = block.rows.clone()
    block.train(0, steps=np.zeros(8, dtype=np.int64))
    block.train(0, steps=0)
    block.train(0, who=np.zeros(0, dtype=np.int64))
    assert torch.equal(block.rows, before)
    assert np.isnan(block.report["train_loss"]).all()
    assert block.state["steps"].tolist() == [0] * 8
    block.trainer.close()


@STRATEGIES
def test_smaller_batches_count_their_real_examples_only(
    make_job: Callable[..., Job], strategy: str
) -> None:
    """Parts of 3 to 40 examples in batches of 16: the filling of short batches must not show."""
    job = make_job(
        {
            "train.strategy": strategy,
            "train.optimizer": SGD,
            "train.drop_last": False,
            "train.batch_size": 16,
            "train.local_steps": 4,
        }
    )
    job.parts = [part[:n] for part, n in zip(job.parts, (40, 3, 16, 17, 5, 32, 1, 33), strict=True)]
    block = job.block(np.arange(8))
    block.train(1)
    assert block.state["samples"].tolist() == [56, 12, 64, 34, 20, 64, 4, 49]
    compare(job, block, 1, [all_batches(16, 4)] * 8)


@STRATEGIES
def test_epochs_are_passes_over_a_nodes_own_data(
    make_job: Callable[..., Job], strategy: str
) -> None:
    job = make_job(
        {
            "train.strategy": strategy,
            "train.optimizer": SGD,
            "train.drop_last": False,
            "train.local_epochs": 2,
        }
    )
    job.parts = [part[: 5 + 4 * i] for i, part in enumerate(job.parts)]
    block = job.block(np.arange(8))
    block.train(0)
    sizes = 5 + 4 * np.arange(8)
    assert block.state["samples"].tolist() == (2 * sizes).tolist()
    assert block.state["steps"].tolist() == (2 * -(-sizes // 8)).tolist()
    compare(job, block, 0, [all_batches(8, epochs=2)] * 8)


@STRATEGIES
def test_fresh_draws(make_job: Callable[..., Job], strategy: str) -> None:
    job = make_job(
        {"train.strategy": strategy, "train.optimizer": SGD, "train.draw": "fresh"}
        | {"train.drop_last": False, "train.local_steps": 3}
    )
    job.parts = [part[: 5 + i] for i, part in enumerate(job.parts)]

    def draw(part: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        return [random.choice(part, min(8, len(part)), replace=False) for _ in range(3)]

    block = job.block(np.arange(8))
    block.train(0)
    assert block.state["samples"].tolist() == [15, 18, 21, 24, 24, 24, 24, 24]
    compare(job, block, 0, [draw] * 8)


@STRATEGIES
@pytest.mark.parametrize("clip", [None, 0.3])
def test_a_correction_is_added_to_clipped_gradients(
    make_job: Callable[..., Job], strategy: str, clip: float | None
) -> None:
    """FedProx by the hook, of nodes that stop at different steps."""
    job = make_job(
        {"train.strategy": strategy, "train.optimizer": SGD, "train.clip_norm": clip},
    )
    block = job.block(np.arange(8))
    start = block.rows.clone()
    steps = np.array([3, 1, 5, 0, 5, 2, 4, 4])
    calls = np.zeros(8, dtype=np.int64)

    def pull(positions: np.ndarray, rows: Tensor, grads: Tensor) -> None:
        calls[positions] += 1
        grads.add_(rows - start[torch.from_numpy(positions), : rows.shape[1]], alpha=0.7)

    block.trainer.train(block, 0, steps=steps, correct=pull)
    assert calls.tolist() == steps.tolist()
    draws = [whole_batches(8, int(s)) for s in steps]
    compare(job, block, 0, draws, pull=0.7, clip=clip)


@register("test_engine_plain_norm")
class PlainNorm(Model):
    """Normalizes by the batch alone, and so has no buffers."""

    def build(self, spec: DataSpec) -> nn.Module:
        norm = nn.BatchNorm1d(6, track_running_stats=False)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), norm, nn.Linear(6, 10))


def test_what_mixes_examples_is_not_stacked_with_smaller_batches(
    make_job: Callable[..., Job],
) -> None:
    changes = {"model": PlainNorm(), "train.strategy": "auto", "train.drop_last": False}
    assert choose_strategy(make_job(changes)) == "looped"
    with pytest.raises(ConfigError, match="drop_last"):
        choose_strategy(make_job(changes | {"train.strategy": "stacked"}))
    stacked = make_job(changes | {"train.strategy": "stacked", "train.drop_last": True})
    assert choose_strategy(stacked) == "stacked"


@register("test_engine_unstackable")
class Unstackable(Model):
    """Asks for a number, which no batched form can give."""

    def build(self, spec: DataSpec) -> nn.Module:
        class Asks(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x * (1.0 if float(x.detach().sum()) > 0 else 2.0)

        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Asks())


def test_auto_is_decided_by_the_model_and_not_by_a_clock(make_job: Callable[..., Job]) -> None:
    def chosen(model: Model) -> str:
        return choose_strategy(make_job({"model": model, "train.strategy": "auto"}))

    assert chosen(MLP(hidden=(8,))) == "stacked"
    assert chosen(ConvNet(depth=2, width=4)) == "looped"
    assert chosen(Unstackable()) == "looped"


def test_effective_steps_are_left_when_asked_for(make_job: Callable[..., Job]) -> None:
    block = make_job({"train.optimizer": {"name": "sgd", "momentum": 0.9}}).block(np.arange(8))
    block.train(0)
    assert "effective_steps" not in block.report
    block.trainer.weighs_steps = True
    block.train(1, steps=np.array([3, 1, 0, 0, 0, 0, 0, 0]))
    assert block.report["effective_steps"][:2].tolist() == pytest.approx([5.61, 1])
    assert np.isnan(block.report["effective_steps"][2:]).all()
    block.trainer.close()


@given(place=st.integers(0, 9), size=st.integers(1, 3000))
def test_a_looped_node_is_worked_on_at_the_same_alignment_wherever_it_is(
    place: int, size: int
) -> None:
    rows = torch.arange(10 * size, dtype=torch.float32).reshape(10, size)
    row, write_back = rows_at(rows, np.array([place]))
    assert row.data_ptr() % 64 == 0
    assert torch.equal(row[0], rows[place])
    row.zero_()
    write_back()
    assert not rows[place].any()
    some, back = rows_at(rows, np.array([3, 4, 5]))
    assert some.data_ptr() == rows[3].data_ptr()
    back()
