"""A faulty run done again: sites that die in the middle of a round, and come back as they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.engine import Block, Job
from hansa.engine.exchange.recorded import Absence, Recorded, Rewind
from hansa.engine.exchange.wire import Header, Key, When
from hansa.engine.past import become, was
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block, seal
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.runtime import owners, split_nodes
from hansa.report.fault_log import standing

from .apart import in_order
from .test_engine_crash import SURVIVES

WORKERS, ROUNDS, LONG = 3, 6, 60.0


class Killed(Exception):
    """What a worker dies of."""


@dataclass(frozen=True)
class Death:
    """A worker's: in which round, after how many of its messages, as what and when it is back.

    Attributes:
        round: from 0.
        sent: messages that leave before.
        saved: it comes back as it was after so many rounds.
        at: the round, from 0, from which on it takes part again; None: never.
    """

    worker: int
    round: int
    sent: int
    saved: int
    at: int | None

    def covers(self, round: int) -> bool:
        return self.round <= round < (ROUNDS if self.at is None else self.at)


@dataclass
class Hall:
    """Where frames lie until they are fetched: sockets that lose nothing, and know who is dead."""

    owner: list[int]
    deaths: list[Death]
    frames: dict[tuple[When, Key], tuple[Header, bytes]] = field(default_factory=dict)
    dead: set[Death] = field(default_factory=set)
    events: list[dict[str, Any]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def silent(self, node: int, round: int) -> bool:
        return any(self.owner[node] == d.worker and d.covers(round) for d in self.dead)


@dataclass
class Corner:
    """One worker's end of it."""

    hall: Hall
    index: int
    sent: dict[int, int] = field(default_factory=dict)

    @property
    def owner(self) -> list[int]:
        return self.hall.owner

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        for each in (header, *more):
            self._leave(each, bytes(payload))

    def tell(self, header: Header, payload: bytes) -> None:
        self._leave(header, payload)

    def _leave(self, header: Header, payload: bytes) -> None:
        self._live(header.round)
        with self.hall.news:
            self.hall.frames[header.when, (header.sender, header.receiver)] = header, payload
            self.hall.news.notify_all()
        self.sent[header.round] = self.sent.get(header.round, 0) + 1

    def _live(self, round: int) -> None:
        """Die if the time has come."""
        with self.hall.news:
            for death in self.hall.deaths:
                due = death.worker == self.index and death.round == round
                if due and death not in self.hall.dead and self.sent.get(round, 0) >= death.sent:
                    self.hall.dead.add(death)
                    self.hall.news.notify_all()
                    raise Killed

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> dict[Key, tuple[Header, bytes]]:
        self._live(when.round)
        hall = self.hall

        def over() -> bool:
            return all(
                (when, key) in hall.frames or hall.silent(key[0], when.round) for key in expected
            )

        with hall.news:
            assert hall.news.wait_for(over, LONG)
            return {key: hall.frames[when, key] for key in expected if (when, key) in hall.frames}

    def share(self, when: When, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise AssertionError("nobody shares here")

    def note(self, event: dict[str, Any]) -> bool:
        with self.hall.news:
            self.hall.events.append(event)
        return True


def really(jobs: list[Job], deaths: list[Death], folder: Path) -> tuple[Any, Hall]:
    """Play a run in three workers, of whom some die; (what they came to, what was recorded)."""
    groups = split_nodes(jobs[0].nodes, WORKERS)
    hall = Hall(owners(groups), deaths)

    def report(values: dict[str, Any]) -> None:
        with hall.news:
            hall.events += [{**event, "round": values["round"]} for event in values["events"]]

    def one(w: int) -> Block:
        root, start, back = folder / str(w), 0, None
        lives = sorted((d for d in deaths if d.worker == w), key=lambda d: d.round)
        while True:
            block = jobs[w].block(groups[w])
            if back is not None:
                load_block(block, back, read_manifest(back))
            corner = Corner(hall, w)

            def save(block: Block, done: int) -> None:
                seal(root, done, [save_block(block, root, done)], keep=ROUNDS)

            host = Host(jobs[w], block, jobs[w].exchange(corner), report, save)
            if not start:
                save(block, 0)
            try:
                host.run(start)
            except Exception as error:
                if not isinstance(error.__cause__, Killed):
                    raise
                death = lives.pop(0)
                back = root / f"round-{death.saved:06d}"
                if death.at is None:  # what is left is the file
                    block = jobs[w].block(groups[w])
                    load_block(block, back, read_manifest(back))
                    return block
                start = death.at
            else:
                return block

    with ThreadPoolExecutor(WORKERS) as pool:
        blocks = list(pool.map(one, range(WORKERS)))
    for death in deaths:
        nodes = groups[death.worker].tolist()
        lost = {"kind": "lost", "round": death.round + 1, "nodes": nodes, "saved": death.saved}
        hall.events.append(lost)
        if death.at is not None:
            came = {"kind": "rejoined", "round": death.at + 1, "at": death.at + 1, "nodes": nodes}
            hall.events.append({**came, "from": death.saved})
    known = {name: value for block in blocks for name, value in block.state.items()}
    for name, like in known.items():
        for block in blocks:  # what is made when it is first used is as it is then, all zeros
            block.state.setdefault(name, torch.zeros(len(block), *like.shape[1:], dtype=like.dtype))
    return in_order(blocks), hall


def again(job: Job, recorded: Recorded) -> tuple[Block, list[dict[str, Any]]]:
    """Do a recorded run again in one block."""
    block, events = job.block(np.arange(job.nodes)), []

    def report(values: dict[str, Any]) -> None:
        events.extend({**event, "round": values["round"]} for event in values["events"])

    exchange = job.exchange(recorded=recorded.until(job.rounds))
    Host(job, block, exchange, report, lambda block, done: None).run()
    return block, events


def silences(events: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {
        (e["round"], e["of"], e["exchange"], e["outcome"], *pair)
        for e in events
        if e["kind"] == "missing"
        for pair in zip(e["senders"], e["receivers"], strict=True)
    }


@st.composite
def lives(draw: st.DrawFn) -> list[Death]:
    """Deaths of up to two workers, each up to twice; the third is always there."""
    deaths = []
    for worker in range(draw(st.integers(1, 2))):
        begin, saved = 0, 0
        for _ in range(draw(st.integers(1, 2))):
            if begin >= ROUNDS:
                break
            round = draw(st.integers(begin, ROUNDS - 1))
            kept = sorted({saved, *range(begin + 1 if begin else 0, round + 1)})
            saved = draw(st.sampled_from(kept))
            at = (
                draw(st.none() | st.integers(round + 1, ROUNDS - 1)) if round + 1 < ROUNDS else None
            )
            deaths.append(Death(worker, round, draw(st.integers(0, 8)), saved, at))
            if at is None:
                break
            begin = at
    return deaths


class Jobs(list[Job]):
    """Shown by its length: hypothesis prints what a test is given."""

    def __repr__(self) -> str:
        return f"{len(self)} jobs"


@pytest.fixture(scope="module", params=["dpsgd", "jwins", "skiptrain"])
def jobs(make_job: Callable[..., Job], request: pytest.FixtureRequest) -> Jobs:
    """One for each worker and one to do it again: losses are asked for, and time is modelled."""
    changes = {"nodes": 9, "rounds": ROUNDS, "topology.degree": 4, "algorithm": request.param}
    changes |= {"faults": {"loss": 0.1}, "checkpoint": {"every": 1}, "train.local_steps": 1}
    clock = {"name": "modelled", "spread": 1.0}
    return Jobs(make_job({**changes, "clock": clock}) for _ in range(WORKERS + 1))


@settings(max_examples=10)
@given(deaths=lives())
def test_what_dies_and_comes_back_is_done_again_to_the_bit(
    jobs: Jobs, tmp_path_factory: pytest.TempPathFactory, deaths: list[Death]
) -> None:
    there, hall = really(jobs[:WORKERS], deaths, tmp_path_factory.mktemp("real"))
    recorded = Recorded.of(hall.events)
    block, events = again(jobs[WORKERS], recorded)
    assert torch.equal(block.rows, there.rows)
    for key, value in there.state.items():
        assert torch.equal(block.state[key], value), key
    # What was recorded among those who were always there is recorded again.
    gone = [n for n in range(9) if any(a for a in recorded.absences if n in a.nodes)]
    both = [
        {one for one in silences(said) if not {*one[-2:]} & {*gone}}
        for said in (hall.events, events)
    ]
    assert both[0] == both[1]
    ends = recorded.until(ROUNDS).ends
    assert block.past.keys() == {(end.back, node) for end in ends for node in end.nodes}


SETTINGS: dict[str, dict[str, Any]] = {
    "cpfl": {"cohorts": 1},
    "greedy": {"budget": 3, "algorithm": "dpsgd"},
    "local_sgd": {"period": 2, "algorithm": "dpsgd"},
    "skiptrain_constrained": {"budget": 3},
}


MORE = ("fedadam", "fedavgm", "fednova", "fedprox", "fedyogi", "quickdrop", "random_sampling")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in MORE))
        for name in sorted(SURVIVES - {"isolated", "dpsgd", "jwins", "skiptrain"})
    ],
)
def test_every_algorithm_that_goes_on_is_done_again_to_the_bit(
    make_job: Callable[..., Job], tmp_path: Path, name: str
) -> None:
    """One that exchanges nothing has no messages after which its worker could die."""
    _dies_and_is_done_again(make_job, tmp_path, name, Death(1, 1, 3, 1, 3))


