"""Nodes at their own pace that die, that are away, and that wait until a moment."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import RunError
from hansa.engine import Job
from hansa.engine.runtimes.arrivals import WOKE
from hansa.engine.runtimes.arrivals_file import read_arrivals
from hansa.experiment import RunFile, prepare, resume, run
from hansa.experiment.replays import replay_of

CLOCK = {"name": "modelled", "spread": 1.0, "sample_seconds": 0.01}
MORTAL = """
import os, signal
from pathlib import Path
from hansa.learn import ADPSGD, FedBuff

SIGN = Path({sign!r})


def die_once(node, t):
    if t >= 2 and int(node.ids[0]) < 4 and not SIGN.exists():
        SIGN.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Pairs(ADPSGD):
    "Dies as it is asked for its model, once."

    def hear(self, node, t, letter):
        die_once(node, t)
        yield from super().hear(node, t, letter)


class Buffer(FedBuff):
    "A client dies as it gets a model, once."

    def hear(self, node, t, letter):
        die_once(node, t)
        yield from super().hear(node, t, letter)
"""
PATIENT = """
from typing import Any, ClassVar
import numpy as np
import torch
from hansa import Asynchronous, Put, Take

TOOK: list[Any] = []


class Patient(Asynchronous):
    "Trains, tells everybody, and takes what comes within 0.05 s."

    kinds: ClassVar[tuple[str, ...]] = ("model",)

    def start(self, block: Any) -> None:
        block.state["patient.wakes"] = torch.zeros(len(block), dtype=torch.int64)

    def wake(self, node: Any, t: int) -> Any:
        me, time = int(node.ids[0]), node.state["modelled_time"]
        node.train(t, draw=int(node.state["patient.wakes"]))
        node.state["patient.wakes"] += 1
        others = np.delete(np.arange(node.nodes), me)
        yield Put(others, "model", node.rows)
        until = float(time) + 0.05
        came = yield Take("model", until=until)
        TOOK.append((me, t, until, came.letters))
        assert float(time) >= until
"""


def settings_of(small: Callable[..., dict[str, Any]], changes: dict[str, Any]) -> RunFile:
    settings = small({"clock": CLOCK, "rounds": 5, **changes})
    if "concurrency" in settings["algorithm"]:
        settings.pop("topology")
    return RunFile.parse(settings)


def states_of(folder: Path, done: int) -> dict[str, torch.Tensor]:
    """Rows and what adpsgd counts, by node."""
    files = sorted((folder / f"checkpoints/round-{done:06d}").glob("*.safetensors"))
    parts = [load_file(path) for path in files]
    order = torch.cat([part["residents"] for part in parts]).argsort()
    names = {"rows", "state.adpsgd.wakes", "state.modelled_time"} & parts[0].keys()
    whole = {name: torch.cat([part[name] for part in parts]) for name in names}
    return {name: value[order] for name, value in whole.items() if len(value) == len(order)}


@pytest.mark.slow  # test_engine_crash.py kills workers in each state
@pytest.mark.parametrize("name", ["Pairs", "Buffer"])
def test_a_worker_that_is_killed_in_a_round(
    small: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    """Resumed from what was saved: each wake-up counts once, and the order says all of the run."""
    file = tmp_path / "mortal.py"
    file.write_text(MORTAL.format(sign=str(tmp_path / "died")))
    own: dict[str, Any] = {"name": f"{file}:{name}"}
    if name == "Buffer":
        own |= {"concurrency": 5, "buffer": 2}
    chosen = settings_of(
        small,
        {
            "algorithm": own,
            "checkpoint": {"every": 2},
            "runtime": {"name": "processes", "workers": 2},
        },
    )
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="SIGKILL"):
        run(chosen, folder, report=False)
    assert (tmp_path / "died").exists()
    resume(folder, report=False)
    rows, done = read_arrivals(folder)
    assert done == 5
    assert torch.isfinite(states_of(folder, 5)["rows"]).all()
    woke = rows[rows[:, 3] == WOKE]
    each = 8 if name == "Pairs" else 1
    assert np.bincount(woke[:, 0]).tolist() == [each] * 5
    if name == "Pairs":
        counted = states_of(folder, 5)["state.adpsgd.wakes"].tolist()
        assert counted == np.bincount(woke[:, 1], minlength=8).tolist()
    again = run(replay_of(folder), tmp_path / "again", report=False)
    assert torch.equal(states_of(again.path, 5)["rows"], states_of(folder, 5)["rows"])


AWAY: dict[str, dict[str, Any]] = {
    "faults": {"faults": {"absent": {2: [[1, 3]], 6: [[2, None]]}}},
    "churn": {
        "topology": {
            "name": "churn",
            "topology": {"name": "regular", "degree": 3},
            "absent": {2: [[1, 3]], 6: [[2, None]]},
        }
    },
}


@pytest.mark.parametrize(
    ("how", "workers"),
    # That processes do the same is quick for one way to be away.
    [("faults", 0), ("churn", 0), ("faults", 2), pytest.param("churn", 2, marks=pytest.mark.slow)],
)
def test_who_is_away_does_not_wake(
    small: Callable[..., dict[str, Any]], tmp_path: Path, how: str, workers: int
) -> None:
    changes = {"algorithm": "adpsgd", "checkpoint": {"every": 1, "keep": 9}, **AWAY[how]}
    if workers:
        changes["runtime"] = {"name": "processes", "workers": workers}
    chosen = settings_of(small, changes)
    present = np.array([prepare(chosen).presence.at(t) for t in range(5)])
    assert (~present).sum(0).tolist() == [0, 0, 2, 0, 0, 0, 3, 0]
    folder = run(chosen, tmp_path / "run", report=False).path
    saved = {done: states_of(folder, done) for done in range(1, 6)}
    rows, _ = read_arrivals(folder)
    woke = rows[rows[:, 3] == WOKE]
    assert np.bincount(woke[:, 0]).tolist() == present.sum(1).tolist()
    for t, node in zip(*np.nonzero(~present), strict=True):
        assert not ((woke[:, 0] == t) & (woke[:, 1] == node)).any()
        for name in ("rows", "state.adpsgd.wakes"):
            assert torch.equal(saved[t][name][node], saved[t + 1][name][node]), name
    assert not torch.equal(saved[4]["rows"][2], saved[3]["rows"][2])  # it is back
    again = run(replay_of(folder), tmp_path / "again", report=False)
    assert torch.equal(states_of(again.path, 5)["rows"], states_of(folder, 5)["rows"])


def test_what_comes_until_a_moment(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Path
) -> None:
    """Against the times alone: a letter is taken first thing that ends after it has come."""
    file = tmp_path / "patient.py"
    file.write_text(PATIENT)
    clock = {"name": "modelled", "spread": 1.0, "latency": 0.03, "sample_seconds": 0.001}
    job = make_job({"algorithm": f"{file}:Patient", "clock": clock, "rounds": 4})
    block, _ = host(job)
    took = sys.modules[type(job.algorithm).__module__].TOOK
    letters = [(who, until, x) for who, _, until, some in took for x in some]
    assert len(took) == 4 * 8
    assert len(letters) > 50
    assert len(letters) + len(block.mail) == 4 * 8 * 7  # nothing twice, nothing lost
    assert len({id(x) for _, _, x in letters} | {id(x) for x in block.mail}) == 4 * 8 * 7
    for who, until, x in [*letters, *((x.receiver, np.inf, x) for x in block.mail)]:
        later = [end for at, t, end, _ in took if at == who and t >= x.round and end >= x.arrival]
        assert min(later, default=np.inf) == until
