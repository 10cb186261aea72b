"""Asynchronous runs: what puts off the end of a silence, and that nothing does so for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import RunError
from hansa.engine import Job
from hansa.engine.exchange.silences import Silences
from hansa.engine.exchange.wire import UNASKED, When, frame
from hansa.engine.runtimes.live import LEAD, MARK, Live
from hansa.engine.runtimes.mailing import Mailing

from .post_sites import Sites


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silence_ends_with_what_is_of_use_and_not_for_ever_with_all_else() -> None:
    clock = Clock()
    silences = Silences({1: 10.0, 2: 10.0}, clock)
    clock.now = 10.0
    assert silences.passed((1, 2)) == set()
    silences.useful(1)
    silences.lives(2)
    clock.now = 20.0
    assert silences.passed((1, 2)) == set()
    clock.now = 20.5
    assert silences.passed((1, 2)) == {1, 2}
    assert silences.passed((1,)) == {1}
    silences.begin()
    ends = []
    for _ in range(20):  # it is at work, and talks, and is of no use: three times the deadline
        clock.now += 5.0
        silences.lives(1)
        silences.useful(2)
        ends.append(silences.passed((1, 2)))
    assert ends[:7] == [set()] * 7
    assert ends[10:] == [{1}] * 10
    silences.useful(1)
    assert silences.passed((1, 2)) == set()


@pytest.fixture
def live(make_job: Callable[..., Job]) -> Live:
    """Worker 0 of two, with the first half of the nodes, which waits; time passes as it listens."""
    job = make_job({"algorithm": "adpsgd", "clock": {"name": "modelled"}})
    half = job.nodes // 2
    post = Sites((0,) * half + (1,) * (job.nodes - half)).posts[0]
    post.unasked = True
    block = job.block(np.arange(half))
    mailing = Mailing(block, job.clock, None, post)

    def guard(phase: str, t: int, work: Callable[[], Any], *codec: Any) -> Any:
        return work()

    one = Live(job, block, mailing, guard, lambda t: None).connect(post)
    clock, listens = Clock(), post.receive
    one._silences = Silences({1: 10.0}, clock)

    def receive(wait: int) -> Any:
        clock.now += 4.0
        return listens(0)

    post.receive = receive  # type: ignore[method-assign]
    one.begin(job.algorithm, 0)  # type: ignore[arg-type]
    return one


def told(live: Live, t: int, phase: int) -> None:
    """Worker 1 tells how far it is."""
    there, here = live.first[1], live.first[0]
    mark = frame(When(t, MARK, UNASKED), there, here, MARK, b"", elements=phase)
    live.post.arrived(1, [mark.pack(), b""])


@pytest.mark.parametrize("says", ["nothing", "the same again", "what makes no sense"])
def test_a_peer_that_is_of_no_use_is_not_waited_for_for_ever(live: Live, says: str) -> None:
    listens, heard = live.post.receive, []

    def receive(wait: int) -> Any:
        if says == "the same again":
            told(live, 0, 0)
        elif says == "what makes no sense":
            told(live, 10**6 + len(heard), 0)
        heard.append(says)
        return listens(wait)

    live.post.receive = receive  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"10 s in vain for the end of the round of worker\(s\) 1"):
        live.settle(0, True)
    assert len(heard) < 20


def test_a_telling_that_goes_further_is_of_use(live: Live) -> None:
    listens, tells = live.post.receive, iter([(0, 0), (0, 0), (0, 1), (0, 1)])

    def receive(wait: int) -> Any:
        told(live, *next(tells))
        return listens(wait)

    live.post.receive = receive  # type: ignore[method-assign]
    live.settle(0, True)
    live.post.receive = listens  # type: ignore[method-assign]
    told(live, LEAD + 1, 0)  # as far as anybody can be
    told(live, LEAD + 2, 0)
    for _ in range(2):
        live._receive(0)
    assert live._marks[1] == 2 * (LEAD + 1)
    assert list(live.post.dropped) == ["from worker 1: a telling of a round too far ahead"]
