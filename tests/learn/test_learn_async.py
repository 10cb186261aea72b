"""Nodes at their own pace, exchanges now and then, and every algorithm on networks that change."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hansa.base.errors import ConfigError
from hansa.codec import Dense
from hansa.engine import Job
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.engine.runtimes.agenda import Agenda
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block, seal
from hansa.engine.runtimes.host import Host
from hansa.experiment import RunFile, run
from hansa.learn import ADPSGD
from hansa.report import RunFolder

SLOW = {"name": "modelled", "spread": 1.0, "latency": 0.001}
ASYNC = {"algorithm": "adpsgd", "clock": SLOW}
CHURN = {
    "name": "churn",
    "topology": {"name": "regular", "degree": 3},
    "leave": 0.2,
    "back": 0.4,
    "absent": {2: [[0, 2]], 6: [[1, None]]},
}
TRACE = "\n".join(
    f"{t} {i} {(i + 1 + t % 3) % 8}" for t in range(4) for i in range(0, 8, 1 + t % 2)
)

MakeJob = Callable[..., Job]


class Exact(Dense):
    """Rows of float64 as they are."""

    def through(self, rows: Any) -> Tensor:
        return rows


def events(job: Job, block: Any, start: int = 0) -> tuple[Any, list[dict[str, Any]]]:
    """A job's rounds on a block that is given: (block, reports)."""
    reports: list[dict[str, Any]] = []

    def report(values: dict[str, Any]) -> None:
        counters = {k: v.copy() for k, v in values["counters"].items()}
        reports.append({**values, "counters": counters})

    Host(job, block, job.exchange(), report, lambda b, done: None).run(start)
    return block, reports


# -- AD-PSGD ----------------------------------------------------------------------------------


def test_a_node_alone_takes_the_steps_of_plain_training(make_job: MakeJob, host: Any) -> None:
    """Two nodes that never meet: each wake-up is a round of isolated training, batches too."""
    path_free = {"name": "matching", "among": {"name": "churn", "topology": "ring", "absent": {
        0: [[0, None]]}}}  # fmt: skip
    job = make_job({**ASYNC, "nodes": 2, "topology": path_free, "rounds": 6})
    alone = make_job({"nodes": 2, "algorithm": "isolated", "rounds": 6})
    block, plain = host(job)[0], host(alone)[0]
    assert block.state["adpsgd.wakes"].tolist() == [0, 6]
    torch.testing.assert_close(block.rows[1], plain.rows[1], rtol=0, atol=1e-6)
    assert torch.equal(block.rows[0], job.block(np.arange(2)).rows[0])
    assert block.state["steps"].tolist() == [0, 12]


def test_equal_events_by_hand(make_job: MakeJob, host: Any) -> None:
    """Against a plain loop over a list of finish times, with copies and stale changes."""
    job = make_job({**ASYNC, "rounds": 3, "train.optimizer": {"name": "sgd", "lr": 0.1}})
    block, _ = host(job)
    n, steps, size = job.nodes, job.train.local_steps, job.train.batch_size
    toy = job.block(np.arange(n))
    graph, clock = toy.graph(0), job.clock
    pace = [np.exp(clock.spread * job.streams.numpy("device", i).standard_normal())
            for i in range(n)]  # fmt: skip
    work = [steps * size * (clock.sample_seconds * p) for p in pace]
    models = [toy.rows[i].clone() for i in range(n)]
    copies = [m.clone() for m in models]
    finish, wakes = list(work), [0] * n
    message = 4 * toy.rows.shape[1] + HEADER_BYTES
    link = message / clock.bandwidth + clock.latency
    for _ in range(3 * n):
        i = int(np.argmin(finish))
        others = graph.row(i)
        j = int(others[job.streams.numpy("adpsgd", i, wakes[i]).integers(len(others))])
        toy.rows[i] = copies[i]
        toy.trainer.train(toy, 0, np.array([i]), draw=wakes[i])
        models[i] = models[i] + (toy.rows[i] - copies[i])
        models[i] = models[j] = (models[i] + models[j]) / 2
        copies[i] = models[i].clone()
        wakes[i] += 1
        finish[i] += link + work[i]
    assert block.state["adpsgd.wakes"].tolist() == wakes
    torch.testing.assert_close(block.rows, torch.stack(models), rtol=0, atol=1e-6)
    times = [f - w if k else 0.0 for f, w, k in zip(finish, work, wakes, strict=True)]
    np.testing.assert_allclose(block.state["modelled_time"], times, rtol=1e-9)
    assert block.state["bytes_sent"].sum() == 3 * n * 2 * message
    assert block.state["bytes_sent"].tolist() == block.state["bytes_received"].tolist()


