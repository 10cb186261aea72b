"""Sharing part of a model: the equivalence ladder, slow references, and CHOCO's properties."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, Diverged
from hansa.base.streams import Streams
from hansa.codec import QSGD, Codec, Dense, Sign, Sparse, Uniform
from hansa.engine import Block, Job, Network
from hansa.learn import Choco, RandomSampling
from hansa.learn.gossip.parts import largest
from hansa.learn.gossip.tune_gamma import consensus, spread, tune_gamma
from hansa.topology import Graph, Regular, Topology

Make = Callable[..., Job]
DYNAMIC = {"name": "regular", "degree": 4, "dynamic": True}


def both(host: Any, make_job: Make, first: Any, second: Any, **more: Any) -> Any:
    """The rows that two algorithms reach in the same run."""
    return [host(make_job({"algorithm": a, "rounds": 4, **more}))[0].rows for a in (first, second)]


# -- one algorithm equals another ----------------------------------------------------------------


@pytest.mark.parametrize("topology", ["star", DYNAMIC], ids=str)
@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "topk", "share": 1},
        {"name": "topk", "share": 1, "accumulation": True},
        {"name": "random_sampling", "share": 1},
        {"name": "jwins", "cutoffs": [1.0], "wavelet": None},
        {"name": "jwins", "cutoffs": [0.6], "wavelet": None, "whole_above": 0.5},
    ],
    ids=str,
)
def test_who_shares_all_is_dpsgd(
    make_job: Make, host: Any, algorithm: dict[str, Any], topology: Any
) -> None:
    rows, expected = both(host, make_job, algorithm, "dpsgd", topology=topology)
    assert torch.equal(rows, expected)


def test_jwins_that_shares_all_is_dpsgd(make_job: Make, host: Any) -> None:
    rows, expected = both(host, make_job, {"name": "jwins", "cutoffs": [1.0]}, "dpsgd")
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    assert not torch.equal(rows, expected)


@pytest.mark.parametrize("topology", ["star", DYNAMIC], ids=str)
@pytest.mark.parametrize("accumulation", [False, True])
def test_jwins_without_wavelet_at_one_cut_off_is_topk(
    make_job: Make, host: Any, topology: Any, accumulation: bool
) -> None:
    plain = {"cutoffs": [0.3], "wavelet": None, "accumulation": accumulation}
    topk = {"name": "topk", "share": 0.3, "accumulation": accumulation}
    rows, expected = both(host, make_job, {"name": "jwins", **plain}, topk, topology=topology)
    if accumulation:
        # V gathers one sum at a time in one, the change before and after sharing in the other.
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    else:
        assert torch.equal(rows, expected)


@pytest.mark.parametrize("select", ["top", "all"])
def test_choco_that_shares_all_at_full_step_is_dpsgd(
    make_job: Make, host: Any, select: str
) -> None:
    choco = {"name": "choco", "share": 1, "gamma": 1, "select": select}
    if select == "all":
        choco["codec"] = "dense"
    rows, expected = both(host, make_job, choco, "dpsgd")
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-6)


# -- slow references -----------------------------------------------------------------------------


def weights_of(job: Job, block: Any, t: int) -> np.ndarray:
    """Metropolis-Hastings, dense, by its definition."""
    n, graph = job.nodes, block.graph(t)
    w = np.zeros((n, n))
    for i in range(n):
        for j in graph.row(i):
            w[i, j] = 1 / (1 + max(len(graph.row(i)), len(graph.row(int(j)))))
        w[i, i] = 1 - w[i].sum()
    return w


def overlay(x: np.ndarray, masks: np.ndarray, w: np.ndarray) -> np.ndarray:
    found = x.copy()
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                found[i] += w[i, j] * masks[j] * (x[j] - x[i])
    return found


def top(score: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(len(score))
    mask[sorted(range(len(score)), key=lambda c: -abs(score[c]))[:count]] = 1
    return mask


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little noise after the local work: pixels that are alike change alike, and ties between
    them would be broken by the last bit."""
    train = Block.train

    def noisy(block: Block, round: int, *more: Any, **named: Any) -> None:
        train(block, round, *more, **named)
        for k, i in enumerate(block.ids):
            draws = block.streams.numpy("jitter", int(i), round).standard_normal(
                block.rows.shape[1]
            )
            block.rows[k] += torch.from_numpy(1e-2 * draws).float()

    monkeypatch.setattr(Block, "train", noisy)


