"""Every algorithm against a slow, plain one: a module and an optimizer a node, and loops."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine import Job, Network
from hansa.learn import ELLocal, ELOracle
from hansa.models import ParameterLayout
from hansa.topology import Regular

ROUNDS = 5


def batches(job: Job, node: int, t: int) -> list[torch.Tensor]:
    """A loader that shuffles, drops its last smaller batch, and starts again when it ends."""
    random = job.streams.numpy("batches", node, t)
    size, found = job.train.batch_size, []
    while len(found) < job.train.local_steps:
        order = random.permutation(job.parts[node])
        for start in range(0, len(order) - size + 1, size):
            found.append(torch.from_numpy(order[start : start + size]))
    return found[: job.train.local_steps]


def reference(job: Job, weights: Callable[[int], list[dict[int, float]]]) -> torch.Tensor:
    """Rows [n, D] after all rounds; ``weights(t)[i][j]`` is what i gives to j in round t."""
    modules = [copy.deepcopy(job.module) for _ in range(job.nodes)]
    settings = {k: v for k, v in job.train.optimizer.dump().items() if k != "name"}
    optimizers = [torch.optim.SGD(module.parameters(), **settings) for module in modules]
    train = job.dataset.train
    for t in range(job.rounds):
        for i, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            for index in batches(job, i, t):
                x, y = job.dataset.gather(train, index)
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x), y).backward()
                if job.train.clip_norm is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), job.train.clip_norm)
                optimizer.step()
        sent = [copy.deepcopy(module.state_dict()) for module in modules]
        for i, given_to in enumerate(weights(t)):
            assert abs(sum(given_to.values()) - 1) < 1e-12
            mixed = {
                name: sum(w * sent[j][name].double() for j, w in given_to.items())
                for name in sent[i]
            }
            modules[i].load_state_dict(mixed)
    layout = ParameterLayout.of(job.module)
    return torch.stack([layout.flatten(module) for module in modules])


def hearings(job: Job, t: int, algorithm: Any = None) -> list[list[int]]:
    """Whom each node hears in round t."""
    block = job.block(np.arange(job.nodes))
    graph = (algorithm or job.algorithm).graph(block, t)
    return [graph.row(i).tolist() for i in range(job.nodes)]


def metropolis(heard: list[list[int]]) -> list[dict[int, float]]:
    found = []
    for i, others in enumerate(heard):
        row = {j: 1 / (1 + max(len(others), len(heard[j]))) for j in others}
        row[i] = 1 - sum(row.values())
        found.append(row)
    return found


def plain_mean(heard: list[list[int]]) -> list[dict[int, float]]:
    return [dict.fromkeys([i, *others], 1 / (1 + len(others))) for i, others in enumerate(heard)]


def close(rows: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05


TOPOLOGIES = [
    "ring",
    "star",
    {"name": "regular", "degree": 3},
    {"name": "regular", "degree": 4, "dynamic": True},
    {"name": "erdos_renyi", "p": 0.5},
]


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_dpsgd(
    make_job: Callable[..., Job], host: Callable[..., Any], topology: Any, strategy: str
) -> None:
    job = make_job({"topology": topology, "train.strategy": strategy, "train.local_steps": 3})
    rows = host(job)[0].rows
    close(rows, reference(job, lambda t: metropolis(hearings(job, t))))


def test_dpsgd_with_all_that_local_work_offers(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """More steps than a pass has batches, clipping, Nesterov, decay, and uniform weights."""
    job = make_job(
        {
            "data": {"name": "digits", "train_samples": 200},
            "train.local_steps": 7,
            "train.clip_norm": 0.7,
            "train.optimizer": {
                "name": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 0.01,
            },
            "algorithm": {"name": "dpsgd", "weights": "uniform"},
            "topology": "star",
            "rounds": 3,
        }
    )
    close(host(job)[0].rows, reference(job, lambda t: plain_mean(hearings(job, t))))


@pytest.mark.parametrize("algorithm", [{"name": "el_local", "fanout": 2}, {"name": "el_oracle"}])
@pytest.mark.parametrize("strategy", ["looped", "stacked"])
def test_epidemic_learning(
    make_job: Callable[..., Job], host: Callable[..., Any], algorithm: Any, strategy: str
) -> None:
    job = make_job({"algorithm": algorithm, "train.strategy": strategy})
    close(host(job)[0].rows, reference(job, lambda t: plain_mean(hearings(job, t))))


def test_centralized_is_the_mean_of_all_each_round(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    job = make_job({"algorithm": "centralized"})
    block, reports = host(job)
    n, everyone = job.nodes, list(range(job.nodes))
    all_hear_all = [[j for j in everyone if j != i] for i in everyone]
    close(block.rows, reference(job, lambda t: plain_mean(all_hear_all)))
    assert torch.equal(block.rows, block.rows[:1].expand_as(block.rows))
    assert all(report["measured"]["spread"] < 1e-10 for report in reports if report["measured"])
    # Up to one node and down again: 2 (n - 1) messages a round.
    assert block.state["messages_sent"].sum() == ROUNDS * 2 * (n - 1)
    assert block.state["bytes_sent"].sum() == block.state["bytes_received"].sum()


def test_isolated_nodes_learn_alone(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    job = make_job({"algorithm": "isolated"})
    block, _ = host(job)
    close(block.rows, reference(job, lambda t: [{i: 1.0} for i in range(job.nodes)]))
    assert block.state["messages_sent"].sum() == block.state["bytes_sent"].sum() == 0


@given(nodes=st.integers(2, 20), t=st.integers(0, 5), seed=st.integers(0, 5), data=st.data())
def test_el_local_sends_to_so_many_others_each_round(
    nodes: int, t: int, seed: int, data: st.DataObject
) -> None:
    fanout = data.draw(st.integers(1, nodes - 1))
    block: Any = type("Named", (), {"nodes": nodes, "streams": Streams(seed)})
    graph = ELLocal(fanout=fanout).graph(block, t)
    assert graph.nodes == nodes
    assert graph.out_degrees.tolist() == [fanout] * nodes
    assert graph == ELLocal(fanout=fanout).graph(block, t)


def test_el_local_hears_anyone_equally_often() -> None:
    block: Any = type("Named", (), {"nodes": 10, "streams": Streams(1)})
    heard = np.zeros((10, 10))
    rounds = 400
    for t in range(rounds):
        graph = ELLocal(fanout=3).graph(block, t)
        np.add.at(heard, (graph.receivers, graph.indices), 1)
    off = heard[~np.eye(10, dtype=bool)] / rounds
    assert np.abs(off - 1 / 3).max() < 5 * np.sqrt(2 / 9 / rounds)


def test_el_oracle_draws_a_regular_graph_each_round() -> None:
    block: Any = type("Named", (), {"nodes": 10, "streams": Streams(1)})
    graphs = [ELOracle(degree=3).graph(block, t) for t in range(3)]
    for graph in graphs:
        assert graph.symmetric
        assert graph.connected
        assert graph.in_degrees.tolist() == [3] * 10
    assert graphs[0] != graphs[1]
    assert graphs[1] != graphs[2]


@pytest.mark.parametrize(
    ("algorithm", "nodes", "field"),
    [
        ({"name": "el_local", "fanout": 8}, 8, "algorithm.fanout"),
        ({"name": "el_oracle", "degree": 8}, 8, "algorithm.degree"),
        ({"name": "el_oracle", "degree": 3}, 7, "algorithm.degree"),
        ({"name": "centralized"}, 1, "algorithm"),
        ({"name": "dpsgd", "weights": "metropolis"}, 8, "algorithm.weights"),
        ({"name": "el_local", "fanout": 0}, 8, "algorithm.fanout"),
    ],
)
def test_what_cannot_work_is_explained_beforehand(
    make_job: Callable[..., Job], algorithm: Any, nodes: int, field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job({"algorithm": algorithm, "nodes": nodes, "topology": "complete"})
    assert caught.value.field == field


def test_metropolis_hastings_needs_a_graph_that_goes_both_ways(
    make_job: Callable[..., Job],
) -> None:
    with pytest.raises(ConfigError, match="uniform") as caught:
        make_job({"topology": "one_peer_exponential"})
    assert caught.value.field == "algorithm.weights"
    make_job(
        {"topology": "one_peer_exponential", "algorithm": {"name": "dpsgd", "weights": "uniform"}}
    )


# -- one algorithm equals another ----------------------------------------------------------------


def test_a_changing_topology_that_does_not_change_is_the_static_one(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    class Unchanging(Regular):
        """Says that it changes, and always gives the same graph."""

        @property
        def changing(self) -> bool:
            return True

    static = make_job()
    still = make_job()
    still.network = Network(Unchanging(degree=3), 8, still.streams)
    assert torch.equal(host(static)[0].rows, host(still)[0].rows)


def test_a_schedule_of_one_topology_in_turns_with_itself_is_that_topology(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    turns = {"name": "schedule", "graphs": ["ring", "ring", {"name": "ring"}]}
    turning = host(make_job({"topology": turns}))[0]
    assert torch.equal(host(make_job({"topology": "ring"}))[0].rows, turning.rows)


@pytest.mark.parametrize("weights", ["metropolis_hastings", "uniform"])
def test_on_a_complete_graph_dpsgd_is_centralized(
    make_job: Callable[..., Job], host: Callable[..., Any], weights: str
) -> None:
    complete = make_job(
        {"topology": "complete", "algorithm": {"name": "dpsgd", "weights": weights}}
    )
    block, reports = host(complete)
    central, _ = host(make_job({"algorithm": "centralized"}))
    torch.testing.assert_close(block.rows, central.rows, rtol=0, atol=1e-6)
    for report in reports:
        if report["measured"]:
            distance = np.sqrt(report["measured"]["spread"] / 8)
            assert distance <= 1e-6


def test_el_oracle_is_dpsgd_with_uniform_weights_on_a_dynamic_regular_graph(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    oracle, _ = host(make_job({"algorithm": {"name": "el_oracle", "degree": 4}}))
    dynamic, _ = host(
        make_job(
            {
                "topology": {"name": "regular", "degree": 4, "dynamic": True},
                "algorithm": {"name": "dpsgd", "weights": "uniform"},
            }
        )
    )
    assert torch.equal(oracle.rows, dynamic.rows)


@pytest.mark.parametrize("model", ["logistic", "mlp", "gn_lenet"])
def test_looped_and_stacked_agree(
    make_job: Callable[..., Job], host: Callable[..., Any], model: str
) -> None:
    changes = {"model": model, "rounds": 2}
    looped, first = host(make_job(changes | {"train.strategy": "looped"}))
    stacked, second = host(make_job(changes | {"train.strategy": "stacked"}))
    torch.testing.assert_close(looped.rows, stacked.rows, rtol=0, atol=1e-5)
    for name, value in first[-1]["counters"].items():
        assert np.array_equal(value, second[-1]["counters"][name])


# -- wherever the nodes live -----------------------------------------------------------------------

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "dpsgd": [
        {},
        {"algorithm.codec": {"name": "dense", "dtype": "bfloat16"}},
        {"topology": {"name": "regular", "degree": 4, "dynamic": True}},
        {"topology": "complete"},
        {"topology": "star", "train.optimizer": {"name": "adam", "lr": 0.01}},
    ],
    "el_local": [{"algorithm.fanout": 2}],
    "topk": [
        {},
        {"algorithm.accumulation": True, "algorithm.share": 0.4, "topology": "star"},
        {"algorithm.codec": {"name": "sparse", "index": "plain", "values": "qsgd"}},
    ],
    "random_sampling": [
        {},
        {"algorithm.codec": {"name": "seeded", "values": "uniform"}},
        {"topology": {"name": "regular", "degree": 4, "dynamic": True}},
    ],
    "choco": [
        {},
        {"algorithm.select": "all", "algorithm.codec": "qsgd", "algorithm.gamma": 0.3},
        {"algorithm.select": "random", "topology": "star", "algorithm.gamma": 0.2},
    ],
    "jwins": [
        {},
        {"topology": {"name": "regular", "degree": 4, "dynamic": True}},
        {"algorithm.codec": {"name": "sparse", "index": "gamma", "values": "lossless"}},
        {"algorithm.wavelet": None, "algorithm.accumulation": False, "topology": "star"},
    ],
    "greedy": [{"algorithm.budget": 2}, {"algorithm.budget": 1, "algorithm.algorithm": "choco"}],
    "skiptrain": [
        {"algorithm.train_rounds": 1, "algorithm.sync_rounds": 1},
        {"algorithm.train_rounds": 2, "algorithm.algorithm": "jwins"},
    ],
    "skiptrain_constrained": [{"algorithm.budget": 1}],
    "fedavg": [
        {},
        {"algorithm.sampled": 4, "algorithm.over_selection": 1.5, "algorithm.failure": 0.3},
        {"algorithm.deadline": 0.11, "algorithm.codec": "qsgd", "algorithm.download": "uniform"},
        {"algorithm.global_momentum": 0.5, "train.budget": "uniform"},
        {"evaluate.local_validation": 0.1, "algorithm.select": "best", "algorithm.sampled": 3},
        {"train.optimizer": "gel", "algorithm.sampled": 5, "algorithm.sampler": "size"},
    ],
    "fedprox": [{"algorithm.mu": 0.1}],
    "fednova": [
        {"train.budget": "uniform"},
        {"algorithm.codec": "qsgd", "algorithm.sampled": 5},
    ],
    "scaffold": [
        {"algorithm.sampled": 4},
        {"algorithm.codec": "uniform", "train.budget": "uniform"},
    ],
    "fedadam": [{"algorithm.sampled": 5}],
    "scalefl": [
        {},
        {"algorithm.codec": "qsgd", "algorithm.download": "uniform", "algorithm.sampled": 5},
        {"train.optimizer": "gel", "algorithm.deadline": 0.11, "train.budget": "uniform"},
        {"evaluate.local_validation": 0.1, "algorithm.select": "best"},
    ],
    "fedbuff": [
        {"algorithm.concurrency": 4, "algorithm.buffer": 3},
        {
            "algorithm.concurrency": 6,
            "algorithm.buffer": 2,
            "algorithm.max_staleness": 1,
            "algorithm.failure": 0.2,
            "algorithm.codec": "qsgd",
        },
    ],
    "cpfl": [
        {
            "algorithm.cohorts": 3,
            "algorithm.sampled": 2,
            "algorithm.distillation": {"epochs": 2},
            "data": {"name": "digits", "public": 0.1},
            "evaluate.local_validation": 0.1,
        },
        {
            "algorithm.cohorts": {"name": "label_balanced", "cohorts": 2},
            "algorithm.merge": "average",
            "algorithm.stop": None,
            "evaluate.local_validation": 0.1,
        },
    ],
    "hierarchical": [
        {"algorithm.edges": 2, "algorithm.edge_rounds": 2, "algorithm.sampled": 2},
        {
            "algorithm.edges": [[0, 3], [1, 2, 5, 6, 7], [4]],
            "algorithm.edge_rounds": 1,
            "algorithm.orphans": "rehome",
            "algorithm.cloud": {"codec": "qsgd", "server": "momentum", "download": "uniform"},
            "faults": {"absent": {9: [[1, 2]], 10: [[0, 2]]}, "loss": 0.1},
        },
    ],
    "secure_dpsgd": [{"algorithm.keys": "seeded"}],  # at random they differ by nature
}
"""Settings to try each algorithm with; one that is not named is tried with its defaults."""


def _tried() -> list[dict[str, Any]]:
    found = []
    for name, part in catalogue("algorithm").items():
        # An algorithm whose nodes keep their own pace lives in one block only.
        if (
            part.__module__.startswith(("hansa.learn.", "hansa.forget."))
            and part.own_pace is not True
        ):
            found += [{"algorithm": {"name": name}, **more} for more in VARIANTS.get(name, [{}])]
    return found


CLOCK = {"name": "modelled", "spread": 0.5, "bandwidth": 1e5, "radio_joules_per_byte": 1e-6}


@pytest.mark.parametrize(
    "settings", _tried(), ids=lambda s: "-".join(map(str, [s["algorithm"]["name"], *s][:3]))
)
def test_blocks_apart_reach_the_bits_of_one_block(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    settings: dict[str, Any],
) -> None:
    """Looped: to the last bit, counters and modelled time and energy too, for 1 to 8 blocks.

    In three they are not of one size; in 2 and 4 see the stacked ones, and runs in processes.
    """
    changes = {**settings, "clock": CLOCK, "rounds": 3}
    whole, _ = host(make_job(changes))
    for workers in (1, 3, 8):
        rows, state, posts = host_apart(lambda: make_job(changes), workers, once=True)
        assert torch.equal(rows, whole.rows)
        assert set(state) == set(whole.state)
        for name, value in whole.state.items():
            assert torch.equal(state[name], value), name
        assert [post.dropped for post in posts] == [{}] * workers


@pytest.mark.parametrize("workers", [2, 4])
def test_stacked_blocks_apart_reach_the_same_numbers(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    workers: int,
) -> None:
    """Batched products may add in another order for another number of nodes: 1e-5."""
    changes = {"train.strategy": "stacked", "clock": CLOCK}
    whole, _ = host(make_job(changes))
    rows, state, _ = host_apart(lambda: make_job(changes), workers)
    torch.testing.assert_close(rows, whole.rows, rtol=0, atol=1e-5)
    for name, value in whole.state.items():
        if not name.startswith("optimizer."):
            assert torch.equal(state[name], value), name
