"""Faults of worker processes: named, in time, with all that was measured on disk."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars
import psutil
import pytest
import torch

from hansa import open_run
from hansa.base.errors import Diverged, OwnCodeError, RunError
from hansa.engine.runtimes.checkpoint import sealed
from hansa.engine.runtimes.dealing import FOLDER
from hansa.experiment import resume, run
from hansa.experiment.replays import replay_of
from hansa.report import RunFolder

from .conftest import children

pytestmark = pytest.mark.usefixtures("nothing_left")
LONG = 300.0  # seconds; only a test that fails waits so long

TROUBLE = '''
"""Algorithms that fail in their own ways; {tag}."""

import threading
import time
from pathlib import Path
from typing import ClassVar
from pydantic import Field
from hansa.base.component import register
from hansa.engine.exchange.deadline import Deadline
from hansa.learn import DPSGD

PASSED = []


@register("trouble_{tag}")
class Trouble(DPSGD):
    """D-PSGD until something happens on one node."""

    way: str = Field("raise", description="what happens")
    node: int = Field(6, description="on which node")
    at: int = Field(2, description="in which round, from 0")
    sign: str = Field("", description="a file that wakes who naps")
    tolerates_loss: ClassVar[bool] = {tolerant}

    def strike(self, block, t, way):
        if self.way != way or t != self.at:
            return
        if way == "sleep" and self.node in block.ids:
            threading.Event().wait()
        elif way == "sleep":  # for this worker the time is up, whatever the clock says
            Deadline.passed = property(lambda self: True)
        elif self.node in block.ids:
            raise ZeroDivisionError(f"the cat sat on node {{self.node}}")

    def nap(self, block, t):
        """Sleep until the other worker has given this one up and gone on."""
        if self.node in block.ids:
            while not Path(self.sign).exists():
                time.sleep(0.01)
        else:
            PASSED.append(Deadline.passed)
            Deadline.passed = property(lambda self: True)

    def wake(self, block):
        if self.node not in block.ids:
            Deadline.passed = PASSED.pop()
            Path(self.sign).touch()

    def local(self, block, t):
        super().local(block, t)
        self.strike(block, t, "raise")
        self.strike(block, t, "sleep")
        if self.way == "nap" and t == self.at:
            self.nap(block, t)

    def incoming(self, block, inbox, t):
        if self.way == "nap" and t == self.at:
            self.wake(block)
        self.strike(block, t, "incoming")
        super().incoming(block, inbox, t)
'''


@pytest.fixture
def trouble(small: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Settings of a run in 2 processes whose algorithm fails in a way of its own."""
    tag = f"t{abs(hash(tmp_path))}"
    file = tmp_path / f"trouble_{tag}.py"

    def make(way: str, **more: Any) -> Any:
        file.write_text(TROUBLE.format(tag=tag, tolerant=way in ("nap", "none")))
        return small(
            {
                "rounds": 6,
                "evaluate.every": 1,
                "algorithm": {"name": f"trouble_{tag}", "way": way, **more},
                "checkpoint": {"every": 1},
            }
        ) | {
            "plugins": [str(file)],
            "runtime": {"name": "processes", "workers": 2, "deadline": LONG},
        }

    yield make
    sys.modules.pop(f"hansa_plugin_{file.stem}", None)


def worker(index: int) -> psutil.Process:
    return next(p for p in children() if p.name() == f"worker-{index}")


def ports() -> list[int]:
    """Those at which this process listens."""
    all_of_it = psutil.Process().net_connections()
    return [one.laddr.port for one in all_of_it if one.status == psutil.CONN_LISTEN]


