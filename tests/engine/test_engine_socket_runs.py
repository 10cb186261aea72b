"""A whole run over sockets: hostile frames, repetition, order and speed change nothing."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import zmq

from hansa.base.errors import RunError
from hansa.engine import Job
from hansa.engine.exchange.mesh import Mesh
from hansa.engine.exchange.wire import Header
from hansa.engine.holding import Parts

from .test_engine_mesh import PAYLOAD, header


class Attack:
    """Sends rubbish to every worker of a run from a thread of its own, to its end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self, meshes: list[Mesh]) -> None:
        self.thread = threading.Thread(target=self._go, args=(meshes,))
        self.thread.start()

    def _go(self, meshes: list[Mesh]) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sockets = []
        for mesh in meshes:
            socket = context.socket(zmq.DEALER)
            socket.connect(f"tcp://127.0.0.1:{mesh.port}")
            sockets.append(socket)
        forged = header(0, 7, elements=4).pack()
        while not self.stop.is_set():
            for socket in sockets:
                for frames in ([b"junk"], [b"", b"", b""], [forged, PAYLOAD], [b"\0" * 64, b""]):
                    socket.send_multipart(frames)
            time.sleep(0.002)
        context.destroy(linger=0)


def test_a_run_under_attack_is_the_same_run(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    whole, _ = host(make_job())
    attack = Attack()
    try:
        rows, state, meshes = host_apart(make_job, 3, attack)
    finally:
        attack.stop.set()
        assert attack.thread is not None
        attack.thread.join()
    assert torch.equal(rows, whole.rows)
    assert torch.equal(state["bytes_received"], whole.state["bytes_received"])
    assert sum(sum(mesh.dropped.values()) for mesh in meshes) > 0


def test_repeated_and_reordered_messages_give_the_same_run(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    whole, _ = host(make_job({"algorithm": "centralized"}))

    def meddle(meshes: list[Mesh]) -> None:
        for mesh in meshes:
            send, last = mesh.send, list[tuple[Any, ...]]()

            def twice(
                header: Header,
                payload: bytes | memoryview,
                *more: Header,
                send: Any = send,
                last: Any = last,
            ) -> None:
                for message in last:  # what was sent before, again
                    send(*message)
                last[:] = [(header, bytes(payload), *more)]
                send(header, payload, *more)

            mesh.send = twice  # type: ignore[method-assign]

    rows, state, meshes = host_apart(lambda: make_job({"algorithm": "centralized"}), 3, meddle)
    assert torch.equal(rows, whole.rows)
    for name in ("messages_received", "bytes_received", "bytes_sent", "messages_sent"):
        assert torch.equal(state[name], whole.state[name])
    reasons = {why for mesh in meshes for why in mesh.dropped}
    assert reasons
    assert reasons <= {"repeated", "late or repeated"}


def test_slow_and_fast_blocks_give_the_same_run(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
) -> None:
    """On a line the far end runs ahead of a worker that sleeps."""
    changes = {"topology": "ring", "rounds": 6}
    whole, _ = host(make_job(changes))

    def meddle(meshes: list[Mesh]) -> None:
        gather = meshes[1].gather

        def later(*args: Any, **more: Any) -> Any:
            time.sleep(0.05)
            return gather(*args, **more)

        meshes[1].gather = later  # type: ignore[method-assign]

    rows, _, meshes = host_apart(lambda: make_job(changes), 4, meddle)
    assert torch.equal(rows, whole.rows)
    assert all(mesh.dropped == {} for mesh in meshes)


def test_an_error_in_one_block_is_the_one_that_comes_out(
    make_job: Callable[..., Job],
    host_apart: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Job] = []

    def make() -> Job:
        job = make_job()
        made.append(job)
        if len(made) == 2:
            monkeypatch.setattr(job, "party", partial(damaged, job.party))
        return job

    def damaged(party: Callable[[np.ndarray], Job], ids: np.ndarray) -> Job:
        job = party(ids)
        assert isinstance(job.parts, Parts)
        job.parts = Parts({i: np.full_like(p, 10**7) for i, p in job.parts.own.items()}, 8)
        return job

    with pytest.raises(RunError, match="IndexError") as caught:
        host_apart(make, 2)
    assert caught.value.node in range(4, 8)
    assert (caught.value.round, caught.value.phase) == (1, "training")
