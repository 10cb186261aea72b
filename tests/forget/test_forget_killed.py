"""A request in two workers, any of which, or the coordinator, is killed (SIGKILL) on the way.

The run is then as it was, or as it is to be; and asking again ends where an unbroken request does.
"""

import json
from pathlib import Path

import pytest

from hansa.experiment.trained import present_checkpoint
from hansa.forget.requests import Requests, fingerprint
from hansa.forget.trained import open_trained


def state_of(run: Path) -> dict[str, bytes]:
    """The files of a run's present state."""
    checkpoint = present_checkpoint(run)
    assert checkpoint is not None
    return {path.name: path.read_bytes() for path in sorted(checkpoint.glob("*.safetensors"))}


@pytest.mark.parametrize(
    ("kill", "served"),
    [
        ("1:send:12", False),  # what worker 1 says to the others: early, in the ascent
        ("0:send:60", False),  # the server's worker, later
        ("1:write:1", False),  # its part of the state is half written
        ("coordinator:commit:1", False),  # all is written, and nothing says so
        ("coordinator:purge:2", True),  # it is done, and the old state is still there
    ],
)
def test_a_death_leaves_the_run_whole(
    marked, unbroken, tmp_path: Path, kill: str, served: bool
) -> None:
    peaceful, receipt = unbroken
    run = marked.copy(tmp_path / "run")
    before = state_of(run)
    done = marked.forget(run, kill=kill)
    assert done.returncode != 0, "nobody died"
    if served:
        assert Requests(run).receipts[0]["model_after"] == receipt["model_after"]
    else:
        assert not Requests(run).receipts
        assert state_of(run) == before
    again = marked.forget(run)
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    for name in ("model_before", "model_after", "figures", "goal", "deleted", "images"):
        assert answer[name] == receipt[name]
    assert state_of(run) == state_of(peaceful)
    assert {path.name for path in (run / "requests").iterdir()} == {"001"}
    assert not list((run / "checkpoints").glob("*"))
    assert fingerprint(open_trained(run).row) == receipt["model_after"]
