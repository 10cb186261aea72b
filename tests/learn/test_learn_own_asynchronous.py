"""An asynchronous algorithm of one's own: in one block, in several, and saved on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import OwnCodeError, RunError
from hansa.engine import Job, Put, Send, Take, Tell
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block, seal
from hansa.engine.runtimes.host import Host
from hansa.topology import Graph

FAULTY = """
from typing import Any, ClassVar
from hansa import Asynchronous, Put, Take


class Undeclared(Asynchronous):
    "Puts what it has not declared."

    kinds: ClassVar[tuple[str, ...]] = ("model",)

    def wake(self, node: Any, t: int) -> Any:
        yield Put(node.graph(t).row(int(node.ids[0])), "other", node.rows)


class Forlorn(Undeclared):
    "Waits for what nobody sends."

    def wake(self, node: Any, t: int) -> Any:
        yield Take("model", count=1)
"""
GRAPH = Graph.from_edges(2, [0], [1])
OWN = Path(__file__).parents[2] / "examples" / "own_asynchronous.py"
CHANGES: dict[str, Any] = {
    "algorithm": f"{OWN}:PushGossip",
    "clock": {"name": "modelled", "spread": 1.0, "latency": 0.01},
}


def test_what_is_on_its_way_is_in_the_checkpoint(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Path
) -> None:
    """Resumed is uninterrupted, with messages in flight and with a codec that loses something."""
    whole, _ = host(make_job({**CHANGES, "rounds": 6}))
    assert whole.state["messages_sent"].sum() == 6 * 8
    assert 0 < len(whole.mail) < 48
    received = int(whole.state["messages_received"].sum())
    assert received == 6 * 8 - len(whole.mail)
    half, _ = host(make_job({**CHANGES, "rounds": 3}))
    assert half.mail
    seal(tmp_path, 3, [save_block(half, tmp_path, 3)], 2)
    job = make_job({**CHANGES, "rounds": 6})
    block = job.block(np.arange(8))
    load_block(block, tmp_path / "round-000003", read_manifest(tmp_path / "round-000003"))
    Host(job, block, job.exchange(), lambda report: None, lambda b, done: None).run(3)
    assert torch.equal(block.rows, whole.rows)
    for name, value in whole.state.items():
        assert torch.equal(block.state[name], value), name


@pytest.mark.parametrize("workers", [2, 3])
def test_in_blocks_apart_all_wake_and_nothing_is_lost(
    make_job: Callable[..., Job], host_apart: Callable[..., Any], workers: int
) -> None:
    rows, state, _ = host_apart(lambda: make_job({**CHANGES, "rounds": 4}), workers)
    assert torch.isfinite(rows).all()
    assert state["push.wakes"].sum() == 4 * 8
    assert state["messages_sent"].sum() == 4 * 8
    assert 0 < state["messages_received"].sum() <= 4 * 8


@pytest.fixture
def faulty(tmp_path: Path, make_job: Callable[..., Job]) -> Callable[[str], Job]:
    (tmp_path / "faulty.py").write_text(FAULTY)
    return lambda name: make_job({**CHANGES, "algorithm": f"{tmp_path / 'faulty.py'}:{name}"})


def test_a_kind_that_is_not_declared_is_refused_when_it_is_put(
    faulty: Callable[[str], Job], host: Callable[..., Any]
) -> None:
    with pytest.raises(OwnCodeError, match=r"no kind 'other' is declared\n  fix: \('model',\)"):
        host(faulty("Undeclared"))


def test_who_waits_for_what_nobody_sends_is_named(
    faulty: Callable[[str], Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    with pytest.raises(RunError, match=r"0, .* wait for messages of kind model that") as caught:
        host(faulty("Forlorn"))
    assert caught.value.repeats
    with pytest.raises(RunError, match=r"in vain .* wait for messages of kind model\); raise"):
        host_apart(lambda: faulty("Forlorn"), 2, deadline=0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Put(np.array([-1]), "model"),
        lambda: Put(np.array([1.0]), "model"),
        lambda: Put([1], "model"),  # type: ignore[arg-type]
        lambda: Take("model", senders=np.array([[1]])),
        lambda: Take("model", count=0),
        lambda: Take("model", until=float("nan")),
        lambda: Take("model", count=1, until=2.0),
        lambda: Send(torch.zeros(1, 1), GRAPH, on_missing="drop"),  # type: ignore[arg-type]
        lambda: Tell(GRAPH, on_missing="self"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_asked_for_is_refused_when_it_is(make: Callable[[], Any]) -> None:
    """Else it would go to the last node, wait for nothing, or do as if nothing had been said."""
    with pytest.raises(ValueError, match=r"to=|senders=|count|on_missing="):
        make()
