"""Statistics of normalization layers: no method makes more of them than an average."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.learn.federated.federated import Federated

PLAIN: dict[str, dict[str, Any]] = {
    "fedprox": {"mu": 0.0},
    "cpfl": {"cohorts": 1, "stop": None, "select": "last", "merge": "none"},
    "scalefl": {"widths": [1.0], "shares": [1.0]},
    "hierarchical": {"edges": 2, "edge_rounds": 1},
}
"""What makes the clients of a method work as FedAvg's do, in the first round."""
METHODS = sorted(
    name
    for name, method in catalogue("algorithm").items()
    if issubclass(method, Federated) and method.__module__.startswith("hansa.")
)
NET = """
from torch import nn

def net():
    layers = nn.Linear(64, 6), nn.BatchNorm1d(6, momentum=0.5), nn.ReLU(), nn.Linear(6, 10)
    return nn.Sequential(nn.Flatten(), *layers)

def at_the_inputs():  # what it keeps is the last batch's, whatever it was before
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, momentum=1.0), nn.Linear(64, 10))
"""


@pytest.fixture
def normed(tmp_path: Any, make_job: Callable[..., Job]) -> Callable[..., Job]:
    """A job of a network with a BatchNorm layer."""
    file = tmp_path / "normed_nets.py"
    file.write_text(NET)

    def make(changes: dict[str, Any], net: str = "net") -> Job:
        return make_job({"model": {"name": "module", "path": f"{file}:{net}"}, **changes})

    return make


def statistics(block: Any) -> torch.Tensor:
    layout = block.trainer.layout
    return block.rows[:, layout.size - layout.statistics :]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", ["full", {"name": "uniform", "low": 1, "high": 6}], ids=str)
def test_every_server_averages_them(
    normed: Callable[..., Job], host: Callable[..., Any], method: str, budget: Any
) -> None:
    """As FedAvg does, whatever the server makes of the parameters and however much each worked."""
    if method == "quickdrop":
        pytest.skip("takes no model with statistics, and says so")
    changes = {"rounds": 1, "train.budget": budget, "train.local_steps": 4}
    weighting = {"weighting": "examples"}
    expected = host(normed({"algorithm": {"name": "fedavg", **weighting}, **changes}))[0]
    algorithm = {"name": method, **weighting, **PLAIN.get(method, {})}
    block = host(normed({"algorithm": algorithm, **changes}))[0]
    every = statistics(expected).expand_as(statistics(block))
    torch.testing.assert_close(statistics(block), every, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fednova_is_fedavg_where_all_work_alike(
    normed: Callable[..., Job], host: Callable[..., Any], momentum: float
) -> None:
    """Over several rounds, the whole model."""
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": momentum}
    changes = {"train.optimizer": optimizer, "rounds": 4, "train.local_steps": 3}
    rows = [host(normed({"algorithm": m, **changes}))[0].rows for m in ("fedavg", "fednova")]
    torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-5)


