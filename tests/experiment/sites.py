"""Sites as processes of their own: forked from one that has imported everything, so that they cost
a fraction of a start by hand and are the same commands."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from hansa.engine.links.keys import Key
from hansa.engine.runtimes.checkpoint import latest, load_block, read_manifest
from hansa.experiment import RunFile, prepare

from ..toy.waiting import until

NAMES = ("north", "south", "east", "west", "coast", "hill", "lake", "river")
PATIENCE = {"start": 120.0, "peer": 240.0, "server": 240.0}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.experiment.sites_imports"])
GATE = """
    gate: str = Field("", description="a file that is there once the fourth round may begin")

    def round(self, block, t):
        if t == 3:
            Path(f"{self.gate}-{block.ids[0]}").touch()
        while t == 3 and not Path(self.gate).exists():
            time.sleep(0.02)
        return (yield from super().round(block, t))
"""
"""What an algorithm in a file of its own has, after imports of Path, Field and time, so that its
fourth round waits until it may begin."""
GATED = (
    """
import time
from pathlib import Path
from pydantic import Field
from hansa import register
from hansa.learn.gossip.dpsgd import DPSGD

@register("gated")
class Gated(DPSGD):
"""
    + GATE
)
"""An algorithm in a file of its own, whose fourth round waits until it may begin."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened at a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def nothing() -> None:
    """What most sites do before they begin."""


def _command(words: Sequence[str], log: str, folder: str, before: Callable[[], None]) -> None:
    """A command line with its output in a file; runs in the child."""
    from hansa.cli.app import main

    os.chdir(folder)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    torch.set_num_threads(1)
    before()
    status = main(list(words))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


class Sites:
    """Three or four sites in a folder, which are started, watched and ended.

    Args:
        nodes: ids of the nodes of each.
        each: settings of each site's file, or a function of its number that gives them.
    """

    def __init__(
        self,
        folder: Path,
        run: dict[str, Any],
        nodes: Sequence[Sequence[int]],
        each: Callable[[int], dict[str, Any]] = lambda k: {},
    ) -> None:
        self.folder, self.count = folder, len(nodes)
        self.processes: list[BaseProcess | None] = [None] * self.count
        self.ports = free_ports(self.count)
        (folder / "run.yaml").write_text(yaml.safe_dump(run))
        keys = [Key.generate(name) for name in NAMES[: self.count]]
        for key in keys:
            key.save(folder / f"{key.name}.key")
        for k in range(self.count):
            peers = [
                {
                    "name": NAMES[j],
                    "nodes": list(nodes[j]),
                    "address": f"127.0.0.1:{self.ports[j]}",
                    "key": keys[j].line,
                }
                for j in range(self.count)
                if j != k
            ]
            site = {
                "verb": "node",
                "name": NAMES[k],
                "run": "run.yaml",
                "nodes": list(nodes[k]),
                "listen": f"127.0.0.1:{self.ports[k]}",
                "key": f"{NAMES[k]}.key",
                "peers": peers,
                "data": "share",
                "tells": ["sizes", "labels", "names", "moments"],
                "patience": PATIENCE,
                "own_streams": "seed",
                **each(k),
            }
            self.file(k).write_text(yaml.safe_dump(site))

    def file(self, k: int) -> Path:
        """A site's file."""
        return self.folder / f"{NAMES[k]}.yaml"

    def change(self, k: int, **settings: Any) -> None:
        """Set some of a site's settings anew."""
        before = yaml.safe_load(self.file(k).read_text())
        self.file(k).write_text(yaml.safe_dump({**before, **settings}))

    def out(self, k: int) -> Path:
        """A site's run folder."""
        return self.folder / "runs" / f"run-{NAMES[k]}"

    def said(self, k: int) -> str:
        """What a site has printed."""
        log = self.folder / f"{NAMES[k]}.log"
        return log.read_text() if log.exists() else ""

    def start(self, *which: int, before: Callable[[], None] = nothing) -> None:
        """Start some sites, or all.

        Args:
            before: a function of a module, which their processes call first.
        """
        for k in which or range(self.count):
            words = ["node", "run", str(self.file(k)), "--no-report"]
            arguments = (words, str(self.folder / f"{NAMES[k]}.log"), str(self.folder), before)
            process = _FORKS.Process(target=_command, args=arguments)
            process.start()
            self.processes[k] = process

    def status(self, k: int, timeout: float = 300.0) -> int:
        """How a site ends."""
        process = self.processes[k]
        assert process is not None
        process.join(timeout)
        assert process.exitcode is not None, f"{NAMES[k]} has not ended:\n{self.said(k)}"
        return process.exitcode

    def finish(self) -> None:
        """Wait until all have come to their end."""
        for k in range(self.count):
            assert self.status(k) == 0, self.said(k)

    def wait(self, k: int, text: str) -> None:
        """Wait until a site has printed something."""
        process = self.processes[k]

        def printed() -> bool:
            over = process is not None and not process.is_alive()
            there = text in self.said(k)
            assert there or not over, self.said(k)
            return there

        until(printed, lambda: f"{NAMES[k]} does not say {text!r}:\n{self.said(k)}")

    def at_gate(self, k: int) -> None:
        """Wait until the first node of a site waits at the gate ``go`` of a gated run."""
        node = yaml.safe_load(self.file(k).read_text())["nodes"][0]
        until((self.folder / f"go-{node}").exists, lambda: self.said(k))

    def close(self) -> None:
        """End whoever still runs."""
        for process in self.processes:
            if process is not None and process.is_alive():
                process.kill()
                process.join()


@contextlib.contextmanager
def sites(*args: Any, **more: Any) -> Iterator[Sites]:
    """Sites that all have ended afterwards."""
    made = Sites(*args, **more)
    try:
        yield made
    finally:
        made.close()


def models_of(folders: Sequence[Path], run: RunFile) -> torch.Tensor:
    """The models [k, D] that a run came to, from the checkpoints of its folder or folders."""
    job = prepare(run, place=False)
    rows, ids = [], []
    for folder in folders:
        checkpoint = latest(folder / "checkpoints")
        assert checkpoint is not None, folder
        manifest = read_manifest(checkpoint)
        here = [n for e in manifest["files"] for n in range(e["nodes"][0], e["nodes"][1] + 1)]
        block = job.block(np.array(here))
        load_block(block, checkpoint, manifest)
        who, models = block.models()
        rows.append(models)
        ids.append(block.ids[who])
    return torch.cat(rows)[torch.from_numpy(np.concatenate(ids)).argsort()]
