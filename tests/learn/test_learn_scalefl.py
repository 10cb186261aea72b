"""ScaleFL's sub-models: against narrow networks of their own, and as a part of FedAvg."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.learn import ScaleFL
from hansa.learn.federated.client_work import Work
from hansa.models import ParameterLayout

N, HIDDEN, LR = 8, 12, 0.1
CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
TWO: dict[str, Any] = {"name": "scalefl", "widths": [0.5, 1.0], "shares": [0.5, 0.5]}
PLAIN = {"name": "sgd", "lr": LR, "momentum": 0.9, "weight_decay": 0.01}
UNGATED = {"name": "gel", "cosine_gate": None, "trust_region": None, "guesses": 5}
HELD = 64 * 6 + 6 + 6 * 10 + 10
WHOLE = 64 * 12 + 12 + 12 * 10 + 10


def half() -> np.ndarray:
    """The numbers of half the width, from the shapes by hand."""
    one, bias, two, last = np.split(np.arange(WHOLE), np.cumsum([64 * HIDDEN, HIDDEN, 10 * HIDDEN]))
    narrow = [one.reshape(HIDDEN, 64)[:6], bias[:6], two.reshape(10, HIDDEN)[:, :6], last]
    return np.concatenate([x.ravel() for x in narrow])


def wide(job: Job) -> np.ndarray:
    """Which clients of TWO have the whole model, bool [N]."""
    scalefl: Any = job.algorithm
    return scalefl.part_of(job.block(np.arange(job.nodes)), np.arange(N)) == 1


def alone(job: Job, x: Tensor, held: np.ndarray, client: int, t: int) -> Tensor:
    """What a client's own network of its width is after its steps, [len(held)]."""
    width = 6 if len(held) < WHOLE else HIDDEN
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    layout = ParameterLayout.of(module)
    layout.load_(module, x[held].float())
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9, weight_decay=0.01)
    random = job.streams.numpy("batches", client, t)
    order = random.permutation(job.parts[client])
    for step in range(2):
        index = torch.from_numpy(order[8 * step : 8 * step + 8])
        inputs, targets = job.dataset.gather(job.dataset.train, index)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    return layout.flatten(module).double()


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("lost", [[], [0, 1, 5]], ids=str)
def test_rounds_are_those_of_networks_of_different_widths(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    weighting: str,
    strategy: str,
    lost: list[int],
) -> None:
    """Each number's average is over those who hold it, with weights that add up to 1 for it.

    A client whose update is lost holds nothing.
    """
    job = make_job(
        {
            "algorithm": {**TWO, "weighting": weighting},
            "data": {"name": "digits", "partition": {"name": "quantity", "min_samples": 20}},
            "train.optimizer": PLAIN,
            "train.strategy": strategy,
            "faults": {"lost": [(1, i, N, "update") for i in lost]},
        }
    )
    if lost:  # of both kinds
        assert {bool(whole) for whole in wide(job)[lost]} == {False, True}
    held = [np.arange(WHOLE) if whole else half() for whole in wide(job)]
    assert sorted({len(part) for part in held}) == [HELD, WHOLE]
    x = ParameterLayout.of(job.module).flatten(job.module).double()
    for t in range(job.rounds):
        total, weight = torch.zeros(WHOLE, dtype=torch.float64), np.zeros(WHOLE)
        for i in range(N) if t != 1 else sorted({*range(N)} - {*lost}):
            mass = len(job.parts[i]) if weighting == "examples" else 1
            total[held[i]] += mass * alone(job, x, held[i], i, t)
            weight[held[i]] += mass
        x = total / torch.from_numpy(weight)
    rows = host(job)[0].rows
    torch.testing.assert_close(rows[0].double(), x, rtol=0, atol=1e-5)
    assert x.std() > 0.05


@pytest.mark.parametrize("optimizer", ["sgd", "gel"])
@pytest.mark.parametrize("changes", [{}, {"codec": "qsgd", "sampled": 5}], ids=str)
def test_full_width_for_all_is_fedavg_to_the_bit(
    make_job: Callable[..., Job], host: Callable[..., Any], optimizer: str, changes: Any
) -> None:
    shared = {"clock": CLOCK, "train.optimizer": optimizer, "train.budget": "uniform"}
    wide = {"name": "scalefl", "widths": [1, 1], "shares": [0.5, 0.5], **changes}
    block, _ = host(make_job({**shared, "algorithm": wide}))
    other, _ = host(make_job({**shared, "algorithm": {"name": "fedavg", **changes}}))
    assert torch.equal(block.rows, other.rows)
    for name, value in other.state.items():
        assert torch.equal(block.state[name], value), name


