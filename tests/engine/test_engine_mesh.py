"""Sockets between blocks: lost order, repetition and hostile frames change nothing."""

import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.base.errors import RunError, WireError
from hansa.codec import Dense
from hansa.engine import Job, Send, WallClock
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.mesh import HELD, Mesh
from hansa.engine.exchange.wire import UNASKED, Header, When, checksum
from hansa.topology import Graph

LONG = 300.0  # seconds; only a test that fails waits so long
PAYLOAD = np.arange(4, dtype=np.float32).tobytes()


def header(sender: int, receiver: int, round: int = 0, phase: int = 0, **changes: Any) -> Header:
    fields: dict[str, Any] = {
        "elements": 4,
        "size": len(PAYLOAD),
        "checksum": checksum(PAYLOAD),
        "arrival": 0.0,
        "kind": "model",
    }
    return Header(sender=sender, receiver=receiver, round=round, phase=phase, **(fields | changes))


class Patience(Deadline):
    """A deadline that passes when something has happened, whatever the clock says."""

    def __init__(self, enough: Callable[[], bool]) -> None:
        super().__init__(LONG)
        self.enough, self.touched = enough, 0

    def touch(self) -> None:
        self.touched = getattr(self, "touched", 0) + 1

    @property
    def passed(self) -> bool:
        return self.enough()


