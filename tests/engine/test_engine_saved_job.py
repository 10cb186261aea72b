"""A job that was saved does what the job itself does, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.engine import Job
from hansa.engine.runtimes.saved_job import has_job, load_job, remove_job, save_job
from hansa.experiment.runfile import RunFile

JOBS: dict[str, dict[str, Any]] = {
    "peers": {"algorithm": "jwins"},
    "servers": {"algorithm": "fedavg", "clock": {"name": "modelled", "spread": 0.5}},
    "held": {
        "algorithm": {"name": "fedavg", "stop": {"patience": 1, "window": 1}},
        "evaluate": {"every": 1, "local_validation": 0.2},
    },
    "splits": {"algorithm": "dpsgd", "data": {"name": "digits", "validation": 0.1, "public": 0.1}},
    "attacked": {"algorithm": "dpsgd", "attack": {"name": "sign_flip", "nodes": [1]}},
}


@pytest.mark.parametrize("name", JOBS)
def test_it_ends_where_the_job_itself_does(
    make_job: Callable[..., Job],
    small: Callable[..., dict[str, Any]],
    host: Callable[..., Any],
    tmp_path: Path,
    name: str,
) -> None:
    job = make_job(JOBS[name])
    save_job(tmp_path, job, RunFile.parse(small(JOBS[name])).model)
    found = load_job(tmp_path)
    assert (job.attackers is not None) == (name == "attacked") == (found.attackers is not None)
    assert len(found.held) == len(job.held)
    ours, theirs = host(found), host(job)
    assert torch.equal(ours[0].rows, theirs[0].rows)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert mine["events"] == other["events"]
        for key, value in other["values"].items():
            assert np.array_equal(mine["values"][key], value, equal_nan=True), key
        for key, value in other["counters"].items():
            assert np.array_equal(mine["counters"][key], value, equal_nan=True), key
    assert has_job(tmp_path)
    remove_job(tmp_path)
    assert not has_job(tmp_path)


def test_no_part_of_a_job_is_forgotten() -> None:
    """Threads are each worker's own; all else is in the file."""
    told = load_job.__code__.co_consts + load_job.__code__.co_names
    names = {word for part in told for word in (part if isinstance(part, tuple) else (part,))}
    assert {field.name for field in fields(Job)} - names <= {"threads"}