@pytest.mark.parametrize("optimizer", [UNGATED, "gel", {"name": "adam", "lr": 0.01}], ids=str)
def test_what_nobody_holds_stays_also_with_guesses(
    make_job: Callable[..., Job], host: Callable[..., Any], optimizer: Any
) -> None:
    """GeL check 6: no gradient, no momentum, no guess, to the bit."""
    seen: list[Tensor] = []

    class Watched(ScaleFL):
        """Looks at the clients' models before they are sent."""

        def answers(self, work: Work) -> dict[str, Tensor]:
            seen.append(work.crew.rows.clone())
            assert optimizer not in (UNGATED, "gel") or (work.crew.report["guesses"] > 0).any()
            return {}

    narrow = {"name": "scalefl", "widths": [0.5], "shares": [1]}
    job = make_job({"algorithm": narrow, "train.optimizer": optimizer})
    job.algorithm = Watched(widths=(0.5,), shares=(1.0,))
    held = half()
    rest = np.setdiff1d(np.arange(WHOLE), held)
    initial = ParameterLayout.of(job.module).flatten(job.module)
    rows = host(job)[0].rows
    assert seen
    assert all(not found[:, rest].any() for found in seen)
    assert torch.equal(rows[0, rest], initial[rest])
    assert (rows[0, held] != initial[held]).float().mean() > 0.8


def test_only_what_is_held_travels_and_is_paid_for(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    changes = {"clock": CLOCK, "rounds": 3}
    job = make_job({**changes, "algorithm": TWO})
    state, whole = host(job)[0].state, wide(job)
    assert 2 < whole.sum() < 6
    each = np.where(whole, 4 * WHOLE, 4 * HELD) + HEADER_BYTES
    invitation = HEADER_BYTES + 1 + 3 * (1 + 1)  # a row of three small numbers, with their types
    assert state["bytes_received"][:N].tolist() == (3 * (each + invitation)).tolist()
    assert state["bytes_sent"][:N].tolist() == (3 * each).tolist()
    assert state["bytes_received"][N] == 3 * each.sum()
    assert state["bytes_sent"][N] == 3 * (each.sum() + N * invitation)
    assert state["messages_sent"].tolist() == [3] * N + [2 * 3 * N]
    average = host(make_job({**changes, "algorithm": "fedavg"}))[0].state
    assert torch.equal(state["samples"], average["samples"])
    share = torch.from_numpy(np.where(whole, 1, HELD / WHOLE))
    expected = share * average["compute_time"][:N]
    torch.testing.assert_close(state["compute_time"][:N], expected)
    assert (state["training_energy"][:N] < average["training_energy"][:N])[~whole].all()


def test_the_plan_knows_what_a_narrow_model_takes(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """What invitations foretell is what happens: also under a deadline that sorts some out."""
    late = {"codec": "qsgd", "deadline": 0.09}
    job = make_job({"clock": CLOCK, "rounds": 1, "algorithm": {**TWO, **late}})
    block, reports = host(job)
    log, state = reports[0]["log"], block.state
    done = log["client_outcome"][:N] == 0
    assert 0 < done.sum() < N
    trained = state["modelled_time"][:N].numpy()  # what a client sends is its server's to await
    assert trained[done] == pytest.approx(log["client_trained"][:N][done])
    assert float(state["modelled_time"][N]) == pytest.approx(0.09)
    assert (log["client_end"][:N] <= 0.09 + 1e-12).all()
    computed = state["compute_time"][:N].numpy()
    assert computed == pytest.approx(log["client_trained"][:N] - log["client_heard"][:N])


def test_a_battery_lasts_longer_with_a_narrow_model(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """2.5 rounds of the whole model, 3 x 60 ms x 16 examples x 5 W each."""
    profiles = {"name": "lognormal", "sample_sigma": 0, "link_sigma": 0}
    share = 2.5 * 3 * 0.06 * 16 * 5 / (15 * 3600)
    clock = {"name": "devices", "profiles": profiles, "battery_share": share}
    job = make_job({"clock": clock, "rounds": 4, "algorithm": TWO})
    rounds = host(job)[0].state["training_rounds"][:N].numpy()
    assert rounds.tolist() == np.where(wide(job), 2, 4).tolist()


def test_composes_with_a_servers_optimizer_and_early_stopping(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    more = {"server": "yogi", "select": "best", "stop": {"window": 1, "patience": 1}}
    job = make_job({"algorithm": {**TWO, **more}, "evaluate.local_validation": 0.1, "rounds": 9})
    _, reports = host(job)
    losses = [r["values"]["local_validation_loss"][N] for r in reports]
    assert losses[-1] < losses[0]


def test_levels_are_for_good_and_of_the_given_shares(make_job: Callable[..., Job]) -> None:
    job = make_job({"nodes": 40, "algorithm": "scalefl"})
    scalefl: Any = job.algorithm
    block = job.block(np.arange(41))
    found = scalefl.part_of(block, np.arange(40))
    assert np.bincount(found).tolist() == [20, 10, 10]
    assert np.array_equal(scalefl.part_of(block, np.arange(7, 9)), found[7:9])
    assert block.effort is not None
    assert np.array_equal(block.effort[:40] == 1, found == 2)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"shares": [1.0]}, "algorithm.shares"),
        ({"shares": [0.5, 0.5, 0.5, 0.5]}, "algorithm.shares"),
        ({"global_momentum": 0.5}, "algorithm.global_momentum"),
        ({"widths": [0, 1, 1, 1]}, "algorithm.widths.0"),
    ],
)
def test_what_cannot_work_is_explained(
    make_job: Callable[..., Job], settings: Any, field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job({"algorithm": {"name": "scalefl", **settings}})
    assert caught.value.field == field


def test_a_model_that_cannot_be_cut_is_refused_before_a_run(make_job: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match="norm1"):
        make_job({"algorithm": "scalefl", "model": "gn_lenet"})