class Pair:
    """Two workers with nodes 0, 1 and 2, 3, and a way to speak out of turn."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.gone = False
        self.meshes = [Mesh(self.context, w, [0, 0, 1, 1], LONG, self.alive) for w in (0, 1)]
        for mesh in self.meshes:
            mesh.connect([other.port for other in self.meshes])

    def alive(self) -> None:
        if self.gone:
            raise ConnectionAbortedError

    def stranger(self, identity: bytes = b"worker-9") -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        socket.linger = 0
        if identity:
            socket.identity = identity
        socket.connect(f"tcp://127.0.0.1:{self.meshes[1].port}")
        return socket

    def close(self) -> None:
        for mesh in self.meshes:
            mesh.close()
        self.context.destroy(linger=0)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_messages_arrive_with_their_headers(pair: Pair) -> None:
    first, second = pair.meshes
    first.send(header(0, 2), PAYLOAD)
    first.send(header(1, 2), memoryview(PAYLOAD))
    second.send(header(3, 0), PAYLOAD)
    got = second.gather(When(0, "", 0), {(0, 2), (1, 2)})
    assert got == {(s, 2): (header(s, 2), PAYLOAD) for s in (0, 1)}
    assert first.gather(When(0, "", 0), {(3, 0)})[3, 0] == (header(3, 0), PAYLOAD)
    assert first.dropped == second.dropped == {}


def test_a_peer_may_be_ahead(pair: Pair) -> None:
    """Messages of later rounds and phases wait until they are asked for."""
    first, second = pair.meshes
    order = [(1, 0), (0, 1), (2, 0), (0, 0)]
    for round, phase in order:
        first.send(header(0, 2, round, phase, arrival=round + phase / 2), PAYLOAD)
    for round, phase in sorted(order):
        found, _ = second.gather(When(round, "", phase), {(0, 2)})[0, 2]
        assert (found.round, found.phase, found.arrival) == (round, phase, round + phase / 2)
    assert second.dropped == {}


def test_exchanges_that_not_all_take_part_in_are_told_apart_by_kind_and_turn(pair: Pair) -> None:
    """Whoever takes no part in them need not know how many there were."""
    first, second = pair.meshes
    turns = [("train", 2), ("more", 0), ("train", 0), ("model", 0)]
    for kind, turn in turns:
        first.send(header(0, 2, 3, turn, kind=kind, turned=True, arrival=turn), PAYLOAD)
    first.send(header(0, 2, 3, 1), PAYLOAD)
    first.send(header(0, 2, 4, 0), PAYLOAD)
    for kind, turn in reversed(turns):
        found, _ = second.gather(When(3, kind, turn), {(0, 2)})[0, 2]
        assert (found.kind, found.phase, found.arrival) == (kind, turn, turn)
    assert second.gather(When(3, "", 1), {(0, 2)})[0, 2][0].turned is False
    first.send(header(0, 2, 3, 2, kind="train", turned=True), PAYLOAD)
    second.gather(When(4, "", 0), {(0, 2)})
    first.send(header(0, 2, 3, 7, kind="train", turned=True), PAYLOAD)
    first.send(header(0, 2, 5, 0), PAYLOAD)
    second.gather(When(5, "", 0), {(0, 2)})
    assert second.dropped == {"late or repeated": 2}


def test_repeated_and_late_messages_are_counted_and_dropped(pair: Pair) -> None:
    first, second = pair.meshes
    other = struct.pack("<4f", 9, 9, 9, 9)
    first.send(header(0, 2), PAYLOAD)
    first.send(header(0, 2, checksum=checksum(other)), other)  # too late to replace the first
    first.send(header(1, 2), PAYLOAD)
    assert second.gather(When(0, "", 0), {(0, 2), (1, 2)})[0, 2][1] == PAYLOAD
    first.send(header(0, 2), PAYLOAD)
    first.send(header(0, 2, 1), PAYLOAD)
    second.gather(When(1, "", 0), {(0, 2)})
    assert second.dropped == {"repeated": 1, "late or repeated": 1}


def test_nothing_expected_is_nothing_waited_for(pair: Pair) -> None:
    assert pair.meshes[0].gather(When(0, "", 0), set()) == {}


def test_silence_ends_at_the_deadline_and_names_the_nodes(pair: Pair) -> None:
    first, second = pair.meshes
    second.deadlines[0] = Patience(lambda: bool(second._kept[When(0, "", 0)]))
    first.send(header(0, 2), PAYLOAD)
    with pytest.raises(RunError, match=r"waited 300 s .* node\(s\) 1;") as caught:
        second.gather(When(0, "", 0), {(0, 2), (1, 2), (1, 3)})
    assert (caught.value.node, caught.value.round, caught.value.phase) == (1, 1, "exchange")


def test_junk_does_not_put_off_the_deadline(pair: Pair) -> None:
    stranger, mesh = pair.stranger(), pair.meshes[1]
    mesh.deadlines[0] = patience = Patience(lambda: sum(mesh.dropped.values()) > 20)
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            stranger.send(b"still here")
            stop.wait(0.01)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        with pytest.raises(RunError, match="in vain"):
            mesh.gather(When(0, "", 0), {(0, 2)})
    finally:
        stop.set()
        thread.join()
        stranger.close()
    assert patience.touched == 1  # when the waiting began


def test_what_a_peer_repeats_does_not_put_off_its_deadline(pair: Pair) -> None:
    """Nor that of another, which says nothing at all."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    meshes = [Mesh(context, w, [0, 1, 2], LONG, lambda: None) for w in range(3)]
    for mesh in meshes:
        mesh.connect([other.port for other in meshes])
    mesh = meshes[2]
    mesh.deadlines[1] = patience = Patience(lambda: mesh.dropped.get("repeated", 0) > 20)
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            meshes[0].send(header(0, 2), PAYLOAD)
            stop.wait(0.01)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        with pytest.raises(RunError, match=r"node\(s\) 1;"):
            mesh.gather(When(0, "", 0), {(0, 2), (1, 2)})
    finally:
        stop.set()
        thread.join()
        for one in meshes:
            one.close()
        context.destroy(linger=0)
    assert patience.touched == 1  # when the waiting began


def test_a_silent_peer_is_given_up_and_waited_for_again_once_it_is_heard(pair: Pair) -> None:
    first, second = pair.meshes
    second.deadlines[0] = patience = Patience(lambda: bool(second._kept[When(0, "", 0)]))
    first.send(header(0, 2), PAYLOAD)
    got = second.gather(When(0, "", 0), {(0, 2), (1, 2), (1, 3)}, whole=False)
    assert list(got) == [(0, 2)]
    assert second.given_up == {0}
    touched = patience.touched
    assert second.gather(When(1, "", 0), {(0, 2)}, whole=False) == {}  # at once
    assert patience.touched == touched
    first.send(header(1, 2), PAYLOAD)  # too late, but not yet heard
    second.gather(When(2, "", 0), set())
    while not second.dropped:
        second._take()
    assert second.dropped == {"late or repeated": 1}
    assert second.given_up == set()
    first.send(header(0, 2, 3), PAYLOAD)
    assert list(second.gather(When(3, "", 0), {(0, 2)}, whole=False)) == [(0, 2)]
    assert second.dropped == {"late or repeated": 1}


