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


class Nodes:
    """The cluster, as tests see it.

    Attributes:
        address: of the cluster.
        names: of its nodes but for the first.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.address = str(self._answer())
        self.names: list[str] = []

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

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
            env={**os.environ, "TMPDIR": str(folder)},
        )
    try:
        nodes = Nodes(process)
        nodes.add()
        yield nodes
    finally:
        process.communicate(timeout=120)


def _main(folder: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    from ray.cluster_utils import Cluster

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    size = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}
    first = {**size, "include_dashboard": False, "temp_dir": folder}
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