def test_pure_gossip_keeps_the_mean_and_agrees(make_job: MakeJob) -> None:
    job = make_job({**ASYNC, "train.local_steps": 0, "rounds": 40})
    job.algorithm = ADPSGD(codec=Exact())
    block = job.block(np.arange(8))
    generator = torch.Generator().manual_seed(0)
    block.rows = torch.randn(block.rows.shape, generator=generator, dtype=torch.float64)
    block.state["adpsgd.copy"] = block.rows.clone()
    mean = block.rows.mean(0)
    before = (block.rows - mean).square().sum()
    job.evaluate = job.evaluate.model_copy(update={"every": 1000, "nodes": 1})
    host = Host(job, block, job.exchange(), lambda r: None, lambda b, done: None)
    host._measure = lambda t: None  # type: ignore[method-assign]
    host.run()
    assert (block.rows.mean(0) - mean).abs().max() < 1e-12
    assert (block.rows - mean).square().sum() < 1e-6 * before
    wakes = block.state["adpsgd.wakes"]
    assert wakes.max() - wakes.min() <= 1  # without work all are equally fast


def test_fast_nodes_wake_more_often_and_nobody_waits(make_job: MakeJob, host: Any) -> None:
    changes = {"clock": SLOW, "rounds": 12, "topology": "complete", "checkpoint.every": 0}
    block, reports = host(make_job({**changes, "algorithm": "adpsgd"}))
    plain = host(make_job(changes))[0]
    wakes, pace = block.state["adpsgd.wakes"].numpy(), block.clock.pace(block, block.ids)
    order = np.argsort(pace)
    assert (np.diff(wakes[order]) <= 0).all()
    assert wakes[order[0]] > 2 * wakes[order[-1]]
    assert wakes.sum() == 12 * 8
    assert block.state["steps"].sum() == plain.state["steps"].sum()
    assert block.state["modelled_time"].max() < 0.7 * plain.state["modelled_time"].max()
    done = np.array([report["counters"]["modelled_time"].max() for report in reports])
    assert (np.diff(done) > 0).all()
    losses = [np.nanmean(report["values"]["train_loss"]) for report in reports]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("topology", [{"name": "regular", "degree": 3}, CHURN, "matching"])
def test_resumed_is_uninterrupted(
    make_job: MakeJob, host: Any, topology: Any, tmp_path: Path
) -> None:
    changes = {**ASYNC, "topology": topology, "rounds": 6}
    whole, reports = host(make_job(changes))
    job = make_job({**changes, "rounds": 3})
    half, _ = host(job)
    seal(tmp_path, 3, [save_block(half, tmp_path, 3)], 2)
    job = make_job(changes)
    block = job.block(np.arange(8))
    load_block(block, tmp_path / "round-000003", read_manifest(tmp_path / "round-000003"))
    block, later = events(job, block, 3)
    assert torch.equal(block.rows, whole.rows)
    assert block.state.keys() == whole.state.keys()
    for name, value in whole.state.items():
        assert torch.equal(block.state[name], value), name
    np.testing.assert_array_equal(
        later[-1]["values"]["train_loss"], reports[-1]["values"]["train_loss"]
    )


