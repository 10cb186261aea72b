"""Federated methods in rounds against a slow, plain loop: one client and one module at a time."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hansa.base.component import find
from hansa.engine import Job
from hansa.learn.federated.server_optimizers import ServerOptimizer
from hansa.models import ParameterLayout

STEPS, BATCH, LR = 4, 8, 0.1
UNEQUAL: dict[str, Any] = {
    "rounds": 5,
    "data": {"name": "digits", "partition": {"name": "quantity", "alpha": 1, "min_samples": 3}},
    "train.local_steps": STEPS,
    "train.drop_last": False,
    "train.budget": {"name": "uniform", "low": 1, "high": 4},
    "train.optimizer": {"name": "sgd", "lr": LR, "momentum": 0.9, "weight_decay": 0.01},
}
"""Clients of very different sizes that take different numbers of steps, with momentum."""


def steps_of(job: Job, client: int, t: int) -> int:
    """What the uniform budget lets a client do."""
    budget: Any = job.train.budget
    if budget.name == "full":
        return STEPS
    drawn = job.streams.numpy("budget", client, t).integers(budget.low, budget.high + 1)
    return min(int(drawn), STEPS)


def batches(job: Job, client: int, t: int) -> Iterator[Tensor]:
    """Shuffled passes over a client's examples, the last batch of a pass smaller."""
    random = job.streams.numpy("batches", client, t)
    while True:
        yield from torch.from_numpy(random.permutation(job.parts[client])).split(BATCH)


def sampled(job: Job, t: int) -> list[int]:
    """The clients of a round, drawn without replacement."""
    count = job.algorithm.sampled  # type: ignore[attr-defined]
    everyone = np.arange(job.network.clients)
    if count is None:
        return everyone.tolist()
    random = job.streams.numpy("sampling", job.network.clients, t)
    return sorted(random.choice(everyone, count, replace=False).tolist())


Term = Callable[[nn.Module], None]
"""Adds something to the gradients of a module."""


def local_work(job: Job, start: Tensor, client: int, t: int, term: Term) -> tuple[Tensor, float]:
    """(the client's parameters after its steps, weight of all its gradients in its update)."""
    module, layout = copy.deepcopy(job.module), ParameterLayout.of(job.module)
    layout.load_(module, start.float())
    settings = {k: v for k, v in job.train.optimizer.dump().items() if k != "name"}
    optimizer = torch.optim.SGD(module.parameters(), **settings)
    feed, weight, norm = batches(job, client, t), 0.0, 0.0
    for _ in range(steps_of(job, client, t)):
        x, y = job.dataset.gather(job.dataset.train, next(feed))
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        term(module)
        optimizer.step()
        weight = settings["momentum"] * weight + 1
        norm += weight
    return layout.flatten(module).double(), norm


def pieces(module: nn.Module, flat: Tensor) -> list[Tensor]:
    """A flat vector cut into the shapes of a module's parameters."""
    sizes = [p.numel() for p in module.parameters()]
    shapes = [p.shape for p in module.parameters()]
    return [v.view(s) for v, s in zip(flat.float().split(sizes), shapes, strict=True)]


def nothing(module: nn.Module) -> None:
    """No term."""


