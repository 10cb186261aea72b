"""A whole run over posts: hostile messages, repetition, order and speed change nothing."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import RunError
from hansa.engine import Job
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import Header
from hansa.engine.holding import Parts

from .test_engine_post import PAYLOAD, header


class Attack:
    """Says rubbish to every site of a run, in the names of the others, from a thread of its own."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self, posts: list[SitePost]) -> None:
        self.thread = threading.Thread(target=self._go, args=(posts,))
        self.thread.start()

    def _go(self, posts: list[SitePost]) -> None:
        forged = header(5, 7, elements=4).pack()
        rubbish = ([b"junk"], [b"", b""], [forged, PAYLOAD], [b"\0" * 64, b""])
        while not self.stop.wait(0.002):
            for post in posts:
                for parts in rubbish:
                    post.arrived((post.index + 1) % len(posts), parts)


def test_a_run_under_attack_is_the_same_run(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    whole, _ = host(make_job())
    attack = Attack()
    try:
        rows, state, posts = host_apart(make_job, 3, attack)
    finally:
        attack.stop.set()
        assert attack.thread is not None
        attack.thread.join()
    assert torch.equal(rows, whole.rows)
    assert torch.equal(state["bytes_received"], whole.state["bytes_received"])
    assert sum(sum(post.dropped.values()) for post in posts) > 0


def test_repeated_and_reordered_messages_give_the_same_run(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    whole, _ = host(make_job({"algorithm": "centralized"}))

    def meddle(posts: list[SitePost]) -> None:
        for post in posts:
            send, last = post.send, list[tuple[Any, ...]]()

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

            post.send = twice  # type: ignore[method-assign]

    rows, state, posts = host_apart(lambda: make_job({"algorithm": "centralized"}), 3, meddle)
    assert torch.equal(rows, whole.rows)
    for name in ("messages_received", "bytes_received", "bytes_sent", "messages_sent"):
        assert torch.equal(state[name], whole.state[name])
    reasons = {why for post in posts for why in post.dropped}
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

    def meddle(posts: list[SitePost]) -> None:
        gather = posts[1].gather

        def later(*args: Any, **more: Any) -> Any:
            time.sleep(0.05)
            return gather(*args, **more)

        posts[1].gather = later  # type: ignore[method-assign]

    rows, _, posts = host_apart(lambda: make_job(changes), 4, meddle)
    assert torch.equal(rows, whole.rows)
    assert all(post.dropped == {} for post in posts)


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