def held_by(worker: int, receiver: int, hops: int) -> Header:
    size = {"size": 0, "checksum": checksum(b""), "elements": hops}
    return header(worker, receiver, 0, UNASKED, kind=HELD, turned=True, **size)


def test_who_is_held_up_by_a_silent_peer_is_waited_for() -> None:
    """Worker 0 says nothing, 1 waits for it, and 2 for 1: it is 0 that is found silent."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    meshes = [Mesh(context, w, [0, 1, 2], LONG, lambda: None) for w in range(3)]
    for mesh in meshes:
        mesh.connect([other.port for other in meshes])
    enough = threading.Event()
    meshes[1].deadlines[0] = Patience(enough.is_set)
    meshes[1]._said = Patience(lambda: True)
    meshes[2].deadlines[1] = patience = Patience(lambda: patience.touched > 3)
    found: list[str] = []

    def wait() -> None:
        try:
            meshes[1].gather(When(0, "", 0), {(0, 1)})
        except RunError as error:
            found.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        with pytest.raises(RunError, match=r"node\(s\) 1;"):  # it was put off by words alone
            meshes[2].gather(When(0, "", 0), {(1, 2)})
    finally:
        enough.set()
        thread.join()
        for one in meshes:
            one.close()
        context.destroy(linger=0)
    assert "node(s) 0;" in found[0]


def test_words_of_being_held_up_end_in_a_circle(pair: Pair) -> None:
    """They count the workers that they went over, and are no message."""
    first, second = pair.meshes
    second._said = Patience(lambda: True)
    second.deadlines[0] = Patience(lambda: second._held.get(0) == 2)
    sent: list[Header] = []
    second.send = lambda header, *rest: sent.append(header)  # type: ignore[method-assign]
    second._mouths[2] = second._mouths[0]  # a third worker, who has node 4
    second.owner = [0, 0, 1, 1, 2]
    first.send(held_by(0, 2, 2), b"")
    with pytest.raises(RunError, match="in vain"):
        second.gather(When(0, "", 0), {(0, 2)})
    del second._mouths[2]
    assert second.dropped == {}
    assert {one.receiver for one in sent} <= {4}  # nobody says so to whom it waits for
    assert {one.elements for one in sent} <= {1}  # beyond two workers they are not handed on


def test_whoever_waits_learns_that_it_is_pointless(pair: Pair) -> None:
    pair.gone = True
    with pytest.raises(ConnectionAbortedError):
        pair.meshes[1].gather(When(0, "", 0), {(0, 2)})


def test_an_oversized_frame_is_cut_off_before_it_is_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa.engine.exchange.mesh.MAX_PAYLOAD", 1000)
    mesh = Mesh(pair.context, 1, [0, 0, 1, 1], 0.5, pair.alive)
    liar = pair.context.socket(zmq.DEALER)
    liar.linger = 0
    liar.identity = b"worker-0"
    liar.connect(f"tcp://127.0.0.1:{mesh.port}")
    liar.send_multipart([header(0, 2, size=2000).pack(), b"x" * 2000])
    with pytest.raises(RunError, match="in vain"):
        mesh.gather(When(0, "", 0), {(0, 2)})
    assert mesh.dropped == {}
    mesh.close()
    liar.close()


FORGED: list[tuple[bytes, list[bytes], str]] = [
    (b"worker-0", [b""], "not a header"),
    (b"worker-0", [b"x" * 64], "not a header"),
    (b"worker-0", [header(0, 2).pack()], "not a header"),
    (b"worker-0", [header(0, 2).pack(), PAYLOAD, b""], "not a header"),
    (b"worker-0", [header(0, 2).pack()[:-1], PAYLOAD], "not a header"),
    (b"worker-0", [b"\xff" * 64, PAYLOAD], "not a hansa frame"),
    (b"worker-0", [header(0, 2).pack()[:-1] + b"?", PAYLOAD], "does not match its checksum"),
    (b"worker-0", [header(0, 2).pack(), PAYLOAD[:-1]], "announced were 16"),
    (b"worker-0", [header(0, 2).pack(), PAYLOAD[:-1] + b"?"], "does not match its checksum"),
    (b"worker-0", [header(0, 2, size=1 << 40).pack(), PAYLOAD], "over the limit"),
    (
        b"worker-0",
        [header(0, 2).pack(), PAYLOAD, header(0, 3, size=15).pack()],
        "different payloads",
    ),
    (b"worker-0", [header(99, 2).pack(), PAYLOAD], "does not exist"),
    (b"worker-0", [header(0, 99).pack(), PAYLOAD], "does not exist"),
    (b"worker-0", [header(3, 2).pack(), PAYLOAD], "does not live where it came from"),
    (b"worker-0", [header(0, 1).pack(), PAYLOAD], "does not live here"),
    (b"worker-9", [header(0, 2).pack(), PAYLOAD], "does not live where it came from"),
    (b"", [header(0, 2).pack(), PAYLOAD], "does not live where it came from"),
]


@pytest.mark.parametrize(("identity", "frames", "reason"), FORGED, ids=[f[2] for f in FORGED])
def test_forged_frames_are_counted_with_their_sender_and_dropped(
    identity: bytes, frames: list[bytes], reason: str
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    mesh = Mesh(context, 1, [0, 0, 1, 1], 0.3, lambda: None)
    liar = context.socket(zmq.DEALER)
    liar.linger = 0
    if identity:
        liar.identity = identity
    liar.connect(f"tcp://127.0.0.1:{mesh.port}")
    try:
        liar.send_multipart(frames)
        with pytest.raises(RunError, match="in vain"):
            mesh.gather(When(0, "", 0), {(0, 2)})
        ((why, times),) = mesh.dropped.items()
        assert times == 1
        assert reason in why
        assert repr(identity)[1:-1] in why
    finally:
        mesh.close()
        context.destroy(linger=0)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_no_frame_breaks_the_ear(pair: Pair, frames: list[bytes]) -> None:
    first, second = pair.meshes
    stranger = pair.stranger(b"")
    stranger.send_multipart(frames)
    round = second._oldest[0] + 1
    first.send(header(0, 2, round), PAYLOAD)
    assert second.gather(When(round, "", 0), {(0, 2)})[0, 2][1] == PAYLOAD
    stranger.close()


def test_a_message_of_another_kind_or_length_is_an_error_that_names_the_node(
    make_job: Callable[..., Job], pair: Pair
) -> None:
    graph = Graph.from_edges(4, [0], [2])
    block = make_job({"nodes": 4, "topology": "ring"}).block(np.array([2, 3]))
    part = block.rows[:, :4].clone()
    exchange = Exchange(WallClock(), pair.meshes[1])
    first = pair.meshes[0]
    first.send(header(0, 2, 0, kind="other"), PAYLOAD)
    with pytest.raises(WireError, match="node 0 sent 4 numbers of kind 'other' where 4 of kind"):
        exchange(block, Send(part, graph), 0, 0)
    first.send(header(0, 2, 1, elements=5), PAYLOAD)
    with pytest.raises(WireError, match="node 0 sent 5 numbers"):
        exchange(block, Send(part, graph), 1, 0)
    first.send(header(0, 2, 2), PAYLOAD)
    with pytest.raises(WireError, match="payload of 16 bytes for 4 elements"):
        exchange(block, Send(part, graph, Dense(dtype="float16")), 2, 0)
    first.send(header(0, 2, 3), PAYLOAD)
    inbox = exchange(block, Send(part, graph), 3, 0)
    assert inbox.messages(0)[1].tolist() == [[0, 1, 2, 3]]
    assert inbox.messages(1)[1].shape == (0, 4)
