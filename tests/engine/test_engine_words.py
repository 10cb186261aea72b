"""Words along a graph: who hears what, what it counts, and that no split of the nodes matters."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import RunError, WireError
from hansa.base.streams import Streams
from hansa.codec import Table, Tables
from hansa.engine import Algorithm, Block, Ending, Job, Script, Tell, WallClock
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.faults import Faults
from hansa.engine.exchange.wire import HEADER_BYTES, Header, Key, When, pack_control
from hansa.topology import Graph

N = 6
COUNTED = ("messages_sent", "messages_received", "bytes_sent", "bytes_received")
COUNTED_AGAIN = ("messages", "bytes")
DEFAULT = {"steps": -1, "share": 0.5}


@dataclass
class Some:
    """As much of a block as a word looks at."""

    ids: np.ndarray
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = {n: torch.zeros(len(self), dtype=torch.int64) for n in COUNTED}
        self.state["modelled_time"] = torch.from_numpy(self.ids * 1.5)

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        place = np.full(N, -1)
        place[self.ids] = np.arange(len(self.ids))
        return place[ids][place[ids] >= 0]


@dataclass
class Hall:
    """Where workers of one process leave frames for each other."""

    owner: list[int]
    frames: dict[tuple[When, Key], tuple[Header, bytes]] = field(default_factory=dict)
    news: threading.Condition = field(default_factory=threading.Condition)


@dataclass
class Corner:
    """One worker's end of it."""

    hall: Hall
    index: int

    @property
    def owner(self) -> list[int]:
        return self.hall.owner

    def tell(self, header: Header, payload: bytes) -> None:
        with self.hall.news:
            key = header.when, (header.sender, header.receiver)
            assert key not in self.hall.frames
            self.hall.frames[key] = Header.unpack(header.pack()), payload
            self.hall.news.notify_all()

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> dict[Key, tuple[Header, bytes]]:
        with self.hall.news:
            wanted = {(when, key) for key in expected}
            assert self.hall.news.wait_for(lambda: wanted <= self.hall.frames.keys(), 60)
            return {key: self.hall.frames[when, key] for key in expected}


@dataclass
class Case:
    """Edges of a graph, which of them words go along, and what the words say."""

    edges: list[tuple[int, int]]
    spoken: list[bool]
    steps: list[int]
    shares: list[float]

    @property
    def graph(self) -> Graph:
        return Graph.from_edges(N, [a for a, _ in self.edges], [b for _, b in self.edges])

    def tell(self, ids: np.ndarray) -> Tell:
        """What those of the nodes ``ids`` say."""
        said = [k for k, (a, _) in enumerate(self.edges) if self.spoken[k] and a in ids]
        pairs = np.array([self.edges[k] for k in said], dtype=np.int64).reshape(-1, 2)
        values = {
            "steps": np.array([self.steps[k] for k in said], dtype=np.int64),
            "share": np.array([self.shares[k] for k in said], dtype=np.float64),
        }
        return Tell(self.graph, pairs[:, 0], pairs[:, 1], values, DEFAULT, kind="word")

    def heard(self) -> dict[tuple[int, int], tuple[int, float, float]]:
        """By edge what comes along it and when it was said."""
        return {
            edge: (s, share, 1.5 * edge[0]) if spoken else (-1, 0.5, np.nan)
            for edge, spoken, s, share in zip(
                self.edges, self.spoken, self.steps, self.shares, strict=True
            )
        }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    node = st.integers(0, N - 1)
    pairs = st.tuples(node, node).filter(lambda e: e[0] != e[1])
    edges = sorted(draw(st.sets(pairs, max_size=14)))
    k = len(edges)

    def several(one: st.SearchStrategy[Any]) -> Any:
        return draw(st.lists(one, min_size=k, max_size=k))

    numbers = st.floats(allow_nan=False, allow_infinity=False)
    return Case(
        edges, several(st.booleans()), several(st.integers(-300, 1 << 40)), several(numbers)
    )


