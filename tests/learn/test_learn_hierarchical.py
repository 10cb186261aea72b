"""Clients under edge servers under a cloud: a plain reference, and FedAvg where it is FedAvg."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.engine import Job
from hansa.engine.exchange.backhaul import BACKHAUL, bytes_by_level
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.learn.federated.hierarchical import HEARD
from hansa.learn.federated.stand_ins import taken_over

N = 8
CLOUD = N
CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
ROW = 910 * 4
UNEVEN = {"name": "dirichlet", "alpha": 0.5, "min_samples": 10}
SKEWED = {"data": {"name": "digits", "partition": UNEVEN}}
FEW = settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def hierarchical(edges: Any = 3, **more: Any) -> dict[str, Any]:
    return {**SKEWED, "algorithm": {"name": "hierarchical", "edges": edges, **more}}


def lists_of(edge: list[int]) -> list[list[int]]:
    """The clients of each edge, from the edge of each client; edges without one are left out."""
    return [[c for c, of in enumerate(edge) if of == k] for k in sorted({*edge})]


EDGES = st.lists(st.integers(0, 3), min_size=N, max_size=N).map(lists_of)


def trained(job: Job, rows: torch.Tensor, t: int) -> torch.Tensor:
    """The models [N, D] of all clients after the local steps of a round, from these."""
    crew = job.bench(N)
    crew.rows.copy_(rows)
    crew.train(t)
    return crew.rows.double()


def reference(
    job: Job,
    lists: list[list[int]],
    edge_rounds: int,
    away: set[tuple[int, int]] = frozenset(),  # type: ignore[assignment]
    rehome: bool = False,
) -> torch.Tensor:
    """The cloud's model [D] in the end, as the paper's algorithm 1 has it: averages of models.

    Args:
        away: (edge, round) in which an edge takes no part. What it did before and could not hand
            over when the cloud had its round is lost, and it goes on from the cloud's model.
    """
    sizes = np.array([len(part) for part in job.parts], dtype=np.float64)
    cloud = job.bench(N).rows[0].double().clone()
    edges = [cloud.clone() for _ in lists]
    mass, home = np.zeros(len(lists)), np.zeros(N, dtype=np.int64)
    for k, clients in enumerate(lists):
        home[clients] = k
    fresh = [True] * len(lists)
    for t in range(job.rounds):
        there = np.array([(k, t) not in away for k in range(len(lists))])
        has = taken_over(home, there) if rehome else np.where(there[home], home, -1)
        for k in np.flatnonzero(there).tolist():
            if not fresh[k]:
                edges[k], mass[k], fresh[k] = cloud.clone(), 0.0, True
        start = torch.stack([edges[max(int(k), 0)].float() for k in has])
        models = trained(job, start, t)
        for k in range(len(lists)):
            mine = np.flatnonzero(has == k)
            if len(mine):
                weights = torch.from_numpy(sizes[mine] / sizes[mine].sum())
                edges[k] = weights @ models[torch.from_numpy(mine)]
                mass[k] += sizes[mine].sum()
        if (t + 1) % edge_rounds == 0 or t + 1 == job.rounds:
            came = np.flatnonzero(there & (mass > 0))
            weights = torch.from_numpy(mass[came] / mass[came].sum())
            cloud = cloud + weights @ (torch.stack([edges[k] for k in came]) - cloud)
            fresh = [False] * len(lists)
    return cloud


def outcome(block: Any) -> torch.Tensor:
    who, models = block.models()
    assert block.ids[who].tolist() == [CLOUD]
    return models[0]


@FEW
@given(lists=EDGES, edge_rounds=st.integers(1, 4), seed=st.integers(0, 99))
def test_it_is_the_average_of_averages(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    lists: list[list[int]],
    edge_rounds: int,
    seed: int,
) -> None:
    """Also where the rounds end between two of the cloud."""
    changes = {**hierarchical(lists, edge_rounds=edge_rounds), "seed": seed}
    block, _ = host(make_job(changes))
    expected = reference(make_job(changes), lists, edge_rounds)
    torch.testing.assert_close(outcome(block).double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rehome", [False, True])
@pytest.mark.parametrize("edge_rounds", [1, 2])
def test_edges_that_are_away(
    make_job: Callable[..., Job], host: Callable[..., Any], rehome: bool, edge_rounds: int
) -> None:
    """Clients wait or are taken over, the others' weights grow, and who is back has the model."""
    lists = [[0, 3, 6], [1, 4], [2, 5, 7]]
    changes = hierarchical(
        lists, edge_rounds=edge_rounds, orphans="rehome" if rehome else "wait"
    ) | {
        "rounds": 7,
        "faults": {"absent": {CLOUD + 1: [[2, 4]], CLOUD + 3: [[3, 4], [6, 7]]}},
    }
    away = {(0, 2), (0, 3), (2, 3), (2, 6)}
    block, reports = host(make_job(changes))
    expected = reference(make_job(changes), lists, edge_rounds, away, rehome)
    torch.testing.assert_close(outcome(block).double(), expected, rtol=0, atol=2e-6)
    invited = [
        np.flatnonzero(~np.isnan(report["log"]["client_start"])).tolist() for report in reports
    ]
    assert invited[2] == ([*range(N)] if rehome else [1, 2, 4, 5, 7])
    servers = reports[3]["log"]["client_server"]
    assert (servers[[*range(N)]] == CLOUD + 2).all() if rehome else len(invited[3]) == 2


