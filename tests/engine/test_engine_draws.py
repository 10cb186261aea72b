"""Networks that draw: one seed is one result, and measuring changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hansa.engine import Job
from hansa.engine.runtimes.runtime import split_nodes
from hansa.models.draws import drawing, give_generator

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

DRAWING = ["Layer", "Functional", "Always", "Noise", "Depth", "Attention", "Mixed", "Again"]
DRAWING += ["Reentrant", "MonteCarlo"]


@pytest.mark.parametrize("name", [*DRAWING, "Steps", "Normed", "Constant", "Watched", "Clamped"])
@pytest.mark.parametrize("algorithm", ["dpsgd", "fedavg"])
def test_one_seed_is_one_result(
    net: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    name: str,
    algorithm: str,
) -> None:
    """Again, after other draws, and in blocks that exchange over sockets."""
    changes = {"algorithm": algorithm, "rounds": 3, "evaluate": {"every": 1}}
    first, reports = host(net(name, changes))
    torch.manual_seed(99)
    np.random.seed(99)
    second, again = host(net(name, changes))
    assert torch.equal(first.rows, second.rows)
    for one, other in zip(reports, again, strict=True):
        assert one["measured"]["values"].keys() == other["measured"]["values"].keys()
        for key, value in one["measured"]["values"].items():
            np.testing.assert_array_equal(value, other["measured"]["values"][key])
    rows = host_apart(lambda: net(name, changes), 3)[0]
    assert torch.equal(rows, first.rows)


@pytest.mark.parametrize("name", DRAWING)
def test_nodes_draw_for_themselves(net: Callable[..., Job], name: str) -> None:
    """And leave the generators of whoever runs them alone."""
    job = net(name)
    wanted = {"Layer": "dropout", "Again": "any", "Reentrant": "any"}
    assert job.tried.chance == wanted.get(name, "forward")
    block = job.block(np.arange(8))
    block.parts = [block.parts[0]] * 8  # the same examples, though in another order
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"]
    block.train(0)
    block.trainer.evaluate(block.rows, block.trainer.dataset.test, 100)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=False)["state"]["pos"] == before[1]
    assert len({tuple(row.tolist()) for row in block.rows}) == 8
    block.trainer.close()


def test_dropout_layers_draw_without_a_turn_what_they_draw_in_turn(
    net: Callable[..., Job],
) -> None:
    rows = []
    for chance in ("dropout", "forward", "any"):
        job = net("Layer")
        vars(job)["tried"] = replace(job.tried, chance=chance)
        block = job.block(np.arange(8))
        for t in range(2):
            block.train(t)
        block.trainer.close()
        rows.append(block.rows)
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 4, 4), (0, 3)])
@pytest.mark.parametrize("p", [0, 0.25, 0.6, 1])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_dropout_layer_with_a_generator_is_torchs(
    shape: tuple[int, ...], p: float, inplace: bool
) -> None:
    torch.manual_seed(3)
    one = torch.randn(*shape)
    for x in (one, one.to(memory_format=torch.channels_last)) if one.ndim == 4 else (one,):
        layer, own = nn.Dropout(p, inplace), nn.Sequential(nn.Dropout(p, inplace))
        generator = give_generator(own).manual_seed(7)
        with drawing(7):
            wanted = [layer(x.clone()) for _ in range(3)]
        before = torch.get_rng_state()
        found = [own(x.clone()) for _ in range(3)]
        assert all(map(torch.equal, found, wanted))
        assert torch.equal(torch.get_rng_state(), before) or p == 1
        assert torch.equal(own.eval()(x), x)
        assert generator is not None


@pytest.mark.parametrize("name", ["Always", "Noise", "Steps", "MonteCarlo", "Watched", "Clamped"])
def test_measuring_does_not_depend_on_whom_else(net: Callable[..., Job], name: str) -> None:
    """A node's loss is its own, alone or among others, on the test set and on what it holds."""
    job = net(name, {"evaluate": {"local_validation": 0.2}})
    block = job.block(np.arange(8))
    for t in range(2):
        block.train(t, who=np.array([0, 3, 5, 6]))
    test, trainer = block.trainer.dataset.test, block.trainer
    everybody, before = np.arange(8), block.rows.clone()
    whole = trainer.evaluate(block.rows, test, 64, block.integers(everybody))["loss"]
    held = trainer.losses(block.rows, everybody, block.held, 16, block.integers(everybody))
    for ids in split_nodes(8, 3):
        part = trainer.evaluate(block.rows[ids[0] : ids[-1] + 1], test, 64, block.integers(ids))
        np.testing.assert_array_equal(part["loss"], whole[ids])
        rows, own = block.rows[ids[0] : ids[-1] + 1], [block.held[i] for i in ids]
        found = trainer.losses(rows, np.arange(len(ids)), own, 16, block.integers(ids))
        np.testing.assert_array_equal(found, held[ids])
    shared = trainer.losses(block.rows[:1], np.zeros(8, dtype=np.int64), block.held, 16)
    alone = trainer.losses(block.rows[:1], np.zeros(1, dtype=np.int64), block.held[4:5], 16)
    np.testing.assert_allclose(alone[0], shared[4], rtol=1e-6)
    assert torch.equal(block.rows, before)
    trainer.threads = 3  # each on a part of the test set
    again = trainer.evaluate(block.rows[:1], test, 64, block.integers(everybody[:1]))["loss"]
    np.testing.assert_array_equal(again, whole[:1])
    trainer.close()