def told(case: Case, owner: list[int]) -> tuple[dict[tuple[int, int], Any], dict[str, np.ndarray]]:
    """(what is heard by edge, counters by node) where nodes live with these workers."""
    workers = sorted(set(owner))
    owner = [workers.index(w) for w in owner]
    hall = Hall(owner)
    blocks = [Some(np.flatnonzero(np.array(owner) == w)) for w in range(len(workers))]

    def one(w: int) -> Any:
        post: Any = Corner(hall, w) if len(workers) > 1 else None
        block: Any = blocks[w]
        return Exchange(WallClock(), post)(block, case.tell(block.ids), 2, 3)

    with ThreadPoolExecutor(len(workers)) as pool:
        answers = list(pool.map(one, range(len(workers))))
    heard: dict[tuple[int, int], Any] = {}
    counters = {name: np.zeros(N, dtype=np.int64) for name in COUNTED}
    for block, answer in zip(blocks, answers, strict=True):
        receivers = block.ids[answer.receivers]
        for e, edge in enumerate(zip(answer.senders.tolist(), receivers.tolist(), strict=True)):
            heard[edge] = (
                int(answer.values["steps"][e]),
                float(answer.values["share"][e]),
                float(answer.at[e]),
            )
            assert answer.came[e] == (not np.isnan(answer.at[e]))
        for name, whole in counters.items():
            whole[block.ids] = block.state[name].numpy()
    return heard, counters


@given(cases(), st.lists(st.integers(0, 3), min_size=N, max_size=N))
def test_no_split_of_the_nodes_changes_what_is_heard_or_counted(
    case: Case, owner: list[int]
) -> None:
    heard, counters = told(case, [0] * N)
    assert repr(heard) == repr({edge: case.heard()[edge] for edge in heard})
    assert heard.keys() == set(case.edges)
    apart, counted = told(case, owner)
    assert repr(sorted(apart.items())) == repr(sorted(heard.items()))
    for name, values in counters.items():
        assert counted[name].tolist() == values.tolist(), name


@given(cases())
def test_a_word_counts_as_the_table_message_that_it_is(case: Case) -> None:
    _, counters = told(case, [0] * N)
    expected = {name: np.zeros(N, dtype=np.int64) for name in COUNTED}
    for k, (sender, receiver) in enumerate(case.edges):
        if not case.spoken[k]:
            continue
        row = Tables.rows(steps=np.array([case.steps[k]]), share=np.array([case.shares[k]]))
        (payload,) = Table().encode(row)
        for way, node in (("sent", sender), ("received", receiver)):
            expected[f"messages_{way}"][node] += 1
            expected[f"bytes_{way}"][node] += len(payload) + HEADER_BYTES
    for name, values in expected.items():
        assert counters[name].tolist() == values.tolist(), name


def test_a_word_may_say_nothing_but_who_says_it() -> None:
    graph = Graph.from_edges(N, [0, 1, 2], [5, 5, 5])
    block: Any = Some(np.arange(N))
    tell = Tell(graph, np.array([2, 0]), np.array([5, 5]), kind="asleep")
    answer = Exchange(WallClock())(block, tell, 0, 0)
    assert answer.senders[answer.came].tolist() == [0, 2]
    assert block.state["bytes_sent"].tolist() == [HEADER_BYTES, 0, HEADER_BYTES, 0, 0, 0]
    assert block.state["modelled_time"].tolist() == (np.arange(N) * 1.5).tolist()