@pytest.mark.parametrize(
    ("name", "sent"), [("fedavg", 1), ("fedavg", 4), ("fedavg", 8), ("cpfl", 2)]
)
def test_a_server_that_dies_is_done_again_to_the_bit(
    make_job: Callable[..., Job], tmp_path: Path, name: str, sent: int
) -> None:
    """Some clients were invited, some have the model, and the rest knows of nothing."""
    _dies_and_is_done_again(make_job, tmp_path, name, Death(2, 2, sent, 1, 4))


@pytest.mark.parametrize("orphans", ["wait", "rehome"])
@pytest.mark.parametrize("sent", [pytest.param(k, marks=pytest.mark.slow) for k in (0, 1, 6)] + [3])
@pytest.mark.parametrize("at", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_an_edge_server_that_dies_is_done_again_to_the_bit(
    make_job: Callable[..., Job], tmp_path: Path, orphans: str, sent: int, at: int | None
) -> None:
    """Six of eight edges die in a worker, two live beside the cloud."""
    settings = {"edges": 8, "edge_rounds": 2, "orphans": orphans}
    death = Death(2, 1, sent, 1, at)
    _dies_and_is_done_again(make_job, tmp_path, "hierarchical", death, settings)


def _dies_and_is_done_again(
    make_job: Callable[..., Job],
    folder: Path,
    name: str,
    death: Death,
    more: dict[str, Any] | None = None,
) -> None:
    changes = {"nodes": 9, "rounds": ROUNDS, "topology.degree": 4, "checkpoint": {"every": 1}}
    settings = {**SETTINGS.get(name, {}), **(more or {})}
    changes |= {"algorithm": {"name": name, **settings}, "train.local_steps": 1}
    if name == "cpfl":
        changes |= {"data.public": 0.2, "evaluate.local_validation": 0.2}
    if name == "rex":
        ratings = {"name": "synthetic_ratings", "people": 27, "partition": {"name": "users"}}
        changes |= {"data": ratings, "model": "matrix_factorization"}
        changes |= {"train.optimizer.momentum": 0.0, "train.optimizer.lr": 0.01}
        changes["algorithm"] = {"name": name, "share": "both"}
    several = [make_job(changes) for _ in range(WORKERS + 1)]
    there, hall = really(several[:WORKERS], [death], folder)
    assert len(hall.dead) == 1
    block, _ = again(several[WORKERS], Recorded.of(hall.events))
    assert torch.equal(block.rows, there.rows)
    for key, value in there.state.items():
        assert torch.equal(block.state[key], value), key


def test_a_replay_goes_on_from_its_checkpoint(make_job: Callable[..., Job], tmp_path: Path) -> None:
    """What a node will become again is in the checkpoint, whoever has the node then."""
    job = make_job({"nodes": 9, "rounds": 6, "topology.degree": 4})
    recorded = Recorded(rewinds=(Rewind((3, 7), 2, 5), Rewind((0,), 0, 4)))
    whole, _ = again(make_job({"nodes": 9, "rounds": 6, "topology.degree": 4}), recorded)
    root = tmp_path / "saved"

    def save(block: Block, done: int) -> None:
        seal(root, done, [save_block(block, root, done)], keep=9)

    first = job.block(np.arange(9))
    exchange = job.exchange(recorded=recorded)
    Host(job, first, exchange, lambda report: None, save, lambda done: done == 3).run()
    saved = root / "round-000003"
    block = job.block(np.arange(9))
    load_block(block, saved, read_manifest(saved))
    assert set(block.past) == {(2, 3), (2, 7), (0, 0)}
    part = job.block(np.arange(4, 9))
    load_block(part, saved, read_manifest(saved))
    assert set(part.past) == {(2, 7)}
    Host(job, block, exchange, lambda report: None, save).run(3)
    assert torch.equal(block.rows, whole.rows)
    for name, value in whole.state.items():
        assert torch.equal(block.state[name], value), name


def test_a_node_becomes_all_that_it_was(make_job: Callable[..., Job]) -> None:
    """State, shelves and examples that came since, and state that was made since."""
    job = make_job({"nodes": 6, "topology": "ring"})
    block = job.block(np.arange(6))
    store = block.open_store()
    split = job.dataset.train
    width = int(np.prod(split.inputs.shape[1:]))

    def some(index: int) -> dict[str, np.ndarray]:
        rows = split.inputs[index : index + 2].reshape(2, width).numpy()
        return {"inputs": rows, "targets": split.targets[index : index + 2].numpy()}

    store.add(2, some(0))
    block.state["steps"][:] = torch.arange(6)
    before = was(block, 2), was(block, 3)
    held = [store.table(node) for node in (2, 3)]
    block.rows += 1
    block.state["steps"] += 5
    block.state["late"] = torch.ones(6, 3)
    store.add(2, some(4))
    store.add(3, some(6))
    for node in (2, 3):
        become(block, node, before[node - 2], ["steps"] if node == 3 else [])
        for name, values in store.table(node).items():
            np.testing.assert_array_equal(values, held[node - 2][name])
    assert torch.equal(block.rows[2:4], torch.cat([one["row"] for one in before]))
    assert block.state["steps"].tolist() == [5, 6, 2, 8, 9, 10]
    assert block.state["late"].sum(1).tolist() == [3, 3, 0, 0, 3, 3]


def test_what_was_taken_back_is_not_done_again() -> None:
    """A run that was resumed from round 2 has nothing of the rounds after it, as it was first."""
    silent = {"kind": "missing", "of": "model", "exchange": 0, "cause": "silent"}
    silent |= {"outcome": "self", "senders": [1], "receivers": [0]}
    events = [
        {**silent, "round": 2},
        {**silent, "round": 3},
        {"kind": "lost", "round": 4, "nodes": [1, 2], "saved": 1},
        {"kind": "truncated", "after_round": 2},
        {"kind": "lost", "round": 3, "nodes": [1, 2], "saved": 1},
        {"kind": "rejoined", "at": 5, "from": 1, "nodes": [1]},
    ]
    recorded = Recorded.of(events)
    assert list(recorded.silent) == [(1, "model", 0)]
    assert recorded.rewinds == (Rewind((1,), 1, 4),)
    assert set(recorded.absences) == {Absence((1,), 2, 4, 1), Absence((2,), 2, None, 1)}
    assert recorded.away(4, 3).tolist() == [False, True, True, False]
    assert recorded.away(4, 4).tolist() == [False, False, True, False]
    assert recorded.until(7).ends == (Rewind((2,), 1, 7),)
    assert len(standing(events)) == 4
