"""A request in two workers, any of which, or the coordinator, is killed (SIGKILL) on the way.

The run is then as it was, or as it is to be; and asking again ends where an unbroken request does.
"""

import json
from pathlib import Path

import pytest

from hansa.experiment.trained import present_checkpoint
from hansa.forget.requests import Requests


def state_of(run: Path) -> dict[str, bytes]:
    """The files of a run's present state."""
    checkpoint = present_checkpoint(run)
    assert checkpoint is not None
    return {path.name: path.read_bytes() for path in sorted(checkpoint.glob("*.safetensors"))}


@pytest.mark.parametrize(
    ("kill", "first", "again"),
    [
        # what worker 1 says: early, in the ascent
        ("1:send:30", "processes", "simulate"),
        # the server's worker, later
        pytest.param("0:send:40", "processes", "simulate", marks=pytest.mark.slow),
        # who alone speaks with both
        pytest.param("coordinator:report:20", "processes", "simulate", marks=pytest.mark.slow),
        # a worker's part of the state is half written
        pytest.param("1:write:1", "processes", "processes", marks=pytest.mark.slow),
        # all is written, and nothing says so
        pytest.param("coordinator:commit:1", "simulate", "simulate", marks=pytest.mark.slow),
        ("coordinator:purge:2", "simulate", "simulate"),  # done, and the old state is still there
    ],
)
def test_a_death_leaves_the_run_whole(
    marked, unbroken, tmp_path: Path, kill: str, first: str, again: str
) -> None:
    peaceful, receipt = unbroken
    run = marked.copy(tmp_path / "run")
    before = state_of(run)
    done = marked.forget(run, runtime=first, kill=kill)
    assert done.returncode != 0, "nobody died"
    if not kill.startswith("coordinator"):
        assert "SIGKILL" in done.stderr
        assert "the run is as it was: ask again" in " ".join(done.stderr.split())
    if "purge" in kill:
        assert Requests(run).receipts[0]["model_after"] == receipt["model_after"]
    else:
        assert not Requests(run).receipts
        assert state_of(run) == before
    done = marked.forget(run, runtime=again)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    for name in ("model_before", "model_after", "figures", "goal", "deleted", "images"):
        assert answer[name] == receipt[name]
    if again == "processes":
        assert state_of(run) == state_of(peaceful)
    assert {path.name for path in (run / "requests").iterdir()} == {"001"}
    assert not list((run / "checkpoints").glob("*"))