@pytest.mark.parametrize(
    ("senders", "receivers", "values", "why"),
    [
        ([1], [0], {"a": np.ones(1)}, "no edge"),
        ([0, 0], [1, 1], {"a": np.ones(2)}, "two along one"),
        ([0], [1], {}, "not every word"),
        ([0], [1], {"a": np.ones(2)}, "not every word"),
        ([3], [4], {"a": np.ones(1)}, "of another block"),
    ],
)
def test_words_that_cannot_go_are_refused(
    senders: list[int], receivers: list[int], values: dict[str, np.ndarray], why: str
) -> None:
    block: Any = Some(np.arange(3))
    graph = Graph.from_edges(N, [0, 3], [1, 4])
    tell = Tell(graph, np.array(senders), np.array(receivers), values, {"a": 0.0})
    with pytest.raises(ValueError, match=why):
        Exchange(WallClock())(block, tell, 0, 0)


def test_a_value_that_nobody_listens_to_is_refused() -> None:
    with pytest.raises(ValueError, match="'a'"):
        Tell(Graph.from_edges(2, [0], [1]), values={"a": np.zeros(0)})


GOOD: dict[str, Any] = {
    "senders": np.array([0]),
    "receivers": np.array([1]),
    "at": np.zeros(1),
    "sizes": np.array([3]),
    "body": bytes([1, 3, 7]),  # one row of one int64, as it is written in a byte
}


@pytest.mark.parametrize(
    "damage",
    [
        {"senders": np.zeros(1)},
        {"senders": np.array([0, 1])},
        {"senders": np.array([1])},
        {"receivers": np.array([2])},
        {"receivers": None},
        {"at": "noon"},
        {"at": np.array([np.nan])},
        {"at": np.array([np.inf])},
        {"senders": np.array(0)},
        {"senders": np.array([N]), "receivers": np.array([0])},  # the same number of an edge
        {"senders": np.array([-1])},
        {"sizes": np.array([[3]])},
        {"sizes": np.array([2])},
        {"sizes": np.array([-3])},
        {"body": None},
        {"body": b"\xff\xff\xff"},
        {"sizes": np.array([0]), "body": b""},
    ],
    ids=str,
)
def test_a_malformed_frame_is_a_wire_error(damage: dict[str, Any]) -> None:
    """Whatever another worker sends."""
    block: Any = Some(np.array([1]))
    hall = Hall([0, 1, 0, 0, 0, 0])
    post: Any = Corner(hall, 1)
    tell = Tell(Graph.from_edges(N, [0], [1]), default={"a": 0})
    header = Header(0, 1, 0, 0, 0, 0, 0, 0.0, "tell")
    (payload,) = Table().encode(Tables.rows(a=np.array([7])))
    good = {**GOOD, "sizes": np.array([len(payload)]), "body": bytes(payload)}
    hall.frames[When(0, "", 0), (0, 1)] = header, pack_control("tell", **good)
    assert Exchange(WallClock(), post)(block, tell, 0, 0).values["a"].tolist() == [7]
    hall.frames[When(0, "", 0), (0, 1)] = header, pack_control("tell", **{**good, **damage})
    with pytest.raises(WireError):
        Exchange(WallClock(), post)(block, tell, 0, 0)


def test_a_worker_speaks_for_its_own_nodes_alone() -> None:
    """Not for the server's, whose word another worker would otherwise have before it came."""
    block: Any = Some(np.array([2]))
    hall = Hall([0, 1, 2, 1, 1, 1])
    tell = Tell(Graph.from_edges(N, [0, 1], [2, 2]), default={"a": 0})
    (payload,) = Table().encode(Tables.rows(a=np.array([7])))
    word = {**GOOD, "receivers": np.array([2]), "sizes": np.array([len(payload)])}
    word["body"] = bytes(payload)
    for sender in (0, 1):
        header = Header(sender, 2, 0, 0, 0, 0, 0, 0.0, "tell")
        hall.frames[When(0, "", 0), (sender, 2)] = header, pack_control("tell", **word)
    post: Any = Corner(hall, 2)
    with pytest.raises(WireError, match="the worker of node 1 speaks for nodes that are not its"):
        Exchange(WallClock(), post)(block, tell, 0, 0)