def server_step(name: str, x: Tensor, update: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Reddi et al., algorithm 2, and momentum, with the defaults of the catalogue."""
    zero = torch.zeros_like(x)
    if name == "fedavgm":
        state["v"] = 0.9 * state.get("v", zero) + update
        return x + state["v"]
    if name in ("fedadam", "fedyogi", "fedadagrad"):
        beta1 = 0.0 if name == "fedadagrad" else 0.9
        m = beta1 * state.get("m", zero) + (1 - beta1) * update
        v = state.get("v", zero)
        if name == "fedadam":
            v = 0.99 * v + 0.01 * update**2
        elif name == "fedyogi":
            v = v - 0.01 * update**2 * torch.sign(v - update**2)
        else:
            v = v + update**2
        state |= {"m": m, "v": v}
        return x + 0.01 * m / (v.sqrt() + 1e-3)
    return x + update


def reference(job: Job) -> Tensor:
    """The server's model after all rounds, float64."""
    name, clients = job.algorithm.name, job.network.clients
    x = ParameterLayout.of(job.module).flatten(job.module).double()
    state: dict[str, Tensor] = {}
    control = torch.zeros_like(x)
    controls = [torch.zeros_like(x) for _ in range(clients)]
    for t in range(job.rounds):
        chosen = sampled(job, t)
        total = sum(len(job.parts[i]) for i in chosen)
        shares = [len(job.parts[i]) / total for i in chosen]
        deltas, norms, changes = [], [], []
        for i in chosen:

            def term(module: nn.Module, x: Tensor = x, i: int = i, c: Tensor = control) -> None:
                parameters = list(module.parameters())
                if name == "fedprox":
                    for p, start in zip(parameters, pieces(module, x), strict=True):
                        p.grad += job.algorithm.mu * (p.detach() - start)  # type: ignore
                if name == "scaffold":
                    for p, shift in zip(parameters, pieces(module, c - controls[i]), strict=True):
                        p.grad += shift

            y, norm = local_work(job, x, i, t, term)
            deltas.append(y - x)
            norms.append(norm)
            if name == "scaffold":
                fresh = controls[i] - control + (x - y) / (norm * LR)
                changes.append(fresh - controls[i])
                controls[i] = fresh
        if name == "fednova":
            tau = sum(p * a for p, a in zip(shares, norms, strict=True))
            shares = [tau * p / a for p, a in zip(shares, norms, strict=True)]
        update = sum(p * d for p, d in zip(shares, deltas, strict=True))
        assert isinstance(update, Tensor)
        x = server_step(name, x, update, state)
        everyone = sum(len(part) for part in job.parts)
        for i, change in zip(chosen, changes, strict=False):
            control = control + change * len(job.parts[i]) / everyone
    return x


def close(rows: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(rows[0].double(), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05


METHODS: list[Any] = [
    "fedavg",
    {"name": "fedprox", "mu": 0.5},
    "fednova",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "scaffold",
]


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
@pytest.mark.parametrize("sampled", [None, 5])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_rounds_are_those_of_a_plain_loop(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    method: Any,
    sampled: int | None,
    strategy: str,
) -> None:
    """With sampling, unequal sizes and steps, momentum and weight decay."""
    settings = {"name": method} if isinstance(method, str) else method
    job = make_job(
        {
            **UNEQUAL,
            "algorithm": {**settings, "sampled": sampled},
            "train.strategy": strategy,
        }
    )
    sizes = [len(part) for part in job.parts]
    assert max(sizes) > 4 * min(sizes)
    block, _ = host(job)
    close(block.rows, reference(job))


def test_the_methods_differ(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    """So that no reference is right by accident."""
    found = [host(make_job({**UNEQUAL, "algorithm": method}))[0].rows for method in METHODS]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one - other).abs().max() > 1e-4


def test_one_client_of_fedavg_is_plain_training(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    changes = {"nodes": 1, "train.optimizer": {"name": "sgd", "lr": 0.1}}
    alone, _ = host(make_job({**changes, "algorithm": "isolated"}))
    served, _ = host(make_job({**changes, "algorithm": "fedavg"}))
    torch.testing.assert_close(served.rows, alone.rows, rtol=0, atol=1e-6)


# -- one method equals another ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"name": "fedprox", "mu": 0.0}, {"name": "fedavg"}),
        ({"name": "fedavg", "server": {"name": "momentum", "beta": 0.5}},
         {"name": "fedavgm", "server": {"name": "momentum", "beta": 0.5}}),
        ({"name": "fedavgm", "server": {"name": "momentum", "beta": 0.0}}, {"name": "fedavg"}),
        ({"name": "fedavg", "sampled": 8}, {"name": "fedavg"}),
        ({"name": "fedavg", "over_selection": 2.0}, {"name": "fedavg"}),
    ],
)  # fmt: skip
def test_methods_that_are_one(
    make_job: Callable[..., Job], host: Callable[..., Any], one: Any, other: Any
) -> None:
    clock = {"clock": "modelled"}
    first = host(make_job({**UNEQUAL, **clock, "algorithm": one}))[0].rows
    second = host(make_job({**UNEQUAL, **clock, "algorithm": other}))[0].rows
    assert torch.equal(first, second)


@pytest.mark.parametrize("optimizer", ["sgd", "gel"])
def test_fednova_with_equal_work_is_fedavg(
    make_job: Callable[..., Job], host: Callable[..., Any], optimizer: str
) -> None:
    """Also with guesses: each client sends the same normaliser (GeL check 3)."""
    changes = {**UNEQUAL, "train.budget": "full", "train.optimizer": {"name": optimizer}}
    if optimizer == "gel":
        ungated = {"cosine_gate": None, "trust_region": None, "guesses": 3}
        changes["train.optimizer"] = {"name": "gel", **ungated}
    nova = host(make_job({**changes, "algorithm": "fednova"}))[0].rows
    average = host(make_job({**changes, "algorithm": "fedavg"}))[0].rows
    torch.testing.assert_close(nova, average, rtol=0, atol=1e-6)


def test_guesses_cost_one_number_at_most(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """GeL check 4: no gradients, no examples, no bytes but FedNova's scalar."""
    for method in ("fedavg", "fednova", "scaffold"):
        plain = host(make_job({"algorithm": method}))[0].state
        guessed = host(make_job({"algorithm": method, "train.optimizer": "gel"}))[0].state
        for name in ("steps", "samples", "bytes_sent", "messages_sent"):
            assert torch.equal(plain[name], guessed[name]), (method, name)
    more = host(make_job({"algorithm": "fednova"}))[0].state["bytes_sent"]
    less = host(make_job({"algorithm": "fedavg"}))[0].state["bytes_sent"]
    assert (more - less).tolist() == [5 * 4] * 8 + [0]


# -- the server's step -----------------------------------------------------------------------------


def stepped(rule: ServerOptimizer, updates: list[float], start: float = 1.0) -> list[float]:
    """The one parameter after each update."""
    row = torch.tensor([start], dtype=torch.float64)
    slots = {name: torch.full_like(row, value) for name, value in rule.slots.items()}
    found = []
    for update in updates:
        rule.step_(row, torch.tensor([update], dtype=torch.float64), slots)
        found.append(float(row))
    return found


def test_two_rounds_of_adam_by_hand() -> None:
    """No correction for bias, tau outside of the root."""
    rule = find("server", "adam")(lr=0.1, beta1=0.9, beta2=0.99, tau=0.001)
    # m = 0.05, v = 0.0025: root 0.05; m = 0.9 * 0.05 + 0.1 * -0.2 = 0.025,
    # v = 0.99 * 0.0025 + 0.01 * 0.04 = 0.002875.
    first = 1 + 0.1 * 0.05 / (0.05 + 0.001)
    second = first + 0.1 * 0.025 / (0.002875**0.5 + 0.001)
    assert stepped(rule, [0.5, -0.2]) == pytest.approx([first, second], abs=1e-14)


def test_two_rounds_of_yogi_by_hand() -> None:
    rule = find("server", "yogi")(lr=0.1, beta1=0.9, beta2=0.99, tau=0.001, initial=0.01)
    # v = 0.01 - 0.01 * 0.25 * sign(0.01 - 0.25) = 0.0125; then 0.04 is above it:
    # v = 0.0125 + 0.01 * 0.04 = 0.0129.
    first = 1 + 0.1 * 0.05 / (0.0125**0.5 + 0.001)
    second = first + 0.1 * 0.025 / (0.0129**0.5 + 0.001)
    assert stepped(rule, [0.5, -0.2]) == pytest.approx([first, second], abs=1e-14)
    # And below it: v = 0.0129 - 0.01 * 0.0001.
    third = second + 0.1 * (0.9 * 0.025 + 0.1 * 0.01) / (0.012899**0.5 + 0.001)
    assert stepped(rule, [0.5, -0.2, 0.01])[2] == pytest.approx(third, abs=1e-14)


def test_two_rounds_of_adagrad_and_momentum_by_hand() -> None:
    rule = find("server", "adagrad")(lr=0.1, tau=0.001)
    first = 1 + 0.1 * 0.5 / 0.501
    second = first - 0.1 * 0.2 / (0.29**0.5 + 0.001)
    assert stepped(rule, [0.5, -0.2]) == pytest.approx([first, second], abs=1e-14)
    rule = find("server", "momentum")(lr=0.5, beta=0.9)
    assert stepped(rule, [0.4, 0.1]) == pytest.approx([1.2, 1.43], abs=1e-14)


@given(
    name=st.sampled_from(["average", "momentum", "adam", "yogi", "adagrad"]),
    updates=st.lists(st.floats(-10, 10), min_size=1, max_size=6),
)
def test_rules_are_odd_and_rest_without_an_update(name: str, updates: list[float]) -> None:
    """The opposite updates lead to the opposite place; no update at all moves nothing."""
    rule = find("server", name)()
    there, back = stepped(rule, updates, 0.0), stepped(rule, [-u for u in updates], 0.0)
    assert there == pytest.approx([-b for b in back], abs=1e-12)
    assert stepped(rule, [0.0] * len(updates)) == [1.0] * len(updates)