def slow(job: Job, share: Callable[[Any, int, np.ndarray, np.ndarray], np.ndarray]) -> Any:
    """Rows after all rounds: the local work of the engine, then ``share(block, t, x0, x)``."""
    block = job.block(np.arange(job.nodes))
    for t in range(job.rounds):
        before = block.rows.double().numpy().copy()
        block.train(t)
        after = share(block, t, before, block.rows.double().numpy().copy())
        block.rows.copy_(torch.from_numpy(after))
    return block.rows


def close(rows: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
    assert expected.std(0).max() > 0.01


@pytest.mark.usefixtures("jitter")
@pytest.mark.parametrize("topology", [{"name": "regular", "degree": 3}, "star", DYNAMIC], ids=str)
@pytest.mark.parametrize("accumulation", [False, True])
def test_topk(make_job: Make, host: Any, topology: Any, accumulation: bool) -> None:
    algorithm = {"name": "topk", "share": 0.2, "accumulation": accumulation}
    job = make_job({"algorithm": algorithm, "topology": topology, "rounds": 4})
    gathered = 0.0

    def share(block: Any, t: int, start: np.ndarray, x: np.ndarray) -> np.ndarray:
        nonlocal gathered
        scores = x - start + gathered
        masks = np.stack([top(score, round(0.2 * x.shape[1])) for score in scores])
        new = overlay(x, masks, weights_of(job, block, t))
        if accumulation:
            gathered = gathered * (1 - masks) + new - start
        return new

    close(host(job)[0].rows, slow(job, share))


@pytest.mark.usefixtures("jitter")
@pytest.mark.parametrize("topology", [{"name": "regular", "degree": 3}, "star", DYNAMIC], ids=str)
def test_random_sampling(make_job: Make, host: Any, topology: Any) -> None:
    algorithm = {"name": "random_sampling", "share": 0.3}
    job = make_job({"algorithm": algorithm, "topology": topology, "rounds": 4})

    def share(block: Any, t: int, start: np.ndarray, x: np.ndarray) -> np.ndarray:
        seeds = [job.streams.integer("random_sampling", i, t) for i in range(job.nodes)]
        draws = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
        uniform = np.stack([d.random(x.shape[1], dtype=np.float32) for d in draws])
        return overlay(x, (uniform <= 0.3).astype(float), weights_of(job, block, t))

    close(host(job)[0].rows, slow(job, share))


@pytest.mark.usefixtures("jitter")
@pytest.mark.parametrize("topology", [{"name": "regular", "degree": 3}, "star", DYNAMIC], ids=str)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"accumulation": False},
        {"wavelet": "db4", "levels": 2},
        {"cutoffs": [1.0, 0.1], "probabilities": [0.1, 0.9]},
    ],
    ids=str,
)
def test_jwins(make_job: Make, host: Any, topology: Any, more: dict[str, Any]) -> None:
    job = make_job({"algorithm": {"name": "jwins", **more}, "topology": topology, "rounds": 4})
    made: Any = job.algorithm
    gathered: Any = 0.0

    def there(x: np.ndarray) -> np.ndarray:
        return np.stack(
            [np.concatenate(pywt.wavedec(row, made.wavelet, level=made.levels)) for row in x]
        )

    def back(y: np.ndarray, size: int) -> np.ndarray:
        like = pywt.wavedec(np.zeros(size), made.wavelet, level=made.levels)
        cuts = np.cumsum([len(part) for part in like])[:-1]
        return np.stack([pywt.waverec(np.split(row, cuts), made.wavelet)[:size] for row in y])

    def share(block: Any, t: int, start: np.ndarray, x: np.ndarray) -> np.ndarray:
        nonlocal gathered
        y, scores = there(x), there(x - start) + gathered
        masks = []
        for i, score in enumerate(scores):
            random = job.streams.numpy("jwins", i, t)
            alpha = random.choice(made.cutoffs, p=made.probabilities)
            count = len(score) if alpha >= 0.5 else round(alpha * len(score))
            masks.append(top(score, count))
        new = back(overlay(y, np.stack(masks), weights_of(job, block, t)), x.shape[1])
        if made.accumulation:
            gathered = gathered * (1 - np.stack(masks)) + there(new - start)
        return new

    close(host(job)[0].rows, slow(job, share))