def test_scripts_tell_over_real_sockets(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    """In rounds, by turns, and by some blocks alone."""

    class Whispering(Algorithm):
        """Node 0 tells every third round; 6 and 7 whisper among themselves."""

        def round(self, block: Block, t: int) -> Script:
            star = Graph.from_edges(8, np.zeros(7, dtype=np.int64), np.arange(1, 8))
            some = np.arange(1 + t, 8, 3) if 0 in block.ids else np.zeros(0, dtype=np.int64)
            values, zeros = {"a": some * 10.0 + t}, np.zeros(len(some), dtype=np.int64)
            answer = yield Tell(star, zeros, some, values, {"a": -1.0})
            came = answer.receivers[answer.came]
            block.state["heard"][came] += torch.from_numpy(answer.values["a"][answer.came])
            if np.isin([6, 7], block.ids).any():
                for turn in range(3):
                    pair = Graph.from_edges(8, [6], [7])
                    six = np.array([6])[np.isin([6], block.ids)]
                    whisper = Tell(pair, six, six + 1, kind="psst", turn=turn)
                    yield whisper

        def start(self, block: Block) -> None:
            block.state["heard"] = torch.zeros(len(block), dtype=torch.float64)

        def finish(self, block: Block, t: int) -> Ending:
            yield from ()
            return None

    def make() -> Job:
        job = make_job({"rounds": 3})
        job.algorithm = Whispering()
        return job

    whole = host(make())[0].state
    expected = [sum(10 * i + t for t in range(3) if i in range(1 + t, 8, 3)) for i in range(8)]
    assert whole["heard"].tolist() == expected
    assert whole["messages_sent"].tolist()[6] == 9
    for workers in (2, 3, 8):
        _, state, posts = host_apart(make, workers)
        for name, value in whole.items():
            assert torch.equal(state[name], value), name
        assert all(not post.dropped for post in posts)


@pytest.mark.parametrize("policy", ["wait", "skip", "abort"])
def test_words_that_a_fault_takes(policy: str) -> None:
    """Told again and counted apart, or left to the default; the teller's block knows which."""
    graph = Graph.from_edges(N, [0, 0, 0], [1, 2, 3])
    pairs, values = np.arange(1, 4), {"a": np.arange(1, 4)}
    how: Any = {"kind": "word", "on_missing": "wait" if policy == "wait" else "skip"}
    tell = Tell(graph, np.zeros(3, dtype=np.int64), pairs, values, {"a": 0}, **how)
    block: Any = Some(np.arange(N))
    block.events, block.streams = [], Streams(0)
    block.state |= {f"{what}_resent": torch.zeros(N, dtype=torch.int64) for what in COUNTED_AGAIN}
    ends = "abort" if policy == "abort" else None
    faults = Faults(lost=((4, 0, 2, "word"),), on_missing=ends)
    exchange = Exchange(WallClock(), faults=faults, tolerant=True)
    if policy == "abort":
        with pytest.raises(RunError, match="'word' from node 0 to node 2"):
            exchange(block, tell, 4, 0)
        return
    answer = exchange(block, tell, 4, 0)
    waits = policy == "wait"
    assert answer.values["a"].tolist() == [1, 2 if waits else 0, 3]
    assert answer.came.tolist() == [True, waits, True]
    assert answer.lost.tolist() == [False, not waits, False]
    assert block.state["messages_sent"].tolist() == [3, 0, 0, 0, 0, 0]
    assert block.state["messages_received"].tolist() == [0, 1, int(waits), 1, 0, 0]
    assert block.state["messages_resent"].tolist() == [int(waits), 0, 0, 0, 0, 0]
    (event,) = block.events
    assert (event["of"], event["senders"], event["receivers"]) == ("word", [0], [2])
    assert event["outcome"] == policy
    assert not exchange(block, tell, 5, 0).lost.any()