def test_who_was_away_starts_again_from_now(make_job: MakeJob, host: Any) -> None:
    churn = {"name": "churn", "topology": "complete", "absent": {3: [[0, 5]]}}
    job = make_job({**ASYNC, "topology": churn, "rounds": 8})
    block, reports = host(job)
    times = np.stack([report["counters"]["modelled_time"] for report in reports])
    assert (times[:5, 3] == 0).all()
    front = times[4].max()
    assert times[-1, 3] >= front - job.clock.latency - 0.1
    assert block.state["adpsgd.wakes"][3] < block.state["adpsgd.wakes"].double().mean() + 8
    assert block.state["adpsgd.wakes"][3] > 0
    assert [int(r["counters"]["steps"].sum()) for r in reports] == [
        2 * (7 * min(t, 5) + 8 * max(0, t - 5)) for t in range(1, 9)
    ]


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"algorithm": "adpsgd", "clock": "wall"}, "clock", "modelled time"),
        ({**ASYNC, "runtime": {"name": "processes"}, "attack": {"name": "mimic", "nodes": [1]}},
         "attack", "step"),
        ({**ASYNC, "topology": "exponential"}, "algorithm", "one-way"),
        ({"algorithm": {"name": "local_sgd", "period": 0}}, "algorithm.period", "greater"),
        ({"algorithm": {"name": "local_sgd", "algorithm": "adpsgd"}, "clock": SLOW},
         "algorithm.algorithm", "no rounds"),
        ({"algorithm": {"name": "local_sgd", "algorithm": "skiptrain"}},
         "algorithm.algorithm", "schedule itself"),
        ({"algorithm": {"name": "local_sgd", "algorithm": "local_sgd"}},
         "algorithm.algorithm", "schedule itself"),
        ({"algorithm": {"name": "local_sgd", "algorithm": {"name": "el_local", "fanout": 9}}},
         "algorithm.algorithm.fanout", "others"),
        ({"algorithm": "choco", "topology": CHURN}, "algorithm", "changes"),
        ({"algorithm": "el_local", "topology": CHURN}, "topology", "leave"),
        ({"topology": {**CHURN, "absent": {8: [[0, 1]]}}}, "topology.absent.8", "no node"),
        ({"topology": {"name": "random_peers", "symmetric": False}}, "algorithm", "heard"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_explained_beforehand(
    make_job: MakeJob, changes: Any, field: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job(changes)
    assert caught.value.field.startswith(field)
    assert problem in caught.value.problem
    assert caught.value.fix


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_of_messages_the_mean_stays(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Requests and answers take any time, so that averages interleave in any way."""
    rng, late = np.random.default_rng(seed), []
    plain = Agenda.came

    def came(self: Agenda, letters: Any, at_once: bool) -> None:
        if at_once and not any(one is other for one in letters for other in late):
            moved = [replace(one, arrival=self.now + rng.exponential(0.1)) for one in letters]
            late.extend(moved)
            plain(self, moved, False)
        else:
            plain(self, letters, at_once)

    monkeypatch.setattr(Agenda, "came", came)
    job = make_job({**ASYNC, "train.local_steps": 0, "rounds": 8, "topology": "complete"})
    job.algorithm = ADPSGD(codec=Exact())
    block = job.block(np.arange(8))
    generator = torch.Generator().manual_seed(seed)
    block.rows = torch.randn(block.rows.shape, generator=generator, dtype=torch.float64)
    block.state["adpsgd.copy"] = block.rows.clone()
    mean, before = block.rows.mean(0), (block.rows - block.rows.mean(0)).square().sum()
    job.evaluate = job.evaluate.model_copy(update={"every": 1000, "nodes": 1})
    host = Host(job, block, job.exchange(), lambda r: None, lambda b, done: None)
    host._measure = lambda t: None  # type: ignore[method-assign]
    host.run()
    assert len(late) == 2 * 8 * 8
    assert (block.rows.mean(0) - mean).abs().max() < 1e-12
    assert (block.rows - mean).square().sum() < 0.2 * before


@pytest.mark.parametrize("workers", [2, 3])
def test_in_blocks_apart_the_mean_stays_and_all_wake(
    make_job: MakeJob, host_apart: Any, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Whatever comes when: nothing of any model is lost between workers."""
    rng = np.random.default_rng(workers)
    start = torch.from_numpy(rng.standard_normal((8, 910)).astype(np.float32))
    plain = ADPSGD.start

    def begun(self: ADPSGD, block: Any) -> None:
        if block.rows.shape == start[block.ids].shape:  # and not one that is tried
            block.rows.copy_(start[block.ids])
        plain(self, block)

    monkeypatch.setattr(ADPSGD, "start", begun)

    def make() -> Job:
        return make_job({**ASYNC, "train.local_steps": 0, "rounds": 6})

    rows, state, _ = host_apart(make, workers)
    torch.testing.assert_close(rows.double().mean(0), start.double().mean(0), rtol=0, atol=1e-6)
    assert (rows - rows.mean(0)).square().sum() < 0.1 * (start - start.mean(0)).square().sum()
    assert state["adpsgd.wakes"].sum() == 6 * 8
    assert state["messages_sent"].sum() == state["messages_received"].sum() == 2 * 6 * 8


# -- local SGD --------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["dpsgd", "centralized", "jwins", "choco"])
def test_with_period_one_nothing_is_new(make_job: MakeJob, host: Any, inner: str) -> None:
    local = host(make_job({"algorithm": {"name": "local_sgd", "period": 1, "algorithm": inner}}))
    plain = host(make_job({"algorithm": inner}))
    assert torch.equal(local[0].rows, plain[0].rows)


@pytest.mark.parametrize("inner", ["dpsgd", "topk", {"name": "jwins", "cutoffs": [0.3]}])
def test_rounds_between_exchanges_are_more_steps(make_job: MakeJob, host: Any, inner: Any) -> None:
    """What is sent is the change since the last exchange: as if one round had all the steps."""
    job = make_job({"algorithm": {"name": "local_sgd", "period": 3, "algorithm": inner},
                    "rounds": 6})  # fmt: skip
    block, reports = host(job)
    sent = [int(report["counters"]["messages_sent"].sum()) for report in reports]
    assert sent == [0, 0, 24, 24, 24, 48]
    long = make_job({"algorithm": inner, "rounds": 2})
    trainer = long.block(np.arange(8)).trainer
    whole = long.block(np.arange(8))

    class Thrice:
        def __getattr__(self, name: str) -> Any:
            return getattr(trainer, name)

        def train(self, inner_block: Any, t: int, *arguments: Any) -> None:
            for k in range(3):
                trainer.train(inner_block, 3 * t + k, *arguments)

    whole.trainer = Thrice()
    events(long, whole)
    assert torch.equal(block.rows, whole.rows)


# -- networks that change ---------------------------------------------------------------------

FAMILY = [
    "dpsgd",
    "jwins",
    {"name": "topk", "accumulation": True},
    "random_sampling",
    {"name": "local_sgd", "period": 2, "algorithm": "jwins"},
    {"name": "skiptrain", "train_rounds": 1, "sync_rounds": 1},
]


@pytest.mark.parametrize("kind", ["churn", "trace", "random_peers", "matching"])
@pytest.mark.parametrize("algorithm", FAMILY, ids=str)
def test_the_family_runs_on_changing_networks_however_split(
    make_job: MakeJob, host: Any, host_apart: Any, tmp_path: Path, algorithm: Any, kind: str
) -> None:
    (tmp_path / "met.txt").write_text(TRACE)
    topology: Any = {
        "churn": CHURN,
        "trace": {"name": "trace", "path": str(tmp_path / "met.txt")},
    }.get(kind, kind)
    changes = {"algorithm": algorithm, "topology": topology, "clock": {"name": "modelled"}}
    block, _ = host(make_job(changes))
    rows, state, _ = host_apart(lambda: make_job(changes), 3)
    assert torch.equal(rows, block.rows)
    for name in ("steps", "bytes_sent", "bytes_received", "modelled_time"):
        assert torch.equal(state[name], block.state[name]), name


@pytest.mark.parametrize("algorithm", FAMILY, ids=str)
def test_the_absent_come_back_as_they_left(make_job: MakeJob, host: Any, algorithm: Any) -> None:
    job = make_job({"algorithm": algorithm, "topology": CHURN, "rounds": 1})
    seen = []
    for rounds in range(1, 6):
        block, _ = host(make_job({"algorithm": algorithm, "topology": CHURN, "rounds": rounds}))
        seen.append((block.rows, dict(block.state)))
    moved = False
    for t in range(1, 5):
        here = job.network.present(t)
        (rows, state), (later, after) = seen[t - 1], seen[t]
        assert torch.equal(rows[~here], later[~here])
        for name, value in state.items():
            if name in after:
                assert torch.equal(value[~here], after[name][~here]), name
        moved |= not torch.equal(rows[here], later[here])
        assert not here[6]
    assert moved
    assert seen[-1][1]["steps"][6] < seen[-1][1]["steps"].max()


def test_the_number_of_those_present_is_a_metric(
    make_job: MakeJob, small: Any, tmp_path: Path
) -> None:
    changes = {"topology": CHURN, "rounds": 4}
    run(RunFile.parse(small(changes)), tmp_path / "run")
    metrics = RunFolder.open(tmp_path / "run").metrics()
    found = metrics.filter(metrics["name"] == "present").sort("round")
    job = make_job(changes)
    assert found["value"].to_list() == [job.network.present(t).sum() for t in range(4)]
    assert found["value"].min() < 8
