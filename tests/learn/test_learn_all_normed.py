"""Every algorithm on a network with statistics, counters and random draws, however it is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.engine.block import Block
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block, seal
from hansa.engine.runtimes.host import Host

NET = """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.b(F.dropout(self.n(self.a(x.flatten(1))).relu(), 0.2, self.training))
"""
CLOCK = {"clock": {"name": "modelled", "spread": 0.8, "sample_seconds": 0.01}}
NEEDS: dict[str, dict[str, Any]] = {
    "cpfl": {
        "algorithm": {"cohorts": 2, "stop": None, "distillation": {"epochs": 1}},
        "data": {"name": "digits", "public": 0.05},
        "evaluate": {"every": 1, "local_validation": 0.1},
    },
    "fedbuff": {"algorithm": {"concurrency": 4, "buffer": 3}, **CLOCK},
    "greedy": {"algorithm": {"budget": 2}},
    "skiptrain_constrained": {"algorithm": {"budget": 2}},
    "adpsgd": CLOCK,
    "secure_dpsgd": {"algorithm": {"keys": "seeded"}},  # where blocks are apart they are random
    "scalefl": {"algorithm": {"widths": [1.0], "shares": [1.0]}},
}
ALONE = ("adpsgd", "fedbuff")  # between workers the sockets say what comes when
ALGORITHMS = sorted(
    name
    for name, method in catalogue("algorithm").items()
    if method.__module__.startswith(("hansa.learn.", "hansa.forget.")) and name != "quickdrop"
)
ROUNDS = 3


@pytest.fixture
def make(tmp_path: Path, make_job: Callable[..., Job]) -> Callable[[str], Job]:
    """A small job of an algorithm."""
    file = tmp_path / "all_normed.py"
    file.write_text(NET)

    def of(name: str) -> Job:
        own = dict(NEEDS.get(name, {}))
        algorithm = {"name": name, **own.pop("algorithm", {})}
        model = {"name": "module", "path": f"{file}:Net"}
        evaluate = {"evaluate": {"every": 1}}
        return make_job(
            {"algorithm": algorithm, "model": model, "rounds": ROUNDS, **evaluate, **own}
        )

    return of


def same(one: Block, rows: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
    """Models and all that is counted, to the last bit."""
    assert torch.equal(one.rows, rows)
    for name, value in one.state.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("name", ALGORITHMS)
def test_blocks_apart_are_one_block(
    make: Callable[[str], Job], host: Callable[..., Any], host_apart: Callable[..., Any], name: str
) -> None:
    block, reports = host(make(name))
    for report in reports:
        measured = report["measured"]["values"]["loss"]
        assert np.isfinite(measured[~np.isnan(measured)]).all()
        assert not np.isnan(measured).all()
    again, told = host(make(name))
    same(block, again.rows, again.state)
    for one, other in zip(reports, told, strict=True):
        for key, value in one["measured"]["values"].items():
            np.testing.assert_array_equal(value, other["measured"]["values"][key])
    if name in ALONE:
        return
    rows, state, _ = host_apart(lambda: make(name), 3)
    same(block, rows, state)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_goes_on_from_a_checkpoint(
    make: Callable[[str], Job], host: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    whole, reports = host(make(name))
    job = make(name)
    told: list[Any] = []

    def save(block: Block, done: int) -> None:
        seal(tmp_path, done, [save_block(block, tmp_path, done)], 9)

    job.rounds, job.checkpoint = ROUNDS, job.checkpoint.model_copy(update={"every": 2})
    Host(job, job.block(np.arange(job.nodes)), job.exchange(), told.append, save).run()
    job = make(name)
    block = job.block(np.arange(job.nodes))
    load_block(block, tmp_path / "round-000002", read_manifest(tmp_path / "round-000002"))
    told.clear()
    exchange = job.exchange()
    Host(job, block, exchange, told.append, lambda block, done: None).run(2)
    same(whole, block.rows, block.state)
    for key, value in reports[-1]["measured"]["values"].items():
        np.testing.assert_array_equal(value, told[-1]["measured"]["values"][key])


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "jwins"},
        {"name": "adpsgd"},
        {"name": "choco", "select": "random", "gamma": 0.5, "share": 0.2, "alarm": None},
        {"name": "choco", "select": "all", "gamma": 0.3, "codec": "sign", "alarm": None},
        {"name": "fedavg", "codec": "qsgd"},
    ],
    ids=lambda algorithm: "-".join(map(str, algorithm.values())),
)
def test_variances_stay_above_zero(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Path, algorithm: Any
) -> None:
    """However far the statistics move in a round, and whatever compression makes of them."""
    file = tmp_path / "all_normed.py"
    file.write_text(NET.replace("(1))).relu()", "(1)).relu())"))  # features that vary little
    train = {"train.local_steps": 20, "rounds": 5, "evaluate": {"every": 1}}
    more = NEEDS.get(algorithm["name"], {})
    model = {"name": "module", "path": f"{file}:Net"}
    block, reports = host(make_job({"algorithm": algorithm, "model": model, **train, **more}))
    for report in reports:
        measured = report["measured"]["values"]["loss"]
        assert np.isfinite(measured[~np.isnan(measured)]).all()
    assert (block.trainer.layout.views(block.rows)["n.running_var"] >= 0).all()


def test_quickdrop_refuses_it(make: Callable[[str], Job]) -> None:
    with pytest.raises(ConfigError, match="running statistics"):
        make("quickdrop")
