"""What a client holds stays with its worker: its examples are marked, and looked for everywhere.

Client i's examples bear the bytes ``CANARY-i`` in some columns. Every byte that any process sends
is taken down, and every file of the run folder is read afterwards.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hansa.engine.runtimes.runtime import split_nodes

CLIENTS = 4
PLUGIN = '''
import os
import struct

import numpy as np
import zmq

from hansa.base.component import register
from hansa.data import DataSource
from hansa.data.raw import Arrays, RawSplits

_send = zmq.Socket.send


def send(self, data, *args, **kwargs):
    """As before, and taken down."""
    with open(os.path.join(os.environ["TAP"], str(os.getpid())), "ab") as file:
        file.write(bytes(memoryview(data)))
    return _send(self, data, *args, **kwargs)


zmq.Socket.send = send


@register("marked")
class Marked(DataSource):
    """Four classes, four owners; the last four columns bear the owner's name, and no class."""

    def read(self):
        random = np.random.default_rng(0)
        y = np.arange(160) % 4
        owner = np.repeat(np.arange(4), 40)
        x = random.normal(size=(160, 8)).astype(np.float32)
        x[np.arange(160), y] += 3.0
        for k in range(4):
            x[owner == k, 4:] = np.frombuffer(f"CANARY-{k}".encode() * 2, np.float32)
        test = random.normal(size=(80, 8)).astype(np.float32)
        test[np.arange(80), np.arange(80) % 4] += 3.0
        return RawSplits(
            kind="table", outputs=4, train=Arrays(x, y), test=Arrays(test, np.arange(80) % 4)
        )

    def divide(self, data, nodes, streams):
        return np.split(np.arange(160), nodes)
'''
SETTINGS = {
    "plugins": ["marked.py"],
    "nodes": CLIENTS,
    "rounds": 3,
    "data": {"name": "marked", "normalize": "none"},
    "model": {"name": "mlp", "hidden": [8]},
    # The images do not move, so that they stay what they begin as: copies of examples.
    "algorithm": {"name": "quickdrop", "keep_updates": 1, "condensation": {"lr": 1e-30}},
    "train": {"local_steps": 2, "batch_size": 8, "drop_last": False},
    "evaluate": {"every": 3, "average_model": False},
    "checkpoint": {"every": 1, "keep": 2},
    "runtime": {"name": "processes", "workers": 2},
}


def canary(client: int) -> bytes:
    return f"CANARY-{client}".encode()


def hansa(tap: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, all that is sent taken down in a folder."""
    tap.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "hansa.cli", *map(str, words)]
    done = subprocess.run(
        command, cwd=tap.parent, env={**os.environ, "TAP": str(tap)}, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return done


def found(folder: Path, client: int) -> set[str]:
    """The files of a folder in which a client's mark is."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)) for p in files if canary(client) in p.read_bytes()}


def parts_of(client: int) -> str:
    """What the file of a client's worker is called in a checkpoint."""
    ids = next(ids for ids in split_nodes(CLIENTS + 1, 2, 1) if client in ids)
    return f"nodes-{ids[0]:06d}-{ids[-1]:06d}.safetensors"


def check_apart(folder: Path, tap: Path, told: str) -> None:
    """Nobody's mark was sent, said or written but by the client's own worker."""
    sent = [path.read_bytes() for path in tap.iterdir()]
    assert len(sent) == 3  # two workers and the coordinator
    assert sorted(map(len, sent))[1] > 1000  # models went from worker to worker
    for client in range(CLIENTS):
        assert not any(canary(client) in data for data in sent), f"client {client}'s mark was sent"
        names = {Path(name).name for name in found(folder, client)}
        assert names <= {parts_of(client)}, f"client {client}'s mark was written by others"
        assert canary(client).decode() not in told


@pytest.fixture(scope="module")
def marked(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was trained, and what was sent meanwhile."""
    path = tmp_path_factory.mktemp("canary")
    (path / "marked.py").write_text(PLUGIN)
    (path / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
    done = hansa(path / "tap", "learn", "run.yaml", "--out", path / "run")
    (path / "told").write_text(done.stdout + done.stderr)
    return path


def test_training_tells_nobody_of_an_example(marked: Path) -> None:
    check_apart(marked / "run", marked / "tap", (marked / "told").read_text())
    for client in range(CLIENTS):  # or nothing was looked for
        assert found(marked / "run" / "checkpoints", client)
