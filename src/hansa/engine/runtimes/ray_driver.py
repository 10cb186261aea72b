"""The one process of a run that speaks to Ray: it places actors, watches them, and says so.

It is a process of its own because Ray's library takes over the signals of the process that it is
in, keeps two dozen threads there, and may end it. Packets come on standard input and go on standard
output; when the input ends, so does everything that was started here.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

from hansa.base.packets import read_packet, write_packet

_LOOK = 0.1  # seconds between two looks at the actors
_STORE = 80 << 20  # bytes of Ray's own object store, close to the least that it takes: unused here
_LAST = 20.0  # seconds that Ray has to end
_TEXT = 400  # characters of an error
_LINES = 4  # of what Ray says of an actor's end


@dataclass
class _Placed:
    """An actor, and what it was last asked.

    Attributes:
        handle: Ray's.
        answer: what will be there when it has answered; None: it was asked nothing since.
        hosts: it was asked to host its site; before, for its key.
        since: when it was asked, s.
    """

    handle: Any
    answer: Any
    hosts: bool = False
    since: float = 0.0


class Driver:
    """Does what packets ask.

    ``{"connect": ...}`` comes first, then for each start of a site ``{"place": name}``, which is
    answered by ``{"placed": name, ...}``; ``{"host": name, "order": ...}``, which is answered by
    ``{"ended": name, "how": ...}`` once it is over, as is a place that is not found; and
    ``{"kill": name}`` and ``{"interrupt": name}``.

    Args:
        answers: where packets go.
    """

    def __init__(self, answers: BinaryIO) -> None:
        self.answers = answers
        self.actors: dict[str, _Placed] = {}
        self.share: dict[str, float] = {}
        self.patience = 0.0
        self.kind: Any = None

    def say(self, **packet: Any) -> None:
        """Write a packet."""
        write_packet(self.answers, packet)

    def connect(self, order: dict[str, Any]) -> None:
        """Reach a Ray, or start one that ends with this process."""
        import ray

        self.share = {"num_cpus": order["cpus"], "num_gpus": order["gpus"]}
        self.patience = order["patience"]
        module, _, name = order["actor"].partition(":")
        self.kind = getattr(importlib.import_module(module), name)
        quiet: dict[str, Any] = {"logging_level": "WARNING", "log_to_driver": True}
        if order["address"]:
            ray.init(address=order["address"], **quiet)
            workers = order["workers"]
            whole = ray.cluster_resources()
            for name, each in (("CPU", order["cpus"]), ("GPU", order["gpus"])):
                if (has := whole.get(name, 0.0)) < workers * each:
                    self.say(lacks=name, has=has, needs=workers * each)
                    return
        else:
            gpus = None if order["gpus"] else 0  # None: those that this machine has
            ray.init(
                address="local",
                num_cpus=order["cores"],
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=_STORE,
                _temp_dir=order["folder"],
                **quiet,
            )
        cores = ray.cluster_resources().get("CPU", 0.0)
        self.say(ready=ray.util.get_node_ip_address(), cores=cores)

    def take(self, packet: dict[str, Any]) -> None:
        """Do what a packet asks."""
        import ray

        if "place" in packet:
            self._place(packet["place"])
        elif "host" in packet:
            placed = self.actors.get(packet["host"])
            if placed is not None:
                placed.hosts, placed.answer = True, placed.handle.host.remote(packet["order"])
        elif "kill" in packet and (placed := self.actors.get(packet["kill"])) is not None:
            ray.kill(placed.handle)
        elif "interrupt" in packet and (placed := self.actors.get(packet["interrupt"])) is not None:
            placed.handle.interrupt.remote()

    def _place(self, name: str) -> None:
        import ray

        options = {
            **self.share,
            # A site that is gone is started by who knows how far the others are, not by Ray.
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 2 if hasattr(self.kind, "interrupt") else 1,
            "scheduling_strategy": "SPREAD",
        }
        handle: Any = ray.remote(self.kind).options(**options).remote()
        self.actors[name] = _Placed(handle, handle.key.remote(), since=time.monotonic())

    def look(self) -> None:
        """Say what has become of the actors since."""
        import ray

        asked = {name: one for name, one in self.actors.items() if one.answer is not None}
        names = {placed.answer: name for name, placed in asked.items()}
        if not names:
            time.sleep(_LOOK)
            return
        ready, waiting = ray.wait(list(names), num_returns=1, timeout=_LOOK)
        for answer in ready:
            name = names[answer]
            try:
                came = ray.get(answer)
            except ray.exceptions.RayError as error:
                self._over(name, told(error))
                continue
            if self.actors[name].hosts:
                self._over(name, f"ended with status {came}")
            else:
                self.actors[name].answer = None
                self.say(placed=name, **came)
        for answer in waiting:
            placed = self.actors[names[answer]]
            if not placed.hosts and time.monotonic() - placed.since > self.patience:
                wants = ", ".join(f"{k.removeprefix('num_')} {v:g}" for k, v in self.share.items())
                self._over(names[answer], f"found no place in {self.patience:g} s ({wants})")

    def _over(self, name: str, how: str) -> None:
        import ray

        # Whatever is left of it: one that is only out of reach must not come back.
        ray.kill(self.actors.pop(name).handle)
        self.say(ended=name, how=how)


def told(error: Exception) -> str:
    """How an actor was lost, as the end of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"was lost ({kind}: {' '.join(lines[:_LINES])[:_TEXT]})"


def main() -> int:
    """Do what comes on standard input until it ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Ray, and what actors print: into the log
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def listen() -> None:
        while (packet := read_packet(requests)) is not None:
            orders.put(packet)
        orders.put(None)
        time.sleep(_LAST)
        os._exit(1)  # Ray does not return

    threading.Thread(target=listen, daemon=True).start()
    first = orders.get()
    if first is None:
        return 3
    driver = Driver(answers)
    try:
        try:
            driver.connect(first["connect"])
        except Exception as error:
            driver.say(failed=f"{type(error).__name__}: {error}"[:_TEXT])
            raise
        while True:
            try:
                packet = orders.get_nowait()
            except queue.Empty:
                driver.look()
                continue
            if packet is None:
                return 0
            driver.take(packet)
    finally:
        end(first["connect"]["folder"])


def end(folder: str) -> None:
    """Let go of Ray, and end the one that was started here with all that it keeps."""
    import ray

    ray.shutdown()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