def test_clients_that_are_taken_over_can_be_drawn(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Each by itself, here with chance 1."""
    lists = [[0, 3, 6], [1, 4], [2, 5, 7]]
    changes = hierarchical(lists, orphans="rehome", sampler="poisson", sampled=N) | {
        "rounds": 2,
        "faults": {"absent": {CLOUD + 1: [[0, 2]]}},
    }
    _, reports = host(make_job(changes))
    assert not np.isnan(reports[1]["log"]["client_start"][:N]).any()


@FEW
@given(lists=EDGES, seed=st.integers(0, 99), faulty=st.booleans())
def test_with_a_cloud_after_each_round_it_is_fedavg(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    lists: list[list[int]],
    seed: int,
    faulty: bool,
) -> None:
    """However clients are put under edges, and whoever of them fails to answer."""
    changes = {**hierarchical(lists, edge_rounds=1), "seed": seed}
    if faulty:  # clients that are away
        changes["faults"] = {"absent": {0: [[1, 3]], 5: [[0, 1]]}}
    block, _ = host(make_job(changes))
    other, _ = host(make_job({**changes, "algorithm": "fedavg"}))
    torch.testing.assert_close(outcome(block), other.rows[0], rtol=0, atol=3e-6)
    assert torch.equal(block.state["samples"][:N], other.state["samples"][:N])


@pytest.mark.parametrize("more", [{}, {"sampled": 3, "server": "momentum"}], ids=["all", "some"])
def test_under_one_edge_it_is_fedavg(
    make_job: Callable[..., Job], host: Callable[..., Any], more: dict[str, Any]
) -> None:
    """Though the cloud hears of it every third round only; the streams differ where some are
    sampled, since the server has another number."""
    block, _ = host(make_job(hierarchical(1, edge_rounds=3, **more)))
    other, _ = host(make_job({**SKEWED, "algorithm": {"name": "fedavg", **more}}))
    if more:
        took_part = [int(b.state["training_rounds"].sum()) for b in (block, other)]
        assert took_part[0] == took_part[1]
        return
    torch.testing.assert_close(outcome(block), other.rows[0], rtol=0, atol=3e-6)


def test_it_goes_on_from_where_it_was(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """The last model of the cloud is made without touching what a longer run goes on from."""
    changes = hierarchical(edge_rounds=2)
    short, _ = host(make_job({**changes, "rounds": 3}))
    block, _ = host(make_job({**changes, "rounds": 4}))
    assert not torch.equal(outcome(short), short.rows[0])
    assert torch.equal(outcome(block), block.rows[0])
    assert short.kept[HEARD].tolist() == [0, 1, 1, 1]


def test_bytes_by_level_are_those_of_the_messages(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    block, reports = host(make_job({**hierarchical(edge_rounds=2), "rounds": 4}))
    sent, between = block.state["bytes_sent"].numpy(), block.state[BACKHAUL].numpy()
    levels = bytes_by_level(sent, between, N)
    assert sum(levels.values()) == int(sent.sum())
    assert levels["client_to_edge"] == 4 * N * (ROW + HEADER_BYTES)
    assert levels["edge_to_cloud"] == 2 * 3 * (ROW + 3 * 4 + HEADER_BYTES)  # with three numbers
    assert levels["cloud_to_edge"] == 2 * 3 * (ROW + HEADER_BYTES)
    invitation = HEADER_BYTES + 1 + 3 * (1 + 1)
    assert levels["edge_to_client"] == 4 * N * (ROW + HEADER_BYTES + invitation)
    assert reports[-1]["counters"][BACKHAUL].tolist() == between.tolist()


def test_codecs_are_chosen_by_level(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    plain, _ = host(make_job(hierarchical(edge_rounds=1)))
    coded, _ = host(make_job(hierarchical(edge_rounds=1, cloud={"codec": "uniform"})))
    one, other = (
        bytes_by_level(b.state["bytes_sent"].numpy(), b.state[BACKHAUL].numpy(), N)
        for b in (plain, coded)
    )
    assert other["edge_to_cloud"] < 0.5 * one["edge_to_cloud"]
    for level in ("client_to_edge", "edge_to_client", "cloud_to_edge"):
        assert one[level] == other[level]


def test_links_between_servers_have_their_own_speed(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """By hand: the edges' round, and the way to the cloud and back."""
    clock = {**CLOCK, "spread": 0.0, "backhaul_bandwidth": 1e4, "backhaul_latency": 0.5}
    changes = {"algorithm": {"name": "hierarchical", "edges": 2, "edge_rounds": 2}, "rounds": 4}
    block, reports = host(make_job({**changes, "clock": clock}))
    client = 0.03 + 16e-3 + (ROW + HEADER_BYTES) / 1e5 + 0.03
    up = 0.5 + (ROW + 12 + HEADER_BYTES) / 1e4
    down = 0.5 + (ROW + HEADER_BYTES) / 1e4
    times = [report["counters"]["modelled_time"][CLOUD:] for report in reports]
    assert times[0][1:] == pytest.approx([client] * 2)
    assert times[1][0] == pytest.approx(2 * client + up)
    assert times[1][1:] == pytest.approx([2 * client + up + down] * 2)
    assert times[3][0] == pytest.approx(4 * client + 2 * up + down)
    assert float(block.state["transfer_time"][CLOUD:].sum()) == 0  # clients' links


@pytest.mark.parametrize("orphans", ["wait", "rehome"])
def test_what_is_lost_on_the_way_to_and_from_the_cloud(
    make_job: Callable[..., Job], host: Callable[..., Any], orphans: str
) -> None:
    """An edge whose update is lost is left out; one that lacks the model asks and gets it."""
    lost = [[1, CLOUD + 1, CLOUD, "edge update"], [3, CLOUD, CLOUD + 2, "cloud model"]]
    changes = hierarchical(edge_rounds=2, orphans=orphans) | {"rounds": 6, "faults": {"lost": lost}}
    block, reports = host(make_job(changes))
    missing = [[e for e in r["events"] if e["kind"] == "missing"] for r in reports]
    assert [[e["of"] for e in round] for round in missing] == [
        [], ["edge update"], [], ["cloud model"], [], []
    ]  # fmt: skip
    assert block.kept[HEARD].tolist() == [0, 3, 3, 3]
    assert torch.equal(block.rows[1], block.rows[0])
    assert torch.equal(block.rows[2], block.rows[0])


def test_a_word_that_is_lost_makes_others_take_over(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Whom the cloud does not hear it takes to be away, and everybody is served once."""
    changes = hierarchical(edge_rounds=2, orphans="rehome")
    changes["faults"] = {"lost": [[1, CLOUD + 1, CLOUD, "edge"]]}
    block, reports = host(make_job(changes))
    servers = reports[1]["log"]["client_server"][:N]
    assert not np.isnan(servers).any()
    assert CLOUD + 1 not in servers
    assert (reports[2]["log"]["client_server"][:N] == CLOUD + 1).any()
    assert block.kept[HEARD].tolist() == [0, 2, 2, 2]


def test_it_stops_by_what_clients_say_of_the_clouds_model(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Only where they got that very model, so every second round; the best one is selected."""
    changes = hierarchical(
        2, edge_rounds=2, select="best", stop={"window": 1, "patience": 1, "min_delta": 0.1}
    ) | {"rounds": 40, "evaluate": {"every": 1, "local_validation": 0.1}}
    job = make_job({**changes, "train.local_steps": 8})
    block, reports = host(job)
    assert 4 < len(reports) < 40
    assert len(reports) % 2 == 0
    stopped = [e["server"] for r in reports for e in r["events"] if e["kind"] == "stopped"]
    assert stopped == [CLOUD]
    judged = [r["values"].get("local_validation_loss") for r in reports]
    seen = [k for k, values in enumerate(judged) if values is not None]
    assert seen == [*range(1, len(reports), 2)]
    assert all(np.isnan(judged[k][CLOUD + 1 :]).all() for k in seen)
    best = block.kept["federated.best"][0]
    assert torch.equal(outcome(block), best)


@pytest.mark.slow
def test_a_robust_cloud_shrugs_off_a_bad_edge(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """All clients of an edge attack, so that its edge can do nothing about it."""
    lists = [[0, 1], [2, 3], [4, 5], [6, 7]]
    attack = {"name": "sign_flip", "nodes": [0, 1], "scale": 20.0}
    final = {}
    for name in ("mean", "median"):
        cloud = {"aggregator": name}
        method = {"name": "hierarchical", "edges": lists, "edge_rounds": 1, "cloud": cloud}
        changes = {"algorithm": method, "attack": attack, "train.local_steps": 12}
        reports = host(make_job({**changes, "evaluate": {"every": 5}}))[1]
        final[name] = float(np.nanmax(reports[-1]["measured"]["values"]["accuracy"]))
    assert final["median"] > 0.5 > 0.3 > final["mean"]
