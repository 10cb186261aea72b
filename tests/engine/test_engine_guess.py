"""Guessed steps: closed form against the loop, their weights, and when they are not taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hansa.base.errors import ConfigError
from hansa.engine import SGD, Adam, AdamW, GeL, Guessed, Job, Optimizer

PLAIN: dict[str, Any] = {"cosine_gate": None, "trust_region": None}


def finish(rule: GeL, rows: Tensor, grads: Tensor, slots: Any, steps: Any, **other: Any) -> Guessed:
    """The guesses after so many steps, in place."""
    steps = np.asarray(steps)
    found = rule.finish_(
        rows,
        grads,
        slots,
        other.get("start"),
        steps,
        torch.from_numpy(steps),
        other.get("lr", 0.1),
        other.get("asked", steps),
    )
    assert found is not None
    return found


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    beta=st.sampled_from([0.3, 0.9, 0.99]),
    decay=st.sampled_from([1.0, 0.7]),
    guesses=st.integers(0, 60),
)
def test_the_closed_form_is_the_loop(beta: float, decay: float, guesses: int) -> None:
    rule = GeL(optimizer=SGD(momentum=beta), guesses=guesses, decay=decay, **PLAIN)
    rows, momentum = drawn(3, 9), drawn(3, 9, seed=1)
    x, m = rows.double(), momentum.double()
    for _ in range(guesses):
        m = beta * decay * m
        x = x - 0.1 * m
    found = finish(rule, rows, drawn(3, 9, seed=2), {"momentum": momentum}, [1, 2, 5])
    torch.testing.assert_close(rows.double(), x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(momentum.double(), m, rtol=1e-5, atol=1e-7)
    assert found.number.tolist() == [guesses] * 3


@pytest.mark.parametrize(
    ("steps", "guesses", "expected"), [(3, 0, 5.61), (3, 4, 13.997721), (5, 50, 49.810052976)]
)
def test_weights_of_a_constant_gradient(steps: int, guesses: int, expected: float) -> None:
    rule = GeL(optimizer=SGD(momentum=0.9), guesses=guesses, **PLAIN)
    rows, slots = torch.zeros(1, 1), {"momentum": torch.zeros(1, 1)}
    for s in range(steps):
        rule.step_(rows, torch.ones(1, 1), slots, torch.tensor([s + 1]), 0.1)
    found = finish(rule, rows, torch.ones(1, 1), slots, [steps])
    effective = rule.effective_steps(np.array([steps])) + found.effective
    assert effective.tolist() == pytest.approx([expected], rel=1e-9)
    assert float(rows[0, 0]) == pytest.approx(-0.1 * expected, rel=1e-5)


def test_policies() -> None:
    steps, asked = np.array([2, 5, 7]), np.array([6, 5, 6])
    sgd = SGD(momentum=0.9)
    assert GeL(optimizer=sgd, guesses=3).wanted(steps, asked).tolist() == [3, 3, 3]
    assert GeL(optimizer=sgd, policy="fill").wanted(steps, asked).tolist() == [4, 0, 0]
    assert GeL(optimizer=SGD(), guesses=3).wanted(steps, asked).tolist() == [0, 0, 0]
    rows, momentum = torch.zeros(3, 2), torch.ones(3, 2)
    limit = GeL(optimizer=sgd, policy="limit", **PLAIN)
    found = finish(limit, rows, torch.ones(3, 2), {"momentum": momentum}, steps, asked=asked)
    torch.testing.assert_close(rows, torch.full((3, 2), -0.9))  # lr beta / (1 - beta) m
    assert momentum.abs().max() < 1e-7
    total = limit.effective_steps(steps) + found.effective
    assert total.tolist() == pytest.approx((steps / 0.1).tolist(), rel=1e-6)  # u / (1 - beta)


def test_the_gate_is_each_nodes_own() -> None:
    rule = GeL(optimizer=SGD(momentum=0.9), guesses=5, cosine_gate=0.5, trust_region=None)
    momentum = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    grads = torch.tensor([[1.0, 1.0], [1.0, 2.0], [-1.0, 0.0], [1.0, 0.0]])  # cosine .7, .4, -1
    rows = torch.zeros(4, 2)
    found = finish(rule, rows, grads, {"momentum": momentum}, [1] * 4)
    assert found.number.tolist() == [5, 0, 0, 0]
    assert (found.effective > 0).tolist() == [True, False, False, False]
    assert (rows[:, 0] != 0).tolist() == [True, False, False, False]
    assert momentum[1:3, 0].tolist() == [1, 1]


def test_the_trust_region_shortens_and_tells() -> None:
    sgd, start = SGD(momentum=0.9), torch.zeros(2, 4)
    rows, momentum = torch.tensor([[0.1], [100.0]]) * drawn(2, 4).sign(), drawn(2, 4, seed=1)
    free, held = rows.clone(), rows.clone()
    plain = finish(GeL(optimizer=sgd, **PLAIN), free, rows, {"momentum": momentum.clone()}, [3, 3])
    rule = GeL(optimizer=sgd, cosine_gate=None, trust_region=0.5)
    found = finish(rule, held, rows, {"momentum": momentum}, [3, 3], start=start)
    length = torch.linalg.vector_norm(held - rows, dim=1)
    assert float(length[0]) == pytest.approx(0.5 * 0.2, rel=1e-5)
    torch.testing.assert_close(held[1], free[1])
    share = length[0] / torch.linalg.vector_norm(free[0] - rows[0])
    assert found.effective[0] == pytest.approx(plain.effective[0] * float(share), rel=1e-4)
    assert found.effective[1] == plain.effective[1]


@pytest.mark.parametrize("inner", [Adam(weight_decay=0.1), AdamW(beta1=0.8), SGD(momentum=0.9)])
def test_repeated_gradients_are_those_of_torch(inner: Optimizer) -> None:
    """Each node by itself: its gradient steps, then torch's own with the last gradient again."""
    rule = GeL(optimizer=inner, policy="fill", guess="gradient", **PLAIN)
    n, size, steps, asked = 3, 5, np.array([3, 3, 3]), np.array([3, 5, 9])
    rows, count = drawn(n, size), torch.zeros(n, dtype=torch.int64)
    slots = {name: torch.zeros(n, size) for name in rule.slots}
    gradients = [drawn(n, size, seed=9 + s) for s in range(3)]
    expected = []
    for k in range(n):
        row = torch.nn.Parameter(rows[k].clone())
        if isinstance(inner, SGD):
            theirs: Any = torch.optim.SGD([row], lr=0.1, momentum=inner.momentum)
        else:
            assert isinstance(inner, Adam)
            kind = torch.optim.AdamW if isinstance(inner, AdamW) else torch.optim.Adam
            theirs = kind([row], 0.1, (inner.beta1, inner.beta2), weight_decay=inner.weight_decay)
        for g in gradients:
            last = g[k].clone()
            if type(inner) is Adam:  # the gradient that is fed again is the one with its penalty
                last += inner.weight_decay * row.detach()
            row.grad = g[k].clone()
            theirs.step()
        theirs.param_groups[0]["weight_decay"] = 0.0
        for _ in range(asked[k] - 3):
            row.grad = last.clone()
            theirs.step()
        expected.append(row.detach())
    for g in gradients:
        count += 1
        grads = g.clone()
        rule.step_(rows, grads, slots, count, 0.1)
    kept = {name: slot.clone() for name, slot in slots.items()}
    found = finish(rule, rows, grads, slots, steps, asked=asked)
    torch.testing.assert_close(rows, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(slots[name], kept[name]) for name in slots)
    assert found.number.tolist() == [0, 2, 6]
    after = rule.effective_steps(steps) + found.effective
    assert after.tolist() == pytest.approx(inner.effective_steps(asked).tolist())


