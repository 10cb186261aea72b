"""Over real sockets: pins, lost lines, garbage, slow and greedy clients, many at once."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import ConfigError, WireError
from hansa.infer.private.protocol.allowances import Quotas
from hansa.infer.private.protocol.client_state import ClientState, digest_of, state_in
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.desk import Desk
from hansa.infer.private.protocol.dialing import Retries, Unreachable, WrongServer
from hansa.infer.private.protocol.frames import (
    HEADER_BYTES,
    LARGEST_FACTS,
    Frame,
    Kind,
    decode,
)
from hansa.infer.private.protocol.loopback import Nearby, serve_in_thread
from hansa.infer.private.protocol.pins import Identity, clients_in, make_identity
from hansa.infer.private.protocol.private_client import PrivateClient, asking
from hansa.infer.private.protocol.private_server import Patience, PrivateServer

from .toy_service import ToyClient, ToyService, expected

ROWS = np.arange(12).reshape(3, 4)
QUICK = Retries((0.0, 0.0), 10.0, 20.0)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("keys"), "server")


@contextmanager
def serving(
    keys: Identity, folder: Path, service: ToyService | None = None, **more: Any
) -> Iterator[tuple[Nearby, PrivateServer]]:
    quotas = more.pop("quotas", Quotas())
    desk = Desk(service or ToyService(4), folder, quotas, identified="clients" in more)
    server = PrivateServer(desk, keys, workers=2, **more)
    with serve_in_thread(server, keys.fingerprint) as nearby:
        yield nearby, server


def asked(nearby: Nearby, rows: np.ndarray = ROWS, **more: Any) -> np.ndarray:
    more = {"retries": QUICK, **more}
    with asking(nearby.address, nearby.pin, ToyClient, **more) as client:
        logits = client.ask(rows).logits
    assert logits is not None
    return logits


def test_logits_and_traffic_of_a_session(keys: Identity, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with (
        serving(keys, tmp_path) as (nearby, server),
        asking(nearby.address, nearby.pin, ToyClient) as client,
    ):
        answers = client.ask(ROWS, lambda *now: told.append(now))
        again = client.ask(ROWS + 1)
    assert np.array_equal(answers.logits, expected(ROWS, 4))
    assert np.array_equal(again.logits, expected(ROWS + 1, 4))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (answers.queries, answers.requests, answers.in_range.all()) == (3, 12, True)
    figures = server.figures()
    assert (figures["queries"], figures["sessions"], figures["refusals"]) == (6, 1, 0)
    assert figures["bytes_in"] == client.traffic.bytes_up
    assert figures["bytes_out"] == client.traffic.bytes_down
    assert client.traffic.lines == 1
    assert not list((tmp_path / "sessions").iterdir())  # the session is over


def test_eight_clients_at_once(keys: Identity, tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    got: dict[int, np.ndarray] = {}

    def one(k: int, nearby: Nearby) -> None:
        rows = ROWS + 100 * k
        with asking(nearby.address, nearby.pin, ToyClient) as client:
            client.ask(rows[:1])
            barrier.wait(60)  # all eight are in their sessions
            logits = client.ask(rows).logits
            assert logits is not None
            got[k] = logits

    with serving(keys, tmp_path) as (nearby, _):
        threads = [threading.Thread(target=one, args=(k, nearby)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(np.array_equal(got[k], expected(ROWS + 100 * k, 4)) for k in range(8))


def test_nothing_goes_to_a_server_that_is_not_the_pinned_one(
    keys: Identity, tmp_path: Path
) -> None:
    other = make_identity(tmp_path / "other", "server")
    with serving(keys, tmp_path / "state") as (nearby, server):
        client = PrivateClient(nearby.address, other.fingerprint, ToyClient, retries=QUICK)
        with pytest.raises(WrongServer, match="nothing was sent"):
            client.ask(ROWS)
    assert server.figures()["bytes_in"] == 0


def test_clients_are_known_by_their_certificates(keys: Identity, tmp_path: Path) -> None:
    known = make_identity(tmp_path / "a", "client")
    stranger = make_identity(tmp_path / "b", "client")
    clients = clients_in(tmp_path / "a")
    with serving(keys, tmp_path / "state", clients=clients) as (nearby, server):
        assert np.array_equal(asked(nearby, identity=known), expected(ROWS, 4))
        with pytest.raises(Refusal, match="unknown_client"):
            asked(nearby)
        with pytest.raises(Unreachable, match="may not know this client"):
            asked(nearby, identity=stranger)
    assert server.figures()["sessions"] == 1


def test_each_of_many_clients_is_known(keys: Identity, tmp_path: Path) -> None:
    """TLS looks certificates up by name, and tries one of those that share it."""
    (folder := tmp_path / "known").mkdir()
    made = [make_identity(tmp_path / f"client{k}", "client") for k in range(4)]
    for k, one in enumerate(made):
        (folder / f"{k}.pem").write_bytes(one.certificate.read_bytes())
    with serving(keys, tmp_path / "state", clients=clients_in(folder)) as (nearby, server):
        for one in made:
            assert np.array_equal(asked(nearby, identity=one), expected(ROWS, 4))
    assert server.figures()["sessions"] == 4


def test_quotas_are_refused_by_code(keys: Identity, tmp_path: Path) -> None:
    with (
        serving(keys, tmp_path, quotas=Quotas(session_queries=2)) as (nearby, _),
        pytest.raises(Refusal, match="session_quota: 2 queries"),
    ):
        asked(nearby)


def test_a_lost_line_is_found_again(keys: Identity, tmp_path: Path) -> None:
    class Losing(ToyService):
        lost = 0

        def before(self, query: int, step: int) -> None:
            if (query, step) == (1, 2) and self.lost < 2:
                self.lost += 1
                raise ConnectionResetError  # the server's handler hangs up

    with (
        serving(keys, tmp_path, Losing(4)) as (nearby, _),
        asking(nearby.address, nearby.pin, ToyClient, retries=QUICK) as client,
    ):
        assert np.array_equal(client.ask(ROWS).logits, expected(ROWS, 4))
    assert client.traffic.lines == 3


def test_a_server_that_is_gone_is_given_up(tmp_path: Path, keys: Identity) -> None:
    with serving(keys, tmp_path) as (nearby, _):
        pass
    waits: list[float] = []
    retries = Retries((0.5, 1.0, 2.0))
    client = PrivateClient(
        nearby.address, nearby.pin, ToyClient, retries=retries, wait=waits.append
    )
    with pytest.raises(Unreachable, match="cannot be reached"):
        client.ask(ROWS)
    assert waits == [0.5, 1.0, 2.0]


class Recording(ToyService):
    """Notes what comes, and may answer with garbage or hang up."""

    def __init__(self, garbage: Callable[[int, int], bool], hang_up: tuple[int, int]) -> None:
        super().__init__(6)
        self.garbage, self.hang_up = garbage, hang_up
        self.came: list[tuple[int, int]] = []

    def before(self, query: int, step: int) -> None:
        self.came.append((query, step))
        if (query, step) == self.hang_up and self.came.count(self.hang_up) < 3:
            raise ConnectionResetError

    def spoil(self, query: int, step: int, reply: bytes) -> bytes:
        return bytes(reversed(reply)) if self.garbage(query, step) else reply


def test_garbage_in_round_three_changes_nothing_that_the_server_sees(
    keys: Identity, tmp_path: Path
) -> None:
    seen, kept = [], []
    for name, garbage in (
        ("honest", lambda query, step: False),
        ("lying", lambda query, step: (query, step) == (1, 2)),
    ):
        service, waits = Recording(garbage, (2, 4)), list[float]()
        with serving(keys, tmp_path / name, service) as (nearby, server):
            more: dict[str, Any] = {"retries": Retries((0.25, 0.75)), "wait": waits.append}
            with asking(nearby.address, nearby.pin, ToyClient, **more) as client:
                answers = client.ask(ROWS)
        figures = server.figures()
        figures.pop("compute_s")
        seen.append((service.came, waits, figures, client.traffic))
        kept.append(answers.in_range.tolist())
    assert seen[0] == seen[1]
    assert kept == [[True, True, True], [True, False, True]]  # told to its owner alone


def test_a_server_that_serves_something_else_is_told_nothing_more(
    keys: Identity, tmp_path: Path
) -> None:
    class Changing(ToyService):
        def before(self, query: int, step: int) -> None:
            if (query, step) == (1, 1):
                self.outline = b'{"steps": 9}'
                raise ConnectionResetError

    with serving(keys, tmp_path, Changing(4)) as (nearby, server):
        client = PrivateClient(nearby.address, nearby.pin, ToyClient, retries=QUICK)
        with pytest.raises(WireError, match="something else than when the session began"):
            client.ask(ROWS)
        requests = server.figures()["requests"]
        with pytest.raises(Exception, match="cut short"):
            client.ask(ROWS)
    assert server.figures()["requests"] == requests


def test_a_state_is_for_its_rows_and_server_alone(keys: Identity, tmp_path: Path) -> None:
    with serving(keys, tmp_path / "server") as (nearby, _), state_in(tmp_path / "client") as state:
        more: dict[str, Any] = {"state": state, "retries": QUICK}
        client = PrivateClient(nearby.address, nearby.pin, ToyClient, rows=digest_of(ROWS), **more)
        with pytest.raises(ConfigError, match="rows"):
            client.ask(ROWS + 1)
        client.ask(ROWS)
        client.close()
        with pytest.raises(ConfigError, match="another process"):
            ClientState(tmp_path / "client")
        with pytest.raises(ConfigError, match="resume"):
            PrivateClient(nearby.address, nearby.pin, ToyClient, **more)
        with pytest.raises(ConfigError, match="input"):
            PrivateClient(nearby.address, nearby.pin, ToyClient, resume=True, **more)
        more = {"resume": True, "rows": digest_of(ROWS), **more}
        with pytest.raises(ConfigError, match="trust"):
            PrivateClient(nearby.address, "sha256:" + "0" * 64, ToyClient, **more)
        with asking(nearby.address, nearby.pin, ToyClient, **more) as client:
            assert np.array_equal(client.ask(ROWS).logits, expected(ROWS, 4))
        assert client.traffic.frames == 2  # HELLO and GOODBYE: all replies were there
        assert not (tmp_path / "client/session.json").exists()


@contextmanager
def raw(nearby: Nearby) -> Iterator[ssl.SSLSocket]:
    """A line of somebody who keeps to nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(nearby.address, timeout=30)
    with plain, context.wrap_socket(plain) as line:
        yield line


