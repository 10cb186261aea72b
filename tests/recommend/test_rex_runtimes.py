"""Runs of rex: the same in one process, in several, after a resume and while nodes come and go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from safetensors.torch import load_file

from hansa.experiment import resume, run
from hansa.recommend.recommend_file import RecommendFile
from hansa.report import RunFolder

from .rated import rated_job

FIGURES = ("rmse", "train_loss", "bytes_sent", "messages_sent", "ratings", "duplicates")


def chosen(rounds: int, workers: int = 0, **rex: Any) -> RecommendFile:
    runtime = {"name": "processes", "workers": workers} if workers else {"name": "simulate"}
    return RecommendFile.parse(settings_of(rounds, runtime, {"name": "rex", **rex}))


def settings_of(
    rounds: int, runtime: dict[str, Any], algorithm: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """A small run of 27 people at nine nodes."""
    return {
        "seed": 3,
        "nodes": 9,
        "rounds": rounds,
        "runtime": runtime,
        "data": {"name": "synthetic_ratings", "people": 27, "items": 60, "per_user": 12},
        "model": {"name": "matrix_factorization", "factors": 3},
        "algorithm": {"ratings": 15, "steps": 25, **algorithm},
        "evaluate": {"every": 1, "dense_start": False},
        "checkpoint": {"every": 1, "keep": 9},
        "baselines": [],
        **more,
    }


def stored(folder: Path, done: int) -> dict[str, torch.Tensor]:
    """What a checkpoint holds, by node: models, which rows are held, and ratings gathered."""
    nodes: dict[str, torch.Tensor] = {}
    for path in (folder / f"checkpoints/round-{done:06d}").glob("*.safetensors"):
        file = load_file(path)
        ends = file["store.counts"].cumsum(0).tolist()
        for k, (node, end) in enumerate(zip(file["ids"].tolist(), ends, strict=True)):
            mine = slice(end - int(file["store.counts"][k]), end)
            nodes[f"{node}.ratings"] = file["store.inputs"][mine]
            nodes[f"{node}.stars"] = file["store.targets"][mine]
            nodes[f"{node}.model"] = file["rows"][k]
            nodes[f"{node}.held"] = file["state.rex.held"][k]
    return nodes


def assert_same(one: Path, other: Path, done: int) -> None:
    a, b = stored(one, done), stored(other, done)
    assert len(a) == 4 * 9
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def figures(folder: RunFolder) -> list[tuple[Any, ...]]:
    kept = folder.metrics().filter(polars.col("name").is_in(FIGURES))
    kept = kept.filter(polars.col("node").is_not_null()).sort("name", "round", "node")
    return kept.select("name", "round", "node", "value").rows()


@pytest.mark.slow
def test_processes_and_a_resume_come_to_what_a_simulation_does(tmp_path: Path) -> None:
    """To the bit, on three workers and then on two; bytes are those of what was really sent."""
    whole = run(chosen(5, share="both"), tmp_path / "whole", report=False)
    run(chosen(3, 3, share="both"), tmp_path / "apart", report=False)
    assert_same(tmp_path / "whole", tmp_path / "apart", 3)
    two = {"name": "processes", "workers": 2}
    again = resume(tmp_path / "apart", {"rounds": 5, "runtime": two}, report=False)
    assert_same(tmp_path / "whole", tmp_path / "apart", 5)
    assert figures(whole) == figures(again)


def test_who_is_away_neither_trains_nor_is_waited_for(
    host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    """Two nodes leave for some rounds, and come back to what they had."""
    rest = {"topology": {"name": "complete"}, "absent": {1: [[2, 4]], 4: [[0, 3]]}}

    def job() -> Any:
        return rated_job(rounds=6, topology={"name": "churn", **rest}, share="both")

    block, reports = host(job())
    rows, state, _ = host_apart(job, 3)
    assert torch.equal(rows, block.rows)
    assert torch.equal(state["bytes_sent"], block.state["bytes_sent"])
    steps = np.array([report["counters"]["steps"] for report in reports])
    trained = np.diff(steps, axis=0, prepend=0) > 0
    wanted = np.ones((6, 6), dtype=bool)
    wanted[2:4, 1] = wanted[:3, 4] = False
    assert (trained == wanted).all()