def test_the_rate_stands_in_either_place() -> None:
    inside = Optimizer.resolve({"name": "gel", "optimizer": {"name": "sgd", "lr": 0.3}})
    outside = Optimizer.resolve({"name": "gel", "lr": 0.3, "optimizer": "sgd"})
    assert isinstance(outside, GeL)
    assert inside.lr == outside.lr == outside.optimizer.lr == 0.3
    assert Optimizer.resolve(outside.dump()) == outside
    assert GeL(optimizer=Adam()).lr == 1e-3
    penalized = GeL(optimizer=SGD(momentum=0.5), weight_decay=0.2).optimizer
    assert penalized.weight_decay == 0.2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"lr": 0.1, "optimizer": {"name": "sgd", "lr": 0.2}}, "lr"),
        ({"lr": -1}, "lr"),
        ({"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}}, "optimizer.nesterov"),
        ({"optimizer": {"name": "sgd", "momentum": 2}}, "optimizer.momentum"),
        ({"optimizer": "gel"}, "optimizer"),
        ({"optimizer": "adam", "guess": "momentum"}, "guess"),
        ({"optimizer": "adam", "policy": "limit"}, "policy"),
        ({"trust_region": 0}, "trust_region"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Optimizer.resolve({"name": "gel", **settings})
    assert caught.value.field == field


# -- in the trainer ----------------------------------------------------------------------------


def gel(inner: Any, **settings: Any) -> dict[str, Any]:
    return {"name": "gel", "optimizer": inner, **settings}


HEAVY = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
STEPS = np.array([3, 0, 5, 1, 5, 2, 0, 4])
STRATEGIES = pytest.mark.parametrize("strategy", ["looped", "stacked"])


@STRATEGIES
@pytest.mark.parametrize(
    ("inner", "settings"),
    [
        (HEAVY, {"guesses": 0}),
        ({"name": "adam", "lr": 0.01}, {"guesses": 0}),
        ({"name": "sgd", "lr": 0.05}, {"guesses": 9, **PLAIN}),
    ],
)
def test_without_guesses_or_momentum_it_is_the_base_method_to_the_bit(
    make_job: Callable[..., Job], strategy: str, inner: Any, settings: Any
) -> None:
    found = []
    for optimizer in (inner, gel(inner, **settings)):
        job = make_job({"train.optimizer": optimizer, "train.strategy": strategy})
        block = job.block(np.arange(8))
        for t in range(2):
            block.train(t, steps=STEPS)
        found.append(block)
        block.trainer.close()
    assert torch.equal(found[0].rows, found[1].rows)
    assert all(torch.equal(found[1].state[name], v) for name, v in found[0].state.items())
    assert np.nansum(found[1].report["guesses"]) == 0


@STRATEGIES
def test_guesses_need_no_pass_and_no_data(
    make_job: Callable[..., Job], strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hansa.data import Dataset
    from hansa.engine.training.gradients import Looped, Stacked

    calls = {"backward": 0, "gather": 0}

    def counted(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def count(self: Any, *arguments: Any) -> Any:
            calls[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(kind, name, count)

    for kind in (Looped, Stacked):
        counted(kind, "backward")
    counted(Dataset, "gather")
    seen, blocks = [], []
    for guesses in (0, 12):
        calls.update(backward=0, gather=0)
        optimizer = gel(HEAVY, guesses=guesses, **PLAIN)
        job = make_job({"train.optimizer": optimizer, "train.strategy": strategy})
        block = job.block(np.arange(8))
        block.train(0, steps=STEPS)
        seen.append(dict(calls))
        blocks.append(block)
        block.trainer.close()
    assert seen[0] == seen[1]
    without, guessed = blocks
    for name in ("steps", "samples"):
        assert torch.equal(without.state[name], guessed.state[name])
    working = STEPS > 0
    assert guessed.report["gradients"][working].tolist() == STEPS[working].tolist()
    assert guessed.report["guesses"][working].tolist() == [12.0] * 6
    for name in ("gradients", "guesses", "effective_steps"):
        assert np.isnan(guessed.report[name][~working]).all()
    # Where they lead is along the momentum that the gradient steps left.
    buffers = 0.9 * (1 - 0.9**12) / 0.1
    size = guessed.trainer.layout.trainable
    moved = without.rows[:, :size] - 0.05 * buffers * without.state["optimizer.momentum"]
    torch.testing.assert_close(guessed.rows[:, :size], moved, rtol=1e-5, atol=1e-6)
    c = (1 - 0.9 ** STEPS[working].astype(float)) / 0.1
    expected = SGD(momentum=0.9).effective_steps(STEPS[working]) + c * buffers
    assert guessed.report["effective_steps"][working] == pytest.approx(expected)


@STRATEGIES
def test_safety_by_default_looks_at_each_nodes_round(
    make_job: Callable[..., Job], strategy: str
) -> None:
    rounds = {}
    for name, optimizer in (("base", HEAVY), ("gel", gel(HEAVY, guesses=40))):
        job = make_job({"train.optimizer": optimizer, "train.strategy": strategy})
        block = job.block(np.arange(8))
        start = block.rows.clone()
        block.train(0, steps=STEPS)
        rounds[name] = block.rows - start
        block.trainer.close()
    own = torch.linalg.vector_norm(rounds["base"], dim=1)
    more = torch.linalg.vector_norm(rounds["gel"] - rounds["base"], dim=1)
    assert (more <= own * (1 + 1e-4)).all()
    assert (more > 0).sum() >= 4


def test_a_round_begins_without_what_was_guessed_before(make_job: Callable[..., Job]) -> None:
    """The buffer lives in the visiting block: a second round equals that of a fresh client."""
    job = make_job({"train.optimizer": gel(HEAVY, **PLAIN), "topology": "ring"})
    block, who = job.block(np.arange(8)), np.array([1, 4])
    model = block.rows[:2].clone()
    block.trainer.train(block.visit(who, model.clone()), 0)
    second, fresh = block.visit(who, model.clone()), job.block(np.arange(8))
    block.trainer.train(second, 1)
    alone = fresh.visit(who, model.clone())
    fresh.trainer.train(alone, 1)
    assert torch.equal(second.rows, alone.rows)
    for b in (block, fresh):
        b.trainer.close()


def test_a_buffer_that_is_there_is_gone_on_with(make_job: Callable[..., Job]) -> None:
    """The global variant: the caller fills the slot before the first step."""
    job = make_job({"train.optimizer": gel(HEAVY, guesses=3, **PLAIN)})
    one, other = job.block(np.arange(8)), job.block(np.arange(8))
    size = one.trainer.layout.trainable
    filled = 0.01 * drawn(8, size)
    one.state["optimizer.momentum"] = filled.clone()
    for block in (one, other):
        block.train(0, steps=1)
        block.trainer.close()
    weight = sum(0.9**j for j in range(1, 5))  # of one step and three guesses
    difference = other.rows[:, :size] - 0.05 * weight * filled
    torch.testing.assert_close(one.rows[:, :size], difference, rtol=1e-4, atol=1e-6)


@STRATEGIES
@pytest.mark.parametrize("inner", [HEAVY, {"name": "adam", "lr": 0.01}])
@pytest.mark.parametrize("safety", [PLAIN, {}])
def test_what_had_no_gradient_stays_as_it_is(
    make_job: Callable[..., Job], strategy: str, inner: Any, safety: Any
) -> None:
    """Sub-models: a gradient that is masked to zero leaves no momentum, so nothing to guess."""
    job = make_job({"train.optimizer": gel(inner, **safety), "train.strategy": strategy})
    block = job.block(np.arange(8))
    start, size = block.rows.clone(), block.trainer.layout.trainable
    held = drawn(8, size) > 0

    def mask(positions: np.ndarray, rows: Tensor, grads: Tensor) -> None:
        grads.mul_(held[torch.from_numpy(positions)])

    block.trainer.train(block, 0, steps=STEPS, correct=mask)
    moved = (block.rows != start)[:, :size]
    assert not (moved & ~held).any()
    assert moved[0].any()
    assert np.nansum(block.report["guesses"]) > 0
    block.trainer.close()
