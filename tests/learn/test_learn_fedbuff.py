"""FedBuff against a little event simulation: a heap of clients that get done, one at a time."""

import heapq
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hansa.base.errors import ConfigError, RunError
from hansa.engine import Job
from hansa.engine.exchange.letter import Letter, pack_aside
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import HEADER_BYTES, UNASKED, Header, When, frame
from hansa.engine.runtimes.mailing import Mailing
from hansa.engine.runtimes.runtime import split_nodes
from hansa.models import ParameterLayout

CLOCK: dict[str, Any] = {
    "name": "modelled",
    "spread": 1.2,
    "bandwidth": 1e5,
    "latency": 0.03,
    "sample_seconds": 0.01,
}
N, LR, STEPS, BATCH = 8, 0.1, 2, 8
NBYTES = 910 * 4 + HEADER_BYTES


def settings(rounds: int = 12, clock: Any = CLOCK, **algorithm: Any) -> dict[str, Any]:
    """A run with a method of these settings."""
    chosen = {"name": "fedbuff", "concurrency": 4, "buffer": 3, **algorithm}
    return {
        "algorithm": chosen,
        "clock": clock,
        "rounds": rounds,
        "train.optimizer": {"name": "sgd", "lr": LR},
    }


def trained(job: Job, start: Tensor, client: int, t: int) -> Tensor:
    """The update of a client that starts from a model in round t, by plain SGD."""
    import copy

    module, layout = copy.deepcopy(job.module), ParameterLayout.of(job.module)
    layout.load_(module, start.float())
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)
    order = job.streams.numpy("batches", client, t).permutation(job.parts[client])
    for step in range(STEPS):
        index = torch.from_numpy(order[step * BATCH : (step + 1) * BATCH])
        x, y = job.dataset.gather(job.dataset.train, index)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return layout.flatten(module).double() - start


def simulated(job: Job) -> tuple[list[dict[str, Any]], Tensor]:
    """What happens in every round, and the model at the end.

    Nobody starts twice from one model, nor in the round in which its last update came.
    """
    method: Any = job.algorithm
    deviation = {i: job.streams.numpy("device", i).standard_normal() for i in range(N)}
    took = {
        i: 0.03 + STEPS * BATCH * 0.01 * math.exp(1.2 * d) + NBYTES / 1e5 + 0.03
        for i, d in deviation.items()
    }
    x = ParameterLayout.of(job.module).flatten(job.module).double()
    heap: list[tuple[float, int]] = []
    work: dict[int, tuple[int, bool, Tensor]] = {}  # client: round, whether it succeeds, update
    now, rounds = 0.0, []
    for t in range(job.rounds):
        used: set[int] = set()
        due: list[tuple[int, int]] = []
        void, started, turn = [], {}, 0
        while len(due) < method.buffer:
            idle = np.array([i for i in range(N) if i not in work and i not in used])
            wanted = min(method.concurrency - len(work), len(idle))
            if wanted > 0:
                random = job.streams.numpy(f"sampling {turn}", N, t)
                chosen = idle
                if wanted < len(idle):
                    chosen = np.sort(random.choice(idle, wanted, replace=False))
                dice = job.streams.numpy(f"failure {turn}", N, t)
                fails, share = dice.random(len(chosen)) < method.failure, dice.random(len(chosen))
                for i, fail, part in zip(chosen.tolist(), fails, share, strict=True):
                    end = now + took[i] * (part if fail else 1)
                    heapq.heappush(heap, (end, i))
                    work[i] = (t, not fail, trained(job, x, i, t))
                    used.add(i)
                    started[i] = now
                turn += 1
            now, client = heapq.heappop(heap)
            used.add(client)
            version, success, update = work.pop(client)
            age = t - version
            late = method.max_staleness is not None and age > method.max_staleness
            if success and not late:
                due.append((client, age, update))  # type: ignore[arg-type]
            else:
                void.append(client)
        for _, age, update in due:  # type: ignore[misc]
            x = x + update / (math.sqrt(1 + age) * method.buffer)
        rounds.append({"due": [d[:2] for d in due], "started": started, "time": now, "void": void})
    return rounds, x


@pytest.mark.parametrize(
    "method",
    [
        {},
        {"concurrency": 8, "buffer": 2},
        {"concurrency": 1, "buffer": 4},
        {"concurrency": 6, "buffer": 1},
        {"concurrency": 6, "buffer": 2, "max_staleness": 1},
        {"concurrency": 5, "buffer": 2, "failure": 0.3},
        {"concurrency": 6, "buffer": 3, "failure": 0.2, "max_staleness": 0},
    ],
    ids=str,
)
def test_everything_happens_as_in_the_event_simulation(
    make_job: Callable[..., Job], host: Callable[..., Any], method: Any
) -> None:
    """Who starts when, whose updates count and how old they are, the time, and the model."""
    job = make_job(settings(**method))
    expected, model = simulated(job)
    block, reports = host(job)
    for t, (report, wanted) in enumerate(zip(reports, expected, strict=True)):
        start = report["log"]["client_start"][:N]
        assert {i: start[i] for i in np.flatnonzero(~np.isnan(start))} == pytest.approx(
            wanted["started"]
        ), t
        assert report["counters"]["modelled_time"][N] == pytest.approx(wanted["time"]), t
        ages = [age for _, age in wanted["due"]]
        assert report["values"]["staleness"][N] == pytest.approx(np.mean(ages)), t
        before = reports[t - 1]["counters"]["messages_sent"] if t else np.zeros(N + 1)
        came = np.flatnonzero((report["counters"]["messages_sent"] - before)[:N])
        assert came.tolist() == sorted(i for i, _ in wanted["due"]), t
    torch.testing.assert_close(block.rows[0].double(), model, rtol=0, atol=1e-5)
    if method.get("concurrency", 4) > 1:
        assert any(age for wanted in expected for _, age in wanted["due"]) or (
            method.get("max_staleness") == 0
        )