def everything(line: ssl.SSLSocket) -> bytes:
    """What comes until the other side ends it."""
    data = b""
    while piece := line.recv(1 << 16):
        data += piece
    return data


def refusal(line: ssl.SSLSocket) -> Refusal:
    return Refusal.of(decode(everything(line), lambda kind: LARGEST_FACTS))


@pytest.mark.parametrize(
    ("kind", "size", "code"),
    [
        (Kind.REQUEST, 2**32 - 1, "too_large"),
        (Kind.HELLO, LARGEST_FACTS, "too_large"),
        (Kind.REPLY, 1, "too_large"),
        (Kind.REPLY, 0, "malformed"),
    ],
)
def test_frames_too_large_for_their_kind_are_refused_at_their_header(
    keys: Identity, tmp_path: Path, kind: Kind, size: int, code: str
) -> None:
    head = bytearray(Frame(kind).encode())
    head[HEADER_BYTES - 8 : HEADER_BYTES - 4] = size.to_bytes(4, "big")
    with serving(keys, tmp_path) as (nearby, _), raw(nearby) as line:
        line.sendall(head)
        assert refusal(line).code == code


def test_another_version_and_noise_are_refused(keys: Identity, tmp_path: Path) -> None:
    later = bytearray(Frame(Kind.HELLO).encode())
    later[5] = 9
    for data, code in ((later, "wrong_version"), (b"GET / HTTP/1.1\r\n" * 8, "malformed")):
        with serving(keys, tmp_path) as (nearby, _), raw(nearby) as line:
            line.sendall(data[:HEADER_BYTES])
            assert refusal(line).code == code


