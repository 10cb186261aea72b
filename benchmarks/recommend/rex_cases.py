"""Runs of rex that the benchmarks of recommenders share, each in a process of its own."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import peak_bytes

from hansa.experiment import run
from hansa.recommend.recommend_file import RecommendFile
from hansa.report import RunFolder

REFERENCE: dict[str, Any] = {
    "model": {
        "name": "matrix_factorization", "factors": 10, "mean": "none", "unit": 0.5,
        "init": "one_vector",
    },
    "algorithm": {"steps": 300, "ratings": 300, "item_rate": 1.0},
    "train": {"optimizer": {"name": "sgd", "lr": 0.005, "weight_decay": 0.1}},
    "evaluate": {"when": "after_training"},
}  # fmt: skip
"""The settings of the reference simulator: half stars, biases at 1, one vector for all at first."""
OWN: dict[str, Any] = {
    "model": {"name": "matrix_factorization", "factors": 10, "start": 3.5, "mean": "fixed"}
}
"""hansa's own settings; the rest are its defaults."""
SMALL_WORLD = {"name": "small_world", "neighbours": 6, "rewire": 0.03}


def chosen(
    nodes: int,
    rounds: int,
    settings: str,
    every: int,
    seed: int = 1,
    data: str = "movielens",
    **rex: Any,
) -> dict[str, Any]:
    """A run file on ml-latest-small, split at random for each user; a smoke run makes data up."""
    base = {"reference": REFERENCE, "own": OWN}[settings]
    return {
        "seed": seed,
        "nodes": nodes,
        "rounds": rounds,
        "data": {"name": data},
        "topology": rex.pop("topology", SMALL_WORLD),
        "baselines": [],
        "checkpoint": {"every": 0},
        **base,
        "algorithm": {"name": "rex", **base.get("algorithm", {}), **rex},
        "evaluate": {"every": every, "dense_start": False, **base.get("evaluate", {})},
    }


def case(
    nodes: int, rounds: int, settings: str = "own", every: int = 10, **rex: Any
) -> dict[str, Any]:
    """One run: its errors and bytes by round, and what it cost this process.

    Returns:
        ``rounds``, ``rmse`` (mean of nodes, stars), ``pooled``, ``sent`` (bytes a node until
        then), ``share`` (of all training ratings in one node's store); ``cpu`` seconds, ``peak``
        bytes.
    """
    return measured(chosen(nodes, rounds, settings, every, **rex))


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """A run of these settings, as :func:`case`."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as home:
        folder = run(RecommendFile.parse(settings), Path(home) / "run", report=False)
        return {**curve(folder), "cpu": time.process_time() - began, "peak": peak_bytes()}


def many(people: int, nodes: int, rounds: int) -> dict[str, Any]:
    """One simulation of many people whose taste is made up, so many of them at a node."""
    ratings = {"name": "synthetic_ratings", "people": people, "items": 2000, "per_user": 60}
    found = measured(
        {
            "nodes": nodes,
            "rounds": rounds,
            "data": {**ratings, "partition": {"name": "users"}},
            "baselines": [],
            "checkpoint": {"every": 0},
            "evaluate": {"every": rounds, "dense_start": False},
        }
    )
    return {"rmse": found["rmse"][-1], "cpu": found["cpu"], "peak": found["peak"]}


def curve(folder: RunFolder) -> dict[str, list[float]]:
    """Figures of a run by evaluated round."""
    metrics = folder.metrics().filter(pl.col("round") > 0)
    nodes, whole = pl.col("node").is_not_null(), pl.col("node").is_null()
    wanted = {"rmse": nodes, "bytes_sent": nodes, "rmse_pooled": whole, "ratings": whole}
    by_round = metrics.filter(pl.col("name") == "rmse").select("round").unique()
    for name, who in wanted.items():
        means = metrics.filter((pl.col("name") == name) & who).group_by("round")
        by_round = by_round.join(means.agg(pl.col("value").mean().alias(name)), "round", how="left")
    by_round = by_round.sort("round")
    sizes = (folder.read_json("partition.json") or {}).get("sizes") or [1]
    return {
        "rounds": by_round["round"].to_list(),
        "rmse": by_round["rmse"].to_list(),
        "pooled": by_round["rmse_pooled"].to_list(),
        "sent": by_round["bytes_sent"].to_list(),
        "share": (by_round["ratings"].fill_null(0.0) / sum(sizes)).to_list(),
    }


def at(found: dict[str, Any], done: int, what: str = "rmse") -> float:
    """A figure after so many rounds."""
    return float(found[what][found["rounds"].index(done)])


def first_below(found: dict[str, Any], error: float) -> int | None:
    """Where in the curve the mean error of nodes is at most this for the first time."""
    return next((k for k, x in enumerate(found["rmse"]) if x <= error), None)