def test_one_at_a_time_is_sgd_in_turns(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """With concurrency 1 nothing is ever stale."""
    _, reports = host(make_job(settings(concurrency=1, buffer=1)))
    for t, report in enumerate(reports):
        assert report["values"]["staleness"][N] == 0
        assert np.isfinite(report["log"]["client_start"]).sum() == 1, t


def test_bytes_by_hand(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    """A model down for each that starts, an update up for each that counts."""
    block, reports = host(make_job(settings()))
    starts = sum(int(np.isfinite(r["log"]["client_start"]).sum()) for r in reports)
    assert int(block.state["bytes_sent"][N]) == starts * NBYTES
    assert int(block.state["bytes_sent"][:N].sum()) == 12 * 3 * NBYTES


def test_updates_wait_only_while_they_are_due(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Memory: no more rows than clients at work."""
    block, _ = host(make_job(settings(concurrency=6, buffer=2, failure=0.2, max_staleness=1)))
    at_work = torch.isfinite(block.kept["fedbuff.end"][0]).sum()
    assert 0 < len(block.shelves["client.pending"]) <= at_work <= 6
    assert len(block.rows) == 1


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ({"concurrency": 9}, "algorithm.concurrency"),
        ({"buffer": 9}, "algorithm.buffer"),
        ({"sampler": "poisson"}, "algorithm.sampler"),
    ],
)
def test_what_cannot_work_is_explained(
    make_job: Callable[..., Job], method: Any, field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job(settings(**method))
    assert caught.value.field == field
    with pytest.raises(ConfigError, match="no"):
        make_job(settings(clock="wall"))


def test_a_buffer_that_never_fills_has_a_name(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    with pytest.raises(RunError, match="the buffer holds 0 of 3 updates") as caught:
        host(make_job(settings(failure=1.0)))
    assert caught.value.round == 1


def test_a_client_orders_nobody_about_and_is_not_believed(
    make_job: Callable[..., Job], host_apart: Callable[..., Any]
) -> None:
    """It would get others' updates by sending them a model, or fill the buffer with nothing."""
    made = [make_job(settings(rounds=3)) for _ in range(2)]
    groups = split_nodes(N + 1, 2, 1)
    server = N
    evil = next(k for k, ids in enumerate(groups) if server not in ids)
    victim = int(groups[1 - evil][0])
    forged = int(groups[evil][0])
    times = pack_aside(0.0, (1.0,))

    def meddle(posts: list[SitePost]) -> None:
        for receiver, kind in (
            (victim, "model"), (victim, "due"), (victim, "void"), (victim, "update"),
            (server, "model"), (server, "due"), (server, "other"), (server, "done"),
        ):  # fmt: skip
            for payload in (times, b"", times[:5]):
                header = frame(When(0, kind, UNASKED), forged, receiver, kind, payload)
                posts[evil].send(header, payload)

    _, state, posts = host_apart(lambda: made.pop(), 2, meddle)
    reasons = posts[1 - evil].dropped
    assert sum(n for why, n in reasons.items() if "may not send" in why) == 7
    assert sum(n for why, n in reasons.items() if "without its times" in why) == 16
    assert torch.isfinite(state["modelled_time"]).all()
    assert state["messages_sent"].sum() == state["messages_received"].sum()


@pytest.mark.parametrize("algorithm", ["adpsgd", "fedbuff"])
def test_a_message_of_another_size_is_refused_before_it_is_opened(
    make_job: Callable[..., Job],
    host_apart: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
) -> None:
    """Its header may announce more numbers than there is memory for, or one that fits any model."""
    plain = Mailing.letter

    def letter(header: Header, payload: bytes) -> Letter:
        came = plain(header, payload)
        return replace(came, elements=elements) if came.size else came

    monkeypatch.setattr(Mailing, "letter", staticmethod(letter))
    changes = settings(rounds=2) if algorithm == "fedbuff" else {"algorithm": "adpsgd", "rounds": 2}
    for elements in (1, 1 << 45):
        with pytest.raises(RunError, match=rf"sent {elements} numbers of kind .* 910 were due"):
            host_apart(lambda: make_job(changes), 2, deadline=20.0)
