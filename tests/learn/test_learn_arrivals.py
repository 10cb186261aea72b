"""Asynchronous runs in worker processes, done again in ``simulate`` in the order of arrival."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.engine.runtimes.arrivals_file import read_arrivals
from hansa.experiment import RunFile, run
from hansa.experiment.replays import replay_of

CLOCK = {"name": "modelled", "spread": 1.0, "sample_seconds": 0.01}
RUNS: dict[str, dict[str, Any]] = {
    "adpsgd": {"algorithm": "adpsgd", "clock": CLOCK},
    "fedbuff": {
        "algorithm": {"name": "fedbuff", "concurrency": 5, "buffer": 2, "failure": 0.2,
                      "max_staleness": 2},
        "clock": CLOCK,
    },
}  # fmt: skip


def rows_of(folder: Path, done: int) -> torch.Tensor:
    """All models [r, D] of a checkpoint, by node."""
    files = sorted((folder / f"checkpoints/round-{done:06d}").glob("*.safetensors"))
    parts = [load_file(path) for path in files]
    ids = torch.cat([part["residents"] for part in parts])
    return torch.cat([part["rows"] for part in parts])[ids.argsort()]


@pytest.fixture
def apart(small: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[[str, int, int], Path]:
    """The folder of a run in worker processes."""

    def go(name: str, workers: int, seed: int) -> Path:
        changes = {
            **RUNS[name],
            "seed": seed,
            "rounds": 5,
            "checkpoint": {"every": 2},
            "runtime": {"name": "processes", "workers": workers},
        }
        settings = small(changes)
        if name == "fedbuff":
            settings.pop("topology")
        return run(RunFile.parse(settings), tmp_path / f"{name}{workers}", report=False).path

    return go


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("name", RUNS)
def test_the_same_order_gives_the_same_models(
    apart: Callable[[str, int, int], Path], tmp_path: Path, name: str, workers: int
) -> None:
    folder = apart(name, workers, workers)
    again = run(replay_of(folder), tmp_path / "again", report=False)
    assert torch.equal(rows_of(again.path, 5), rows_of(folder, 5))
    assert torch.equal(rows_of(again.path, 4), rows_of(folder, 4))
    # What was done again has its own recording, which says the same of each node.
    rows, done = read_arrivals(folder)
    theirs, _ = read_arrivals(again.path)
    assert done == 5
    assert len(rows) > 5
    for node in np.unique(rows[:, 1]):
        np.testing.assert_array_equal(
            rows[rows[:, 1] == node][:, 1:], theirs[theirs[:, 1] == node][:, 1:]
        )