@pytest.mark.usefixtures("jitter")
@pytest.mark.parametrize("topology", [{"name": "regular", "degree": 3}, "star"], ids=str)
def test_choco(make_job: Make, host: Any, topology: Any) -> None:
    algorithm = {"name": "choco", "share": 0.2, "gamma": 0.3}
    job = make_job({"algorithm": algorithm, "topology": topology, "rounds": 4})
    public: Any = 0.0

    def share(block: Any, t: int, start: np.ndarray, x: np.ndarray) -> np.ndarray:
        nonlocal public
        gap = x - public
        masks = np.stack([top(row, round(0.2 * x.shape[1])) for row in gap])
        public = public + masks * gap
        return x + 0.3 * (weights_of(job, block, t) @ public - public)

    close(host(job)[0].rows, slow(job, share))


@given(st.integers(0, 12), st.lists(st.integers(-3, 3), min_size=12, max_size=12))
def test_the_largest_are_chosen_and_the_first_of_equals(count: int, numbers: list[int]) -> None:
    scores = torch.tensor([numbers], dtype=torch.float32)
    found = largest(scores, np.array([count]))[0]
    assert found.tolist() == np.flatnonzero(top(scores[0].numpy(), count)).tolist()


# -- what CHOCO promises -------------------------------------------------------------------------


class Given(Topology):
    """A graph of the test's own."""

    graph_: Any = None

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        return self.graph_


def spec_network() -> Network:
    """16 nodes, random 4-regular, networkx's seed 1: where the spec's anchors were measured."""
    edges = np.array(nx.random_regular_graph(4, 16, seed=1).edges)
    graph = Graph.from_edges(16, edges[:, 0], edges[:, 1], symmetric=True)
    return Network(Given(graph_=graph), 16, Streams(1))


def start(nodes: int, size: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((nodes, size)))


@pytest.mark.parametrize(
    ("share", "gamma", "error"),
    [(0.2, 0.2, 3e-12), (0.2, 0.4, 1e-23), (0.2, 0.6, 2e-2), (0.1, 0.2, 5e-13), (0.1, 0.3, 5e-5)],
)
def test_consensus_is_reached_as_published(share: float, gamma: float, error: float) -> None:
    rows = start(16, 2000)
    after = consensus(Choco(share=share, gamma=gamma), spec_network(), rows, 200)
    assert spread(after) == pytest.approx(error, rel=0.5)
    assert (after.mean(0) - rows.mean(0)).abs().max() < 1e-12


@pytest.mark.parametrize(("share", "gamma"), [(0.2, 1.0), (0.1, 0.6)])
def test_too_large_a_gamma_diverges_and_raises_the_alarm(share: float, gamma: float) -> None:
    rows, network = start(16, 2000), spec_network()
    silent = Choco(share=share, gamma=gamma, alarm=None)
    assert spread(consensus(silent, network, rows, 200)) > 10 * spread(rows)
    with pytest.raises(Diverged, match=f"gamma {gamma:g}.*lower algorithm.gamma") as caught:
        consensus(Choco(share=share, gamma=gamma), network, rows, 200)
    assert caught.value.node is not None


@settings(max_examples=30)
@given(
    st.floats(0.02, 1),
    st.floats(0.01, 1),
    st.sampled_from(["top", "random", "all"]),
    st.sampled_from([Dense(), Dense(dtype="float16"), QSGD(), Sign(), Uniform()]),
)
def test_choco_keeps_the_mean(share: float, gamma: float, select: Any, values: Codec) -> None:
    codec = values if select == "all" else Sparse(values=values)
    choco = Choco(share=share, gamma=gamma, select=select, codec=codec, alarm=None)
    rows = start(8, 60)
    after = consensus(choco, Network(Regular(degree=3), 8, Streams(2)), rows, 15)
    scale = max(1.0, float(after.abs().max()))
    assert (after.mean(0) - rows.mean(0)).abs().max() < 1e-12 * scale