def test_a_slow_client_holds_up_nobody_and_is_cut(keys: Identity, tmp_path: Path) -> None:
    patience = Patience(greeting_s=60, frame_s=1.0, slowest=1e9)
    frame = Frame(Kind.REQUEST, bytes(16), 0, 0, bytes(20)).encode()
    with (
        serving(keys, tmp_path, patience=patience) as (nearby, _),
        raw(nearby) as slow,
        raw(nearby) as silent,
    ):
        slow.sendall(frame[:-1])
        silent.sendall(frame[:3])
        assert np.array_equal(asked(nearby), expected(ROWS, 4))
        assert refusal(slow).code == "timed_out"


def test_what_is_held_for_all_has_a_limit(keys: Identity, tmp_path: Path) -> None:
    patience = Patience(held_bytes=1000, frame_s=60)
    frame = Frame(Kind.REQUEST, bytes(16), 0, 0, bytes(600)).encode()
    with (
        serving(keys, tmp_path, ToyService(pad=1000), patience=patience) as (nearby, server),
        raw(nearby) as first,
        raw(nearby) as second,
    ):
        first.sendall(frame[:-1])
        while not server._held:
            threading.Event().wait(0.01)
        second.sendall(frame)
        assert refusal(second).code == "busy"
        first.sendall(frame[-1:])
        assert refusal(first).code == "unknown_session"
    assert server._held == 0


def test_too_many_lines_are_refused(keys: Identity, tmp_path: Path) -> None:
    one = Patience(connections=1)
    with serving(keys, tmp_path, patience=one) as (nearby, server), raw(nearby):
        while not server._talking:
            threading.Event().wait(0.01)
        with raw(nearby) as second:
            assert refusal(second).code == "busy"


def test_no_client_holds_all_lines(keys: Identity, tmp_path: Path) -> None:
    one, other = (make_identity(tmp_path / name, "client") for name in ("a", "b"))
    clients = clients_in(tmp_path / "a") | clients_in(tmp_path / "b")
    few = Patience(client_connections=1)
    with (
        serving(keys, tmp_path / "state", clients=clients, patience=few) as (nearby, server),
        asking(nearby.address, nearby.pin, ToyClient, identity=one) as client,
    ):
        assert len(client.ask(ROWS).logits) == len(ROWS)
        with pytest.raises(Unreachable, match="busy: 1 connections are all of a client's"):
            asked(nearby, identity=one)
        assert np.array_equal(asked(nearby, identity=other), expected(ROWS, 4))
    assert not +server._lines


def test_the_end_is_told_to_those_who_wait(keys: Identity, tmp_path: Path) -> None:
    with serving(keys, tmp_path) as (nearby, server):
        line = raw(nearby)
        waiting = line.__enter__()
        while not server._waiting:
            threading.Event().wait(0.01)
    assert refusal(waiting).code == "draining"
    line.__exit__(None, None, None)
