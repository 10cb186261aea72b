"""A Ray cluster of several nodes on this machine, in a process of its own.

Run as a script it takes a line for each thing to do on standard input, and answers on standard
output: ``add`` a node of one core, ``kill NAME`` its raylet. It ends with its input.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STORE = 80 << 20  # bytes of Ray's object store, close to the least that it takes
_PATIENCE = 240.0  # seconds in which Ray has to start, or to end
_LOG = 4_000  # characters of it that a failure shows
_ALONE = f"import ray; ray.init('local', num_cpus=1, object_store_memory={_STORE})"


class Nodes:
    """The cluster, as tests see it.

    Attributes:
        address: of the cluster.
        names: of its nodes but for the first.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log
        self.address = str(self._answer())
        self.names: list[str] = []

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait(_PATIENCE)
            raise Ended(f"the nodes ended with status {status}: {self.log.read_text()[-_LOG:]}")
        return json.loads(line)

    def _do(self, *words: str) -> Any:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        return self._answer()

    def add(self) -> None:
        """Add a node of one core."""
        self.names.append(self._do("add"))

    def kill(self) -> None:
        """Kill the raylet of the node that was added last, and so all actors there."""
        self._do("kill", self.names.pop())


class Ended(Exception):
    """The cluster's process is over, and this is what it said."""


def why_ray_cannot_start(folder: Path) -> str:
    """What Ray says where it cannot even start alone, with nothing of ours; empty: it can."""
    command = [sys.executable, "-c", _ALONE]
    try:
        alone = subprocess.run(
            command, env=_environment(folder), capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"it is not there after {_PATIENCE:g} s"
    return alone.stderr[-_LOG:] if alone.returncode else ""


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}


@contextlib.contextmanager
def ray_nodes(folder: Path) -> Iterator[Nodes]:
    """A cluster of two nodes of one core each, with a token in this process's environment."""
    log = (folder / "nodes.log").open("wb")
    with log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(folder),
        )
    try:
        nodes = Nodes(process, Path(log.name))
        nodes.add()
        yield nodes
    finally:
        process.communicate(timeout=_PATIENCE)


def _main(folder: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    from ray.cluster_utils import Cluster

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    size = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": _STORE}
    # Where Ray looks for its own files by default: there Cluster writes the address.
    first = {**size, "include_dashboard": False, "temp_dir": f"{folder}/ray"}
    cluster = Cluster(initialize_head=True, head_node_args=first)
    nodes: dict[str, Any] = {}
    answer(cluster.address)
    for line in sys.stdin:
        what, *more = line.split()
        if what == "add":
            node = cluster.add_node(**size)
            nodes[node.unique_id] = node
            answer(node.unique_id)
        else:
            cluster.remove_node(nodes.pop(more[0]), allow_graceful=False)
            answer("")
    cluster.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1])
