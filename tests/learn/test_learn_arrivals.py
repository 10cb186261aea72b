"""Asynchronous runs in worker processes, done again in ``simulate`` in the order of arrival."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import ConfigError, RunError
from hansa.engine.runtimes.arrivals import HEARD
from hansa.engine.runtimes.arrivals_file import ARRIVALS, add_round, read_arrivals
from hansa.experiment import RunFile, prepare, resume, run
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


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("adpsgd", 2), ("fedbuff", 2),
        pytest.param("adpsgd", 3, marks=pytest.mark.slow),
        pytest.param("fedbuff", 3, marks=pytest.mark.slow),
    ],
)  # fmt: skip
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


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on_and_is_done_again_whole(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """What was on its way is in the checkpoint, and the recording goes on from it."""
    changes = {**RUNS["fedbuff"], "rounds": 3, "checkpoint": {"every": 1}}
    settings = small({**changes, "runtime": {"name": "processes", "workers": 2}})
    settings.pop("topology")
    folder = run(RunFile.parse(settings), tmp_path / "run", report=False).path
    assert read_arrivals(folder)[1] == 3
    shutil.rmtree(folder / "checkpoints/round-000003")  # as if killed in the last round
    resume(folder, {"rounds": 5}, report=False)
    assert read_arrivals(folder)[1] == 5
    again = run(replay_of(folder), tmp_path / "again", report=False)
    assert torch.equal(rows_of(again.path, 5), rows_of(folder, 5))
    # In one block by modelled time it is another run, and recorded as well.
    alone = resume(folder, {"rounds": 6, "runtime": {"name": "simulate"}}, report=False)
    assert read_arrivals(alone.path)[1] == 6


@pytest.fixture(scope="module")
def recorded(small: Callable[..., dict[str, Any]], tmp_path_factory: Any) -> Path:
    """A small run of adpsgd in one block, whose order is recorded too."""
    settings = small({**RUNS["adpsgd"], "rounds": 3, "evaluate": {"every": 9}})
    return run(RunFile.parse(settings), tmp_path_factory.mktemp("recorded") / "run").path


@pytest.fixture
def copied(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(recorded, tmp_path / "copy")
    return tmp_path / "copy"


def _changed(copied: Path) -> None:
    data = bytearray((copied / ARRIVALS).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (copied / ARRIVALS).write_bytes(bytes(data))


def _cut(copied: Path) -> None:
    (copied / ARRIVALS).write_bytes((copied / ARRIVALS).read_bytes()[:-3])


def _gone(copied: Path) -> None:
    (copied / ARRIVALS).unlink()


@pytest.mark.parametrize(
    ("harm", "said"), [(_changed, "cut short or was changed"), (_cut, "cut short"), (_gone, "no")]
)
def test_a_damaged_recording_is_refused_by_name(copied: Path, harm: Any, said: str) -> None:
    harm(copied)
    with pytest.raises(ConfigError, match=said) as caught:
        replay_of(copied)
    assert caught.value.field == "runtime.replay"
    assert ARRIVALS in caught.value.problem


def test_a_recording_of_another_run_is_refused(recorded: Path) -> None:
    again = replay_of(recorded).dump()
    with pytest.raises(ConfigError, match="another run: seed differ"):
        prepare(RunFile.parse({**again, "seed": 4}))
    with pytest.raises(ConfigError, match="has recorded 3") as caught:
        prepare(RunFile.parse({**again, "rounds": 4}))
    assert caught.value.field == "rounds"
    with pytest.raises(ConfigError, match="another run: seed differ"):
        prepare(replay_of(recorded, seed=4))
    with pytest.raises(ConfigError, match=r"runtime = 'processes': replays nothing"):
        replay_of(recorded, ("runtime.name=processes",))
    with pytest.raises(ConfigError, match="another run: algorithm differ"):
        prepare(RunFile.parse({**again, "algorithm": "dpsgd"}))


def test_an_order_that_cannot_be_is_refused_while_it_is_done_again(
    copied: Path, tmp_path: Path
) -> None:
    """A node that is to hear a message that was never sent."""
    rows, _ = read_arrivals(copied)
    heard = np.flatnonzero(rows[:, 3] == HEARD)[0]
    rows[heard, 2] = (rows[heard, 1] + 4) % 8
    (copied / ARRIVALS).unlink()
    for t in range(3):
        add_round(copied, t + 1, rows[rows[:, 0] == t])
    with pytest.raises(RunError, match="recorded order cannot go on"):
        run(replay_of(copied), tmp_path / "again", report=False)


@pytest.mark.slow  # the same from Python stands above
def test_by_the_command_line(recorded: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hansa.cli", "learn", "--replay", str(recorded), "--json"]
    other = subprocess.run(
        [*command, "--seed", "4", "--out", str(tmp_path / "no")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert other.returncode == 2
    assert "seed differ" in other.stdout
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "again")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["equal"] is True
    assert said["compared"]["figures"] >= 16  # loss and accuracy of each node
