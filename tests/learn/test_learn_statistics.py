"""Statistics of normalization layers: no method makes more of them than an average."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue
from hansa.engine import Job
from hansa.learn.federated import Federated

PLAIN: dict[str, dict[str, Any]] = {
    "fedprox": {"mu": 0.0},
    "cpfl": {"cohorts": 1, "stop": None, "select": "last", "merge": "none"},
    "scalefl": {"widths": [1.0], "shares": [1.0]},
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
    torch.testing.assert_close(statistics(block), statistics(expected), rtol=1e-6, atol=1e-6)


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
