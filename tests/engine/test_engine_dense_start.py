"""The start of a run is measured densely, and nothing else changes by that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import RunError
from hansa.engine import EvaluateSettings, Job
from hansa.engine.runtimes.host import Host
from hansa.experiment import resume, run
from hansa.report import RunFolder

DENSE: dict[str, Any] = {"evaluate": {"every": 6}, "rounds": 9}
SPARSE: dict[str, Any] = {"evaluate": {"every": 6, "dense_start": False}, "rounds": 9}


def measured(folder: RunFolder, name: str = "accuracy") -> list[int]:
    """The rounds in which a metric was measured at nodes, ascending."""
    rows = folder.metrics().filter(polars.col("name") == name, polars.col("node").is_not_null())
    return rows["round"].unique().sort().to_list()


def figures(folder: RunFolder) -> dict[tuple[Any, ...], float]:
    """Every figure but those of the machine, by round, node and name."""
    frame = folder.metrics().filter(polars.col("name") != "round_seconds")
    rows = frame.select("round", "node", "name", "value").rows()
    assert len({row[:3] for row in rows}) == len(rows)
    return {row[:3]: row[3] for row in rows}


@given(every=st.integers(1, 40), rounds=st.integers(1, 90), done=st.integers(0, 90))
def test_rounds_that_are_measured(every: int, rounds: int, done: int) -> None:
    def asks(dense: bool) -> bool:
        job = Job.__new__(Job)
        job.rounds, job.evaluate = rounds, EvaluateSettings(every=every, dense_start=dense)
        return job.evaluates(done)

    usual = done == rounds or (done > 0 and done % every == 0)
    assert asks(False) == usual
    assert asks(True) == (usual or done == 0 or (done < every and done in 2 ** np.arange(7)))


@pytest.mark.parametrize("algorithm", ["dpsgd", "fedavg", "adpsgd"])
def test_a_dense_start_only_adds(small: Callable[..., Any], tmp_path: Path, algorithm: str) -> None:
    more = {"data": {"name": "digits", "validation": 0.2}, "algorithm": algorithm}
    dense = run(small({**DENSE, **more}), tmp_path / "dense", report=False)
    sparse = run(small({**SPARSE, **more}), tmp_path / "sparse", report=False)
    assert measured(dense) == [0, 1, 2, 4, 6, 9]
    assert measured(sparse) == [6, 9]
    found, usual = figures(dense), figures(sparse)
    assert {key: found[key] for key in usual} == usual
    assert {key[0] for key in found.keys() - usual.keys()} == {0, 1, 2, 4}
    for name in ("best", "final", "rounds", "status"):
        assert (dense.summary or {})[name] == (sparse.summary or {})[name]


def test_round_0_is_the_initial_model_before_anything_was_spent(
    small: Callable[..., Any], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    folder = run(small(DENSE), tmp_path / "run", report=False)
    job = make_job(DENSE)
    trainer = job.trainer()
    row = trainer.layout.flatten(job.module)[None]
    expected = trainer.evaluate(row, job.dataset.test, 500)
    trainer.close()
    start = folder.metrics().filter(polars.col("round") == 0)
    for name, value in expected.items():
        each = start.filter(polars.col("name") == name, polars.col("node").is_not_null())
        assert each["value"].to_list() == [pytest.approx(value[0], rel=1e-6)] * 8
    for name in ("steps", "bytes_sent", "training_rounds"):
        assert start.filter(polars.col("name") == name)["value"].to_list() == [0.0] * 8
    assert not set(start["name"]) & {"round_seconds", "train_loss"}
    assert start["bytes"].max() == start["step"].max() == 0


def test_workers_measure_the_same_start(small: Callable[..., Any], tmp_path: Path) -> None:
    here = run(small({**DENSE, "rounds": 3}), tmp_path / "here", report=False)
    apart = small({**DENSE, "rounds": 3, "runtime": {"name": "processes", "workers": 3}})
    there = run(apart, tmp_path / "there", report=False)
    found, expected = figures(there), figures(here)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("every", [0, 2])
def test_a_run_that_goes_on_starts_once(
    small: Callable[..., Any], tmp_path: Path, every: int
) -> None:
    """Also one that begins anew since it has no checkpoint."""
    told: list[int] = []

    def progress(done: int, _: dict[str, float]) -> None:
        told.append(done)
        if told == [0, 1, 2, 3]:
            raise RunError("enough")

    chosen = small({**DENSE, "checkpoint": {"every": every}})
    with pytest.raises(RunError):
        run(chosen, tmp_path / "run", progress, report=False)
    whole = resume(tmp_path / "run", progress=progress, report=False)
    assert told == [0, 1, 2, 3, *range(3 if every else 0, 10)]
    straight = run(chosen, tmp_path / "straight", report=False)
    assert figures(whole) == figures(straight)


def test_what_is_not_asked_for_is_not_measured(small: Callable[..., Any], tmp_path: Path) -> None:
    told: list[int] = []
    run(small(SPARSE), tmp_path / "run", lambda done, _: told.append(done), report=False)
    assert told == list(range(1, 10))


def test_models_after_training_begin_as_they_are(small: Callable[..., Any], tmp_path: Path) -> None:
    late = {"every": 6, "when": "after_training"}
    folder = run(small({**DENSE, "evaluate": late}), tmp_path / "run", report=False)
    usual = run(small(DENSE), tmp_path / "usual", report=False)
    assert measured(folder) == measured(usual) == [0, 1, 2, 4, 6, 9]
    first = {key: value for key, value in figures(folder).items() if key[0] == 0}
    assert first == {key: value for key, value in figures(usual).items() if key[0] == 0}


def test_an_initial_model_that_cannot_be_measured_is_named(make_job: Callable[..., Job]) -> None:
    job = make_job(DENSE)
    block = job.block(np.arange(job.nodes))
    block.rows = torch.zeros(8, 3)
    host = Host(job, block, job.exchange(), lambda report: None, lambda *_: None)
    with pytest.raises(RunError) as caught:
        host.begin()
    assert (caught.value.round, caught.value.phase) == (0, "evaluation")
    block.trainer.close()