def test_a_killed_worker_is_named_and_the_run_can_go_on(
    small: Callable[..., Any], tmp_path: Path
) -> None:
    """A stray connection bothers the coordinator meanwhile."""
    chosen = small({"rounds": 100, "evaluate.every": 1, "checkpoint": {"every": 2}})
    whole = run(chosen, tmp_path / "whole", report=False)
    seen: list[int] = []

    def progress(done: int, figures: dict[str, float]) -> None:
        seen.append(done)
        if done == 1:
            (port,) = ports()
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
                assert raw.recv(1 << 16) is not None
        if done == 5:
            os.kill(worker(1).pid, signal.SIGKILL)

    processes = {"name": "processes", "workers": 2, "deadline": LONG}
    with pytest.raises(RunError) as caught:
        run(chosen | {"runtime": processes}, tmp_path / "run", progress=progress, report=False)
    text = str(caught.value)
    assert "worker 1 (nodes 4 to 7) was killed by signal 9 (SIGKILL)" in text
    assert "--resume" in text
    assert children() == []
    folder = RunFolder.open(tmp_path / "run")
    assert folder.summary is not None
    assert folder.summary["status"] == "failed"
    assert not (folder.path / FOLDER).exists()  # nobody's examples are left
    assert folder.summary["rounds"] == seen[-1] < 100
    accuracy = folder.metrics().filter(
        (polars.col("name") == "accuracy") & polars.col("node").is_not_null()
    )
    assert accuracy.group_by("round").len().sort("round").rows() == [(r, 8) for r in seen]
    kinds = [event["kind"] for event in folder.events()]
    assert "worker lost" in kinds
    assert "failed" in kinds
    assert "frames dropped" in kinds
    folder = resume(tmp_path / "run", report=False)
    same = folder.metrics().filter(polars.col("name") != "round_seconds").drop("time")
    other = whole.metrics().filter(polars.col("name") != "round_seconds").drop("time")
    order = ["round", "name", "node"]
    same, other = same.sort(order, nulls_last=True), other.sort(order, nulls_last=True)
    assert same.drop("value").equals(other.drop("value"))
    assert (same["value"] - other["value"]).abs().max() < 1e-6
    nodes = polars.col("node").is_not_null()
    assert same.filter(nodes).equals(other.filter(nodes))


@pytest.mark.parametrize(("way", "phase"), [("raise", "training"), ("incoming", "incoming")])
def test_the_real_error_comes_out(
    trouble: Callable[..., Any], tmp_path: Path, way: str, phase: str
) -> None:
    with pytest.raises(OwnCodeError) as caught:
        run(trouble(way), tmp_path / "run", report=False)
    where = rf"round 3, phase {phase}: .*trouble_.*\.py, line \d+, in strike"
    assert re.search(rf"{where}: ZeroDivisionError: the cat sat on node 6", str(caught.value))
    assert "Traceback" in (tmp_path / "run" / "logs" / "worker-1.log").read_text()
    folder = RunFolder.open(tmp_path / "run")
    # The other worker may not have measured the second round when the third fails in this one.
    assert folder.metrics()["round"].max() in (1, 2)
    (failed,) = [e for e in folder.events() if e["kind"] == "failed"]
    assert "the cat sat on node 6" in failed["error"]
    assert children() == []


@pytest.mark.parametrize(
    ("body", "words", "runtime"),
    [
        ("size(self, rows): return [4] * 9", "size gives [9] of int64", "simulate"),
        ("size(self, rows): return [[4.0]] * 8", "size gives [8, 1] of float64", "simulate"),
        ("through(self, rows): return rows[:, :3]", "through gives Tensor [8, 3]", "simulate"),
        ("through(self, rows): return rows[:, :3]", "through gives Tensor [4, 3]", "processes"),
    ],
)
def test_a_codec_of_ones_own_is_named(
    small: Callable[..., Any], tmp_path: Path, body: str, words: str, runtime: str
) -> None:
    file = tmp_path / "own_codec.py"
    file.write_text(f"from hansa.codec import Dense\nclass Own(Dense):\n    def {body}\n")
    codec = {"algorithm": {"name": "dpsgd", "codec": f"{file}:Own"}, "runtime": runtime}
    with pytest.raises(OwnCodeError, match="phase exchange") as caught:
        run(small({"rounds": 1}) | codec, tmp_path / "run", report=False)
    assert "own_codec.py, Own" in str(caught.value)
    assert words in str(caught.value)


def test_in_the_simulation_too(trouble: Callable[..., Any], tmp_path: Path) -> None:
    settings = trouble("raise") | {"runtime": "simulate"}
    with pytest.raises(OwnCodeError, match=r"round 3, phase training.*the cat sat on node 6"):
        run(settings, tmp_path / "run", report=False)
    assert RunFolder.open(tmp_path / "run").metrics()["round"].max() == 2


@pytest.mark.slow  # the next one has the deadline
def test_a_silent_worker_ends_the_run_at_the_deadline(
    trouble: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"waited 300 s.*runtime\.deadline") as caught:
        run(trouble("sleep"), tmp_path / "run", report=False)
    assert caught.value.round == 3
    assert caught.value.node in range(4, 8)
    # The time is up at once here, so that the sleeper's last report may still be on its way.
    assert RunFolder.open(tmp_path / "run").metrics()["round"].max() in (1, 2)
    assert children() == []


