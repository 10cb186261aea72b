"""Nobody touches another's examples or scores: every run of the engine on the way to an ensemble.

Each run is played again in parties of one node, from a plan and a holding in files; all else is
spoiled. What looks at others' examples fails, or comes to other models.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.combine.ensemble.run import ensemble
from hansa.engine import Job
from hansa.experiment import played

from ..engine.apart import in_order, parties_of, play_apart
from .conftest import QUICK

KNOWN = {"name": "sgd", "lr": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "clients": {
        "rules": ["average", "voting", "per_class", "residual"],
        "choose": "robust",
        "baselines": {"methods": ["fedavg", "fedadam"], "rounds": 2, "every": 2},
    },
    "peers": {
        "rules": ["average", "per_class"],
        "aggregate": {"over": "peers", "topology": "ring", "rounds": 3, "every": 3, "folds": 2},
    },
    "crossed": {"proxies": "crossed", "rules": ["voting", "experts"]},
}


@pytest.mark.parametrize("case", CASES)
def test_every_run_needs_its_own_clients_data_alone(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: dict[Path, Job] = {}
    plain = played.host_job

    def watched(job: Job, runtime: Any, collector: Any, *given: Any, **more: Any) -> Any:
        # Its data are spoiled afterwards, and its network is filled with what the run comes to.
        own = {"dataset": copy.deepcopy(job.dataset), "module": copy.deepcopy(job.module)}
        jobs[collector.folder.path] = replace(job, **own)
        return plain(job, runtime, collector, *given, **more)

    monkeypatch.setattr(played, "host_job", watched)
    settings = {
        "models": [{"name": "mlp", "hidden": [8]}],
        "local": {"epochs": 1, "optimizer": KNOWN, "strategy": "looped"},
        "aggregate": {"rounds": 3, "every": 3, "folds": 2, "strategy": "looped"},
    }
    given = QUICK | settings | CASES[case]
    run = ensemble(given, tmp_path / "run", report=False)
    root = run.path
    kinds = {path.relative_to(root).parts[0] for path in jobs if path.is_relative_to(root)}
    assert {"members", "judging"} < kinds
    assert any(kind.startswith("rule_") for kind in kinds)
    for k, (path, job) in enumerate(jobs.items()):
        if not path.is_relative_to(root):  # a fold is fitted where the run was begun
            continue
        groups = [np.array([i]) for i in range(job.nodes)]
        (folder := tmp_path / f"apart_{k}").mkdir()
        blocks, _ = play_apart(parties_of(job, folder, groups), groups)
        saved = played.latest(path / "checkpoints")
        assert saved is not None
        block = job.block(np.arange(job.nodes))
        played.load_block(block, saved, played.read_manifest(saved))
        apart = in_order(blocks)
        assert torch.equal(apart.models, block.models()[1]), path
        for name in ("bytes_sent", "bytes_received"):
            assert torch.equal(apart.state[name], block.state[name]), (path, name)
        events = [event for one in blocks for event in one.events]
        told = [{k: v for k, v in e.items() if k in ("votes", "right", "robust")} for e in events]
        assert all(any(e.items() >= said.items() for e in played_events(path)) for said in told)


def played_events(path: Path) -> list[dict[str, Any]]:
    return played.RunFolder.open(path).events()