def test_overlays_do_not_keep_the_mean() -> None:
    """How the published schemes work: random masks of .37 move the mean by half its size."""
    rows = start(16, 2000)
    any_scheme: Any = RandomSampling(share=0.37)
    after = consensus(any_scheme, spec_network(), rows, 100)
    assert spread(after) < 1e-6
    drift = float((after.mean(0) - rows.mean(0)).square().mean().sqrt())
    assert drift == pytest.approx(0.147, rel=0.15)


def test_the_best_gamma_is_found() -> None:
    told: list[float] = []
    network = spec_network()
    found = tune_gamma(
        Choco(share=0.2, gamma=0.01),
        network,
        size=400,
        rounds=60,
        grid=(0.01, 0.1, 0.4, 1.0),
        tell=lambda gamma, error: told.append(gamma),
    )
    assert found.gamma == 0.4
    assert told == list(found.errors) == [0.01, 0.1, 0.4, 1.0]
    assert found.errors[0.01] > found.errors[0.1] > found.errors[0.4]
    assert found.errors[1.0] > 1


def test_a_run_that_diverges_names_node_round_and_gamma(make_job: Make, host: Any) -> None:
    choco = {"name": "choco", "share": 0.02, "gamma": 1.0, "alarm": 3}
    with pytest.raises(Diverged, match="CHOCO diverges with gamma 1") as caught:
        host(make_job({"algorithm": choco, "topology": "complete", "rounds": 60}))
    assert caught.value.node in range(8)
    assert 1 < (caught.value.round or 0) <= 60


# -- refused before round 0 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "field", "value"),
    [
        ({"name": "jwins", "probabilities": [0.5] * 7}, "probabilities", (0.5,) * 7),
        ({"name": "jwins", "probabilities": [1.0]}, "probabilities", (1.0,)),
        ({"name": "jwins", "cutoffs": [1], "probabilities": [np.nan]}, "probabilities.0", None),
        ({"name": "jwins", "cutoffs": []}, "cutoffs", ()),
        ({"name": "jwins", "cutoffs": [0.1, 1.5]}, "cutoffs", (0.1, 1.5)),
        ({"name": "jwins", "levels": 9}, "levels", 9),
        ({"name": "jwins", "wavelet": "sym200"}, "wavelet", "sym200"),
        ({"name": "choco", "gamma": 0}, "gamma", 0),
        ({"name": "choco", "gamma": 1.1}, "gamma", 1.1),
        ({"name": "choco", "share": 0}, "share", 0),
        ({"name": "topk", "share": 1.01}, "share", 1.01),
        ({"name": "jwins", "codec": "dense"}, "codec", {"name": "dense", "dtype": "float32"}),
        ({"name": "topk", "codec": "seeded"}, "codec", None),
        ({"name": "random_sampling", "codec": "dense"}, "codec", None),
        ({"name": "choco", "select": "all"}, "codec", None),
        ({"name": "choco", "codec": "qsgd"}, "codec", {"name": "qsgd", "bits": 4}),
        ({"name": "dpsgd", "codec": "sparse"}, "codec", None),
        ({"name": "el_local", "codec": "raw"}, "codec", {"name": "raw"}),
        ({"name": "centralized", "codec": "seeded"}, "codec", None),
        ({"name": "topk", "codec": {"name": "sparse", "values": "sparse"}}, "codec", None),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(
    make_job: Make, algorithm: dict[str, Any], field: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job({"algorithm": algorithm})
    assert caught.value.field == f"algorithm.{field}"
    if value is not None:
        assert caught.value.value == value
    assert caught.value.fix


def test_choco_on_a_changing_graph_is_refused(make_job: Make) -> None:
    with pytest.raises(ConfigError, match="fixed neighbours") as caught:
        make_job({"algorithm": "choco", "topology": DYNAMIC})
    assert caught.value.field == "algorithm"
    assert "jwins" in caught.value.fix