def test_a_silent_worker_is_a_missing_message_where_the_algorithm_can_do_without(
    trouble: Callable[..., Any], tmp_path: Path
) -> None:
    """It sleeps over a round and goes on; its diary is enough to have the same run again."""
    settings = trouble("nap", sign=str(tmp_path / "sign"))
    run(settings, tmp_path / "run", report=False)
    folder = RunFolder.open(tmp_path / "run")
    missing = [e for e in folder.events() if e["kind"] == "missing"]
    assert {e["cause"] for e in missing} == {"silent"}
    assert missing[0]["round"] == 3
    first = {sender for e in missing if e["round"] == 3 for sender in e["senders"]}
    assert first <= set(range(4, 8))
    assert first
    # What it sends once it is awake is too late, and told even where the other has ended by then.
    (late,) = [e for e in folder.events() if e["kind"] == "frames dropped"]
    assert list(late["reasons"]) == ["late or repeated"]

    again = run(replay_of(folder.path), tmp_path / "again", report=False)
    assert again.summary is not None
    assert again.summary["equal"] is True
    both = [open_run(tmp_path / name).trained().block for name in ("run", "again")]
    assert torch.equal(both[0].rows, both[1].rows)
    for name in ("bytes_sent", "bytes_received", "messages_received", "modelled_time"):
        assert torch.equal(both[0].state[name], both[1].state[name]), name


def test_an_interrupt_stops_all_workers(small: Callable[..., Any], tmp_path: Path) -> None:
    def progress(done: int, figures: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    settings = small({"rounds": 500, "checkpoint": {"every": 400}})
    settings |= {"runtime": {"name": "processes", "workers": 2}}
    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path / "run", progress=progress, report=False)
    assert children() == []
    folder = RunFolder.open(tmp_path / "run")
    assert folder.summary is not None
    assert folder.summary["status"] == "interrupted"
    assert not (folder.path / FOLDER).exists()
    done = folder.summary["rounds"]
    assert done >= 2
    assert folder.metrics()["round"].max() == folder.summary["saved"] == done
    (saved,) = sealed(folder.path / "checkpoints")
    assert saved.name == f"round-{done:06d}"


def test_divergence_in_a_worker_stops_the_run(small: Callable[..., Any], tmp_path: Path) -> None:
    settings = small(
        {
            "train.on_divergence": "stop",
            "train.optimizer": {"name": "sgd", "lr": 1e6},
            "evaluate.every": 1,
        }
    ) | {"runtime": {"name": "processes", "workers": 2}}
    with pytest.raises(Diverged, match="training loss is") as caught:
        run(settings, tmp_path / "run", report=False)
    assert caught.value.node in range(8)
    assert caught.value.round == 1


@pytest.mark.slow
@pytest.mark.parametrize("when", ["they start", "at work"])
def test_workers_end_when_the_coordinator_is_gone(
    small: Callable[..., Any], tmp_path: Path, when: str
) -> None:
    """Even if it was killed and could not say a word, and while they still import."""
    import json
    import subprocess

    settings = small({"rounds": 100_000}) | {"runtime": {"name": "processes", "workers": 2}}
    code = (
        "import json, sys; from hansa.experiment import run; "
        "run(json.loads(sys.argv[1]), sys.argv[2], report=False)"
    )
    main = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(settings), str(tmp_path / "run")]
    )
    workers: list[psutil.Process] = []
    try:

        def ready() -> bool:
            if when == "at work":
                return (tmp_path / "run" / "metrics").exists()
            return len(psutil.Process(main.pid).children(recursive=True)) == 3

        while main.poll() is None and not ready():
            time.sleep(0.01)
        workers = psutil.Process(main.pid).children(recursive=True)
        assert len(workers) == 3  # with the one that has forked them
    finally:
        main.kill()
        main.wait()
    psutil.wait_procs(workers, timeout=LONG)
    alive = [process for process in workers if running(process)]
    for process in alive:
        process.kill()
    assert alive == []


def running(process: psutil.Process) -> bool:
    """Not ended; one that nobody has buried yet has ended."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_load_no_data(small: Callable[..., Any], tmp_path: Path) -> None:
    """A data set that is another each time it is loaded is loaded once."""
    (tmp_path / "drawn.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n\n"
        "def made():\n    torch.seed()\n"
        f"    open({str(tmp_path / 'loads')!r}, 'a').write('once ')\n"
        "    return TensorDataset(torch.randn(200, 4), torch.arange(200) % 2)\n"
    )
    settings = small({"rounds": 2}) | {
        "data": {"name": "torch", "dataset": f"{tmp_path / 'drawn.py'}:made"},
        "model": "logistic",
        "runtime": {"name": "processes", "workers": 2, "deadline": LONG},
    }
    run(settings, tmp_path / "run", report=False)
    assert (tmp_path / "loads").read_text() == "once "
    assert not (tmp_path / "run" / FOLDER).exists()  # nobody's examples are left