def test_fedbuff_averages_what_late_clients_saw(
    normed: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """The server's statistics are the plain mean of the clients', however late they are."""
    clock = {"name": "modelled", "spread": 1.5, "sample_seconds": 0.01}
    method = {"name": "fedbuff", "concurrency": 5, "buffer": 3}
    job = normed({"algorithm": method, "clock": clock, "rounds": 1}, "at_the_inputs")
    ages, at_work = [], np.zeros(8, dtype=bool)
    for rounds in range(1, 7):
        job.rounds = rounds
        block, reports = host(job)
        ages.append(reports[-1]["values"]["staleness"][8])
        lines = [report["log"]["client_start"][:8] for report in reports]
        starts = np.array([~np.isnan(line) for line in lines])
        ends = block.kept["fedbuff.end"][0].numpy()
        began = np.where(starts.any(0), rounds - 1 - starts[::-1].argmax(0), -1)
        # Who delivered in this round: who was at work or started in it, and is done now.
        before, at_work = at_work, np.isfinite(ends)
        due = np.flatnonzero((before | starts[-1]) & ~at_work)
        assert len(due) == 3
        seen = []
        for i in due:
            version = int(began[i])
            count = job.train.local_steps * job.train.batch_size
            order = job.streams.numpy("batches", int(i), version).permutation(job.parts[i])[:count]
            last = torch.from_numpy(order[-job.train.batch_size :])
            x = job.dataset.gather(job.dataset.train, last)[0].flatten(1)
            seen.append(torch.cat([x.mean(0), x.var(0)]))
        torch.testing.assert_close(
            statistics(block)[0], torch.stack(seen).mean(0), rtol=1e-5, atol=1e-5
        )
    assert max(ages) > 0


# -- statistics of one's own -----------------------------------------------------------------------


def test_measured_are_the_models_as_clients_use_them(
    normed: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    """The server's parameters under each client's own statistics, for those who took part."""
    method = {"name": "fedavg", "buffers": "local", "sampled": 3}
    changes = {"algorithm": method, "rounds": 2, "evaluate": {"every": 1}}
    job = normed(changes)
    block, reports = host(job)
    ids, own = block.shelves["client.buffers"].all()
    assert 3 <= len(ids) < 8
    rows = block.rows[:1, : -own.shape[1]].repeat(len(ids), 1)
    trainer = job.trainer()
    expected = trainer.evaluate(torch.cat([rows, own], dim=1), job.dataset.test, 500)
    trainer.close()
    for name, values in reports[-1]["measured"]["values"].items():
        assert np.flatnonzero(~np.isnan(values)).tolist() == ids.tolist()
        np.testing.assert_allclose(values[ids], expected[name], rtol=1e-5)
    # Not the server's own row, which has the statistics of the start.
    server = job.trainer().evaluate(block.rows, job.dataset.test, 500)
    assert abs(server["loss"][0] - expected["loss"].mean()) > 0.01
    apart, state, _ = host_apart(lambda: normed(changes), 3)
    assert torch.equal(apart, block.rows)
    for name, value in block.state.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("merge", ["average", "distill", "none"])
def test_cohorts_without_statistics_are_not_merged(
    normed: Callable[..., Job], host: Callable[..., Any], merge: str
) -> None:
    method = {"name": "cpfl", "cohorts": 2, "buffers": "local", "merge": merge, "stop": None}
    data = {"name": "digits", "public": 0.1}
    changes = {"algorithm": {**method, "select": "last"}, "data": data, "rounds": 2}
    if merge != "none":
        with pytest.raises(ConfigError, match="statistics of its own"):
            normed(changes)
        return
    measured = host(normed(changes))[1][-1]["measured"]["values"]
    assert np.isfinite(measured["accuracy"][:8]).all()


# -- counters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_counters_are_averaged_and_rounded(
    normed: Callable[..., Job], host: Callable[..., Any], method: str
) -> None:
    """By the weights of the models; with equal work they are those of a client."""
    if method == "quickdrop":
        pytest.skip("takes no model with statistics, and says so")
    algorithm = {"name": method, "weighting": "uniform", **PLAIN.get(method, {})}
    name = "buffer.2.num_batches_tracked"
    block = host(normed({"algorithm": algorithm, "rounds": 3, "train.local_steps": 2}))[0]
    assert block.state[name][block.residents].tolist() == [6] * len(block.residents)
    budget = {"name": "classes", "shares": [0.5, 0.5], "steps_each": [1, 4]}
    changes = {"algorithm": algorithm, "rounds": 1, "train.local_steps": 4, "train.budget": budget}
    block = host(normed(changes))[0]
    assert block.state[name][block.residents].tolist() == [2] * len(block.residents)  # 2.5, even


def test_late_counters_are_averaged_too(
    normed: Callable[..., Job], host: Callable[..., Any]
) -> None:
    clock = {"name": "modelled", "spread": 1.5, "sample_seconds": 0.01}
    method = {"name": "fedbuff", "concurrency": 5, "buffer": 3}
    block = host(normed({"algorithm": method, "clock": clock, "rounds": 6}))[0]
    counted = int(block.state["buffer.2.num_batches_tracked"][8])
    assert 4 < counted <= 12


def test_a_running_mean_of_all_batches_goes_on(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Any
) -> None:
    """With momentum None the counter decides: one client of FedAvg is a node that trains alone."""
    file = tmp_path / "cumulative.py"
    file.write_text(NET.replace("momentum=0.5", "momentum=None"))
    changes = {
        "model": {"name": "module", "path": f"{file}:net"},
        "nodes": 2,
        "rounds": 4,
        "topology": "complete",
        "train.optimizer": {"name": "sgd", "lr": 0.1},
    }
    alone = host(make_job({**changes, "algorithm": "isolated"}))[0]
    cohorts = {"name": "cpfl", "cohorts": 2, "stop": None, "select": "last", "merge": "none"}
    served = host(make_job({**changes, "algorithm": cohorts}))[0]
    torch.testing.assert_close(served.rows, alone.rows, rtol=1e-5, atol=1e-6)
