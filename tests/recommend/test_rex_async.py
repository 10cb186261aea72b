"""REX without rounds: done again to the bit, and whoever comes and goes, walks go on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.experiment import resume, run
from hansa.experiment.replays import replay_of
from hansa.recommend.exposure import holders
from hansa.recommend.recommend_file import RecommendFile

from .rated import rated_job
from .test_rex_runtimes import assert_same, settings_of

CLOCK = {"name": "modelled", "spread": 1.0, "sample_seconds": 0.01}


def chosen(rounds: int, workers: int = 0, **rex: Any) -> RecommendFile:
    runtime = {"name": "processes", "workers": workers} if workers else {"name": "simulate"}
    more = {"clock": CLOCK, "evaluate": {"every": 2, "dense_start": False}}
    return RecommendFile.parse(settings_of(rounds, runtime, {"name": "rex_async", **rex}, **more))


@pytest.mark.slow
def test_what_processes_did_is_done_again_to_the_bit(tmp_path: Path) -> None:
    limits = {"hops": 2, "budget": 9}
    settings = chosen(4, 2, share="both", exposure=limits, reconcile="remembered")
    done = run(settings, tmp_path / "run", report=False)
    again = run(replay_of(done.path), tmp_path / "again", report=False)
    assert_same(done.path, again.path, 4)


def test_a_resume_comes_to_what_a_whole_run_does(tmp_path: Path) -> None:
    run(chosen(4, share="both", exposure={"expiry": 2}), tmp_path / "whole", report=False)
    run(chosen(2, share="both", exposure={"expiry": 2}), tmp_path / "cut", report=False)
    resume(tmp_path / "cut", {"rounds": 4}, report=False)
    assert_same(tmp_path / "whole", tmp_path / "cut", 4)


@pytest.mark.parametrize("reconcile", ["none", "remembered"])
def test_walks_go_on_while_nodes_come_and_go(reconcile: str, host: Callable[..., Any]) -> None:
    rest = {"topology": {"name": "complete"}, "absent": {1: [[2, 6]], 4: [[0, 5]]}}
    topology = {"name": "churn", **rest} if reconcile == "none" else None
    job = rated_job(
        name="rex_async",
        rounds=25,
        ratings=100,
        topology=topology,
        clock=CLOCK | {"spread": 0.2},
        reconcile=reconcile,
    )
    block, reports = host(job)
    assert holders(block).mean() > 5.9  # the last ones are on their way
    wakes = np.array([r["values"]["wakes"] for r in reports if r["round"]])
    if reconcile == "none":
        assert (wakes[:5, 4] == 0).all()
        assert wakes[-1, 4] > 0
    assert torch.isfinite(block.rows).all()
