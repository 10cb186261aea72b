"""An actor of Ray in which one run of a sweep lives, on whichever machine Ray has put it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

_WORKER = "hansa.experiment.sweep.worker"


class RunActor:
    """Hosts one run, in a process of its own that ends with the actor.

    :meth:`interrupt` is called while :meth:`host` goes on: such an actor needs two threads.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

    def key(self) -> dict[str, Any]:
        """Where this is, and which hansa; a run needs no key."""
        import ray

        from hansa import __version__

        return {"key": "", "address": ray.util.get_node_ip_address(), "version": __version__}

    def host(self, order: dict[str, Any]) -> int:
        """Take a run to its end; returns the process's exit status.

        Args:
            order: as of :func:`hansa.experiment.sweep.worker.host`, and ``threads``: cores that it
                may use.
        """
        from hansa.base import child
        from hansa.base.packets import write_packet

        log = Path(order["log"])
        if not log.parent.is_dir():
            raise FileNotFoundError(f"{log.parent}: runs of a sweep need a disk that all share")
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*child.command(_WORKER), "--index=1"],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": str(order["threads"])},
            )
        pipe: Any = self._process.stdin
        with pipe:
            write_packet(pipe, order)
        if self._asked:
            self.interrupt()
        return self._process.wait()

    def interrupt(self) -> None:
        """Ask the run to save what it has and end."""
        self._asked = True
        if self._process is not None:
            self._process.terminate()
