"""Federated methods where messages get lost and clients are away."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import ConfigError, RunError
from hansa.engine import Job
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import HEADER_BYTES, unpack_control
from hansa.experiment import run
from hansa.learn.federated.invitation import DONE, LOST

N, SERVER = 8, 8
CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
STOP = {"window": 2, "patience": 2, "min_delta": 0.4}
BASE: dict[str, Any] = {
    "clock": CLOCK,
    "rounds": 6,
    "evaluate": {"every": 2, "local_validation": 0.1},
    "faults": {"loss": 0.1, "absent": {2: [[1, 3]], 5: [[4, None]]}},
}
METHODS: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "late": {"name": "fedavg", "sampled": 4, "over_selection": 2},
    "two messages": {"name": "fednova", "codec": "qsgd"},
    "fedprox": {"name": "fedprox", "mu": 0.1, "sampled": 6},
    "momentum": {"name": "fedavg", "global_momentum": 0.5},
    "parts": {"name": "scalefl"},
    "cohorts": {"name": "cpfl", "cohorts": 2, "merge": "average", "stop": STOP},
}


def losses(reports: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Every message that did not come, from the events."""
    return Counter(
        (report["round"], event["of"], event["exchange"], *pair, event["outcome"])
        for report in reports
        for event in report["events"]
        if event["kind"] == "missing"
        for pair in zip(event["senders"], event["receivers"], strict=True)
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_lossy_run_is_the_same_in_any_blocks(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    method: str,
) -> None:
    """Models, counters, modelled time and energy, to the bit."""
    algorithm = {**METHODS[method], "on_failed_round": "skip"}
    changes = {**BASE, "algorithm": algorithm, "faults.loss": 0.25}
    whole, reports = host(make_job(changes))
    fates = [report["log"]["client_outcome"] for report in reports]
    assert any((fate == LOST).any() for fate in fates)
    assert any((fate == DONE).any() for fate in fates)
    assert {kind for _, kind, *_ in losses(reports)} >= {"invite", "model", "update"}
    for workers in (2, 3):
        rows, state, posts = host_apart(lambda: make_job(changes), workers)
        assert torch.equal(rows, whole.rows)
        for name, value in whole.state.items():
            assert torch.equal(state[name], value), name
        assert all(not post.dropped for post in posts)


def test_the_weights_of_those_that_came_make_up(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Beside a loop over clients, with an invitation, a model and two updates lost."""
    quantity = {"name": "digits", "partition": {"name": "quantity", "min_samples": 20}}
    lost = [[0, SERVER, 1, "invite"], [0, SERVER, 3, "model"]]
    lost += [[0, 4, SERVER, "update"], [0, 6, SERVER]]
    job = make_job({"rounds": 1, "data": quantity, "algorithm": "fedavg", "faults": {"lost": lost}})
    block, (report,) = host(job)
    crew = job.bench(N)
    crew.train(0)
    came = [0, 2, 5, 7]
    total = sum(len(job.parts[i]) for i in came)
    mean = sum(len(job.parts[i]) / total * crew.rows[i].double() for i in came)
    torch.testing.assert_close(block.rows[0].double(), mean, rtol=0, atol=1e-6)
    fates = report["log"]["client_outcome"][:N]
    assert np.flatnonzero(fates == DONE).tolist() == came
    assert np.flatnonzero(fates == LOST).tolist() == [1, 3, 4, 6]
    assert report["values"]["participants"][SERVER] == 4
    # Who has no model does nothing; who is not invited is sent none.
    assert (block.state["steps"][:N] > 0).tolist() == [i not in (1, 3) for i in range(N)]
    assert int(block.state["messages_sent"][SERVER]) == 2 * N - 1
    assert block.state["messages_received"][:N].tolist() == [2, 0, 2, 1, 2, 2, 2, 2]
    assert block.state["messages_sent"][:N].tolist() == [int(i not in (1, 3)) for i in range(N)]
    assert int(block.state["messages_received"][SERVER]) == 4
    assert losses([report]) == Counter(
        (1, kind, number, *pair, "skip")
        for kind, number, pair in (
            ("invite", 0, (SERVER, 1)),
            ("model", 1, (SERVER, 3)),
            ("update", 0, (4, SERVER)),
            ("update", 0, (6, SERVER)),
        )
    )


def test_too_few_that_come_fail_a_round(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    lost = [[0, i, SERVER, "update"] for i in range(6)]
    settings = {"name": "fedavg", "min_updates": 3}
    changes = {"rounds": 1, "clock": CLOCK, "faults": {"lost": lost}}
    with pytest.raises(RunError, match=r"got 2 updates.*2 done, 6 lost.*on_missing: wait"):
        host(make_job({**changes, "algorithm": settings}))
    job = make_job({**changes, "algorithm": {**settings, "on_failed_round": "skip"}})
    before = job.block(np.arange(9)).rows.clone()
    block, (report,) = host(job)
    assert torch.equal(block.rows, before)
    assert "round_failed" in {event["kind"] for event in report["events"]}
    # It waits for them until they were due.
    last = np.nanmax(report["log"]["client_end"])
    assert report["counters"]["modelled_time"][SERVER] >= last


def test_what_is_waited_for_comes(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    """A model that comes with a delay is the same model."""
    changes = {"rounds": 3, "algorithm": "fedavg", "clock": CLOCK}
    clean, _ = host(make_job(changes))
    block, reports = host(make_job({**changes, "faults": {"loss": 0.4, "on_missing": "wait"}}))
    assert torch.equal(block.rows, clean.rows)
    assert torch.equal(block.state["bytes_sent"], clean.state["bytes_sent"])
    resent = Counter(sender for _, _, _, sender, *_ in losses(reports).elements())
    assert block.state["messages_resent"].tolist() == [resent[i] for i in range(N + 1)]
    assert (block.state["modelled_time"] > clean.state["modelled_time"]).any()


def test_a_run_ends_at_once_everywhere_though_words_get_lost(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    """That a run is over is told until it is heard."""
    settings = {"name": "cpfl", "cohorts": 2, "merge": "average", "stop": STOP}
    lost = [[t, 8, i, "over"] for t in range(12) for i in range(N)]
    lost += [[t, 9, 8, "going"] for t in range(12)]
    changes = {**BASE, "rounds": 12, "algorithm": settings, "faults": {"lost": lost}}
    whole, reports = host(make_job(changes))
    assert 2 < len(reports) < 12
    assert int(whole.state["messages_resent"][8]) == N
    rows, state, _ = host_apart(lambda: make_job(changes), 3)
    assert torch.equal(rows, whole.rows)
    assert torch.equal(state["bytes_resent"], whole.state["bytes_resent"])


def test_who_is_away_is_not_invited(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    changes = {"rounds": 4, "algorithm": "fedavg", "faults": {"absent": {2: [[1, 3]]}}}
    reports = host(make_job(changes))[1]
    invited = [~np.isnan(report["log"]["client_outcome"][:N]) for report in reports]
    assert [here[2] for here in invited] == [True, False, False, True]
    assert all(np.delete(here, 2).all() for here in invited)


def test_scaffold_says_why_it_cannot(make_job: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match="no longer the mean") as caught:
        make_job({"algorithm": "scaffold", "faults": {"loss": 0.1}})
    assert caught.value.field == "faults.loss"
    make_job({"algorithm": "scaffold", "faults": {"loss": 0.1, "on_missing": "wait"}})


def test_no_worker_is_told_of_clients_that_live_elsewhere(
    make_job: Callable[..., Job], host_apart: Callable[..., Any]
) -> None:
    """All frames between workers: words only for nodes there, and models beside them."""
    seen: Counter[str] = Counter()

    def watch(posts: list[SitePost]) -> None:
        for post in posts:

            def send(header: Any, payload: Any, *more: Any, post: SitePost = post) -> None:
                to = post.owner[header.receiver]
                assert {post.owner[h.receiver] for h in (header, *more)} == {to}
                assert header.kind != "share"
                seen[header.kind] += 1
                if not header.elements:
                    said = unpack_control(payload)
                    assert {post.owner[i] for i in said["receivers"].tolist()} <= {to}
                    assert said.keys() == {"kind", "senders", "receivers", "at", "sizes", "body"}
                SitePost.send(post, header, payload, *more)

            post.send = send  # type: ignore[method-assign]

    settings = {"name": "fedavg", "sampled": 4, "over_selection": 2, "stop": STOP}
    changes = {**BASE, "algorithm": settings}
    changes.pop("faults")
    host_apart(lambda: make_job(changes), 3, watch)
    assert seen.keys() >= {"invite", "model", "update", "release", "over"}


def test_an_invitation_costs_71_bytes(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """However many clients there are."""
    for clients in (8, 30):
        job = make_job({"nodes": clients, "rounds": 1, "algorithm": "fedavg"})
        state = host(job)[0].state
        models = clients * (910 * 4 + HEADER_BYTES)
        assert int(state["bytes_sent"][clients]) - models == clients * 71


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"name": "fedavg"}, id="fedavg"),
        pytest.param(
            {"name": "cpfl", "cohorts": 2, "merge": "average", "stop": None},
            id="cpfl",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_processes_lose_the_same(
    small: Callable[..., Any], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A tenth of the messages lost, and clients that come and go, through a run file."""
    changes = {**BASE, "rounds": 3, "algorithm": settings, "checkpoint": {"every": 3}}
    chosen = small(changes)
    chosen.pop("topology")
    rows, bytes_sent = [], []
    for runtime in ("simulate", {"name": "processes", "workers": 2}):
        name = runtime if isinstance(runtime, str) else "processes"
        folder = run({**chosen, "runtime": runtime}, tmp_path / name, report=name == "processes")
        assert folder.summary is not None
        bytes_sent.append(folder.summary["bytes_sent"])
        files = (tmp_path / name / "checkpoints/round-000003").glob("*.safetensors")
        parts = list(map(load_file, files))
        order = torch.cat([part["residents"] for part in parts]).argsort()
        rows.append(torch.cat([part["rows"] for part in parts])[order])
    assert torch.equal(*rows)
    assert bytes_sent[0] == bytes_sent[1]
    events = [event for event in folder.events() if event["kind"] == "missing"]
    assert events
    assert "a message to or from them was lost" in (tmp_path / "processes/report.html").read_text()


def test_a_round_in_which_all_are_away_says_so(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Their batteries are full."""
    away = {node: [[0, 1]] for node in range(N)}
    with pytest.raises(RunError, match=r"none invited\. All are away in this round"):
        host(make_job({**BASE, "algorithm": "fedavg", "faults": {"absent": away}}))
