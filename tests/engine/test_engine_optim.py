"""Optimizers on stacked rows against torch.optim, one optimizer a node."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.engine import SGD, Adam, AdamW, Constant, Cosine, GeL, Optimizer, Schedule, Step
from hansa.engine.training.optimizers import clip_norm_

CASES: list[tuple[Optimizer, Callable[..., torch.optim.Optimizer], dict[str, Any]]] = [
    (SGD(), torch.optim.SGD, {}),
    (SGD(weight_decay=0.1), torch.optim.SGD, {"weight_decay": 0.1}),
    (SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (
        SGD(momentum=0.9, nesterov=True, weight_decay=0.01),
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    (Adam(), torch.optim.Adam, {}),
    (
        Adam(beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
        torch.optim.Adam,
        {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
    ),
    (AdamW(), torch.optim.AdamW, {}),
    (AdamW(weight_decay=0.2), torch.optim.AdamW, {"weight_decay": 0.2}),
    (GeL(optimizer=SGD(momentum=0.8)), torch.optim.SGD, {"momentum": 0.8}),
]


@pytest.mark.parametrize(("ours", "theirs", "settings"), CASES, ids=lambda case: repr(case)[:60])
def test_stacked_rows_step_as_torch_optim_does(
    ours: Optimizer, theirs: Callable[..., torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    """Nodes skip some steps, so each is at a count of its own; the rate changes on the way."""
    n, size, lr = 4, 7, 0.01
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(n, size, generator=random)
    slots = {name: torch.zeros(n, size) for name in ours.slots}
    count = torch.zeros(n, dtype=torch.int64)
    nodes = [torch.nn.Parameter(row.clone()) for row in rows]
    each = [theirs([node], lr=lr, **settings) for node in nodes]
    for step in range(60):
        rate = lr * (1 + step % 3)
        grads = torch.randn(n, size, generator=random)
        who = torch.tensor([k for k in range(n) if k == 0 or step % (k + 1)])
        for k in who.tolist():
            nodes[k].grad = grads[k].clone()
            each[k].param_groups[0]["lr"] = rate
            each[k].step()
        count[who] += 1
        part, some = rows[who], {name: slot[who] for name, slot in slots.items()}
        ours.step_(part, grads[who], some, count[who], rate)
        rows[who] = part
        for name, slot in slots.items():
            slot[who] = some[name]
    assert len(set(count.tolist())) > 2
    expected = torch.stack([node.detach() for node in nodes])
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-6)


def test_every_optimizer_is_held_to_torch() -> None:
    assert {type(case[0]) for case in CASES} == set(catalogue("optimizer").values())


@given(limit=st.floats(1e-3, 1e3), scale=st.floats(1e-6, 1e4), seed=st.integers(0, 99))
def test_clipping_equals_torch_node_by_node(limit: float, scale: float, seed: int) -> None:
    grads = scale * torch.randn(3, 9, generator=torch.Generator().manual_seed(seed))
    grads[1] = 0
    expected = []
    for row in grads:
        parameter = torch.nn.Parameter(torch.zeros(9))
        parameter.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([parameter], limit)
        expected.append(parameter.grad)
    clip_norm_(grads, limit)
    torch.testing.assert_close(grads, torch.stack(expected), rtol=2e-6, atol=0)
    assert torch.linalg.vector_norm(grads, dim=1).max() <= limit * (1 + 1e-5)


def test_schedules_by_hand() -> None:
    assert [Constant().factor(t, 5) for t in range(5)] == [1] * 5
    step = Step(milestones=(2, 4), gamma=0.1)
    assert [step.factor(t, 6) for t in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Cosine(warmup=2, floor=0.1)
    warm = [cosine.factor(t, 7) for t in range(7)]
    assert warm[:2] == pytest.approx([1 / 3, 2 / 3])
    assert warm[2] == 1
    assert warm[4] == pytest.approx(0.55)
    assert warm[6] == pytest.approx(0.1)


@pytest.mark.parametrize("warmup", [0, 3])
def test_cosine_agrees_with_torch(warmup: int) -> None:
    rounds = 12
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rounds - 1 - warmup)
    for t in range(warmup, rounds):
        ours = Cosine(warmup=warmup).factor(t, rounds)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


@given(rounds=st.integers(1, 40), data=st.data())
def test_every_schedule_stays_within_zero_and_one(rounds: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, 50))
    for schedule in (Constant(), Step(milestones=(3, 9)), Cosine(warmup=warmup)):
        assert isinstance(schedule, Schedule)
        for t in range(rounds):
            factor = schedule.factor(t, rounds)
            assert math.isfinite(factor)
            assert 0 <= factor <= 1


@given(
    beta=st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    nesterov=st.booleans(),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=6),
)
def test_effective_steps_are_the_displacement_under_a_constant_gradient(
    beta: float, nesterov: bool, steps: list[int]
) -> None:
    rule = SGD(momentum=beta, nesterov=nesterov)
    expected = []
    for u in steps:
        row = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        momentum = {"momentum": beta, "nesterov": nesterov} if beta else {}
        theirs = torch.optim.SGD([row], lr=0.5, **momentum)
        for _ in range(u):
            row.grad = torch.ones_like(row)
            theirs.step()
        expected.append(-float(row.detach()[0]) / 0.5)
    assert rule.effective_steps(np.array(steps)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_effective_steps_by_hand() -> None:
    steps = np.array([0, 1, 3])
    assert SGD(momentum=0.9).effective_steps(steps).tolist() == pytest.approx([0, 1, 5.61])
    assert SGD().effective_steps(steps).tolist() == [0, 1, 3]
    assert Adam().effective_steps(steps).tolist() == [0, 1, 3]
