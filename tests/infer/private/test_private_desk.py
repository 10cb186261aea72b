"""The desk without sockets: orders, repeats, quotas, budgets, owners, and taking up again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import CheckpointError, ConfigError
from hansa.infer.private.protocol.allowances import Quotas
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.desk import Desk
from hansa.infer.private.protocol.frames import OPENING, Frame, Kind, unpack_facts

from .toy_service import CHEATING, HEAD, WIDTH, ToyClient, ToyService, expected

ME, OTHER = "sha256:me", "sha256:other"


class Talk:
    """A client that talks to a desk as it likes."""

    def __init__(self, desk: Desk, identity: str = ME) -> None:
        self.before: Callable[[], None] = lambda: None
        self.desk, self.identity = desk, identity
        welcome = self.send(Frame(Kind.HELLO, body=b"\x80"))
        self.session = welcome.session
        facts = unpack_facts(welcome.body, outline=bytes, scheme=bytes, mask_seed=bytes)
        self.client = ToyClient(*facts.values(), secret=b"s" * 32)
        self.said: list[tuple[Frame, Frame]] = []

    def send(self, frame: Frame) -> Frame:
        answer = self.desk.dispatch(self.identity, frame)
        if answer.kind is Kind.REFUSAL:
            raise Refusal.of(answer)
        return answer

    def request(self, query: int, step: int, body: bytes) -> bytes:
        frame = Frame(Kind.REQUEST, self.session, query, step, body)
        self.before()
        reply = self.send(frame)
        self.said.append((frame, reply))
        return reply.body

    def drive(self, query: int, row: np.ndarray | None = None, until: int = 99) -> Any:
        steps = self.client.open() if row is None else self.client.ask(query, row[None])
        body = next(steps)
        for step in range(until):
            try:
                body = steps.send(self.request(query, step, body))
            except StopIteration as end:
                return end.value
        return None


ROW = np.array([1, -2, 300, 4])


def talk(desk: Desk, identity: str = ME) -> Talk:
    one = Talk(desk, identity)
    one.drive(OPENING)
    return one


def refused(code: str) -> Any:
    return pytest.raises(Refusal, match=f"^{code}")


def body(step: int = 0) -> bytes:
    return bytes(HEAD + 8 * WIDTH - 1) + bytes([step])


def test_answers_are_those_in_the_clear(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(4), tmp_path))
    for query in range(3):
        answers = client.drive(query, ROW + query)
        assert np.array_equal(answers.logits, expected(ROW[None] + query, 4))


@pytest.mark.parametrize("live", [1, 8])
def test_a_repeat_gets_the_same_bytes_before_and_after_a_restart(tmp_path: Path, live: int) -> None:
    desk = Desk(ToyService(4), tmp_path, live=live)
    client = talk(desk)
    client.drive(0, ROW)
    client.drive(1, ROW, until=2)
    frame, reply = client.said[-1]
    assert client.send(frame) == reply
    other = talk(desk, OTHER)  # with one seat in memory it takes the place
    assert client.send(frame) == reply
    assert other.drive(0, ROW) is not None
    client.desk = Desk(ToyService(4), tmp_path)
    assert client.send(frame) == reply
    assert client.send(frame) == reply
    assert client.desk.counts.repeats == 2


def test_a_query_goes_on_after_a_restart_at_every_step(tmp_path: Path) -> None:
    whole = talk(Desk(ToyService(4), tmp_path / "one"))
    wanted = whole.drive(0, ROW)
    client = talk(Desk(ToyService(4), tmp_path / "two"))
    client.before = lambda: setattr(client, "desk", Desk(ToyService(4), tmp_path / "two"))
    assert np.array_equal(client.drive(0, ROW).logits, wanted.logits)


def test_what_is_not_next_is_refused_by_name(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(3), tmp_path))
    for query, step in ((0, 1), (1, 0), (0, 3), (5, 2)):
        with refused("out_of_order"):
            client.request(query, step, body())
    client.drive(0, ROW, until=2)
    with refused("changed"):
        client.request(0, 1, body(7))
    for query, step in ((0, 0), (OPENING, 0)):
        with refused("replayed"):
            client.request(query, step, body())
    with refused("out_of_order"):
        client.request(1, 0, body())  # the first is not through
    assert client.drive(0, ROW, until=0) is None
    client.request(0, 2, body())
    assert client.drive(1, ROW) is not None


def test_a_rejected_request_leaves_the_session_where_it_was(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(3), tmp_path))
    client.drive(0, ROW, until=1)
    with refused("rejected"):
        client.request(0, 1, b"short")
    client.request(0, 1, body())
    assert client.desk.counts.refusals == 1


def test_who_cheats_has_no_second_try(tmp_path: Path) -> None:
    desk = Desk(ToyService(3), tmp_path)
    client = talk(desk)
    client.drive(0, ROW, until=1)
    with refused("cheating"):
        client.request(0, 1, CHEATING)
    assert not list((tmp_path / "sessions").iterdir())
    for again in (desk, Desk(ToyService(3), tmp_path)):
        client.desk = again
        with refused("unknown_session"):
            client.request(0, 1, body())


def test_sessions_are_their_clients_own(tmp_path: Path) -> None:
    desk = Desk(ToyService(3), tmp_path)
    mine, other = talk(desk), talk(desk, OTHER)
    mine.session, other.session = other.session, mine.session
    for kind in (Kind.HELLO, Kind.REQUEST, Kind.GOODBYE):
        with refused("foreign_session"):
            mine.send(Frame(kind, mine.session, 0, 0, body()))
    with refused("unknown_session"):
        mine.send(Frame(Kind.REQUEST, b"?" * 16, 0, 0, body()))


def test_another_program_is_no_place_to_go_on(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(3), tmp_path))
    client.desk = Desk(ToyService(3, name=b"retrained"), tmp_path)
    for kind in (Kind.HELLO, Kind.REQUEST):
        with refused("other_program"):
            client.send(Frame(kind, client.session, 0, 0, body()))


def test_quotas_hold_across_sessions_and_restarts(tmp_path: Path) -> None:
    quotas = Quotas(session_queries=2, client_queries=3, client_sessions=2)
    client = talk(Desk(ToyService(2), tmp_path, quotas))
    client.drive(0, ROW)
    client.drive(1, ROW)
    with refused("session_quota"):
        client.drive(2, ROW)
    desk = Desk(ToyService(2), tmp_path, quotas)
    client = talk(desk)
    client.drive(0, ROW)
    with refused("too_many_sessions"):
        talk(desk)
    with refused("client_quota"):
        client.drive(1, ROW)
    client.send(Frame(Kind.GOODBYE, client.session))
    client = talk(Desk(ToyService(2), tmp_path, quotas))  # what is told stays told
    with refused("client_quota"):
        client.drive(0, ROW)
    assert talk(desk, OTHER).drive(0, ROW) is not None


def test_budgets_count_equations_and_name_the_layer(tmp_path: Path) -> None:
    quotas = Quotas(budget=0.5)
    desk = Desk(ToyService(1, budgeted=True), tmp_path, quotas)
    for _ in range(5):  # 10 equations a query on 100 weights
        client = talk(desk)
        client.drive(0, ROW)
        client.send(Frame(Kind.GOODBYE, client.session))
    desk = Desk(ToyService(1, budgeted=True), tmp_path, quotas)
    client = talk(desk)
    with pytest.raises(Refusal, match="budget: layer 0 would tell 60 equations on its 100 weights"):
        client.drive(0, ROW)
    assert talk(desk, OTHER).drive(0, ROW) is not None


def test_a_query_that_is_asked_again_counts_once(tmp_path: Path) -> None:
    quotas = Quotas(client_queries=1)
    client = talk(Desk(ToyService(3), tmp_path, quotas))
    client.drive(0, ROW, until=1)
    for _ in range(3):
        client.desk = Desk(ToyService(3), tmp_path, quotas)
        client.send(client.said[-1][0])
    assert client.desk._allowances.left(ME) == 0


def test_budgets_follow_the_weights_and_not_how_they_are_served(tmp_path: Path) -> None:
    """Another scheme or version of hansa is another service, of the same equations."""
    first = Desk(ToyService(1, name=b"one scheme"), tmp_path)  # mode shuffle: counted as well
    client = talk(first)
    for query in range(2):
        client.drive(query, ROW)
    desk = Desk(ToyService(1, name=b"another", budgeted=True), tmp_path, Quotas(budget=0.5))
    assert desk._allowances.left(ME) == 3
    client = talk(desk)
    for query in range(3):
        client.drive(query, ROW)
    assert desk._allowances.left(ME) == 0
    with pytest.raises(Refusal, match="layer 0 would tell 60 equations"):
        client.drive(3, ROW)
    assert desk._allowances.left(OTHER) == 5
    fresh = ToyService(1, name=b"a third", budgeted=True)
    fresh.weights = b"of other weights"
    assert Desk(fresh, tmp_path, Quotas(budget=0.5))._allowances.left(ME) == 5


def test_budgets_need_to_know_whose_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="certificates"):
        Desk(ToyService(budgeted=True), tmp_path, identified=False)


def test_a_damaged_count_is_not_taken_for_none(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(3), tmp_path))
    client.drive(0, ROW)
    (file,) = (tmp_path / "clients").iterdir()
    file.write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        client.drive(1, ROW)


def test_idle_sessions_expire_and_are_forgotten(tmp_path: Path) -> None:
    now = [0.0]
    desk = Desk(ToyService(2), tmp_path, Quotas(idle_s=10), clock=lambda: now[0])
    old, used = talk(desk), talk(desk)
    now[0] = 8
    used.drive(0, ROW)
    now[0] = 12
    with refused("unknown_session: it has expired"):
        old.drive(0, ROW)
    assert len(list((tmp_path / "sessions").iterdir())) == 1
    now[0] = 30
    assert desk.expire() == 1
    with refused("unknown_session"):
        used.drive(1, ROW)


def test_a_session_that_is_only_greeted_expires_soon(tmp_path: Path) -> None:
    now = [0.0]
    desk = Desk(ToyService(2), tmp_path, clock=lambda: now[0])
    opened, greeted = talk(desk), Talk(desk)
    now[0] = 1000
    assert desk.expire() == 1
    with refused("unknown_session"):
        greeted.drive(OPENING)
    assert opened.drive(0, ROW) is not None


def test_a_query_leaves_no_more_bytes_than_it_may(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(4), tmp_path, Quotas(held_bytes=90)))
    client.request(0, 0, body())
    client.request(0, 1, body())
    with refused("too_many_bytes"):
        client.request(0, 2, body())


def test_a_torn_end_of_the_log_is_cut_off(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(4), tmp_path))
    client.drive(0, ROW, until=2)
    (log,) = tmp_path.glob("sessions/*/query.frames")
    log.write_bytes(log.read_bytes()[:-3])
    client.desk = Desk(ToyService(4), tmp_path)
    frame, reply = client.said[-1]
    assert client.send(frame) == reply
    assert client.desk.counts.repeats == 0


def test_state_is_its_owners_alone(tmp_path: Path) -> None:
    client = talk(Desk(ToyService(3), tmp_path / "state"))
    client.drive(0, ROW, until=2)
    for path in [tmp_path / "state", *(tmp_path / "state").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    facts = json.loads(next(tmp_path.rglob("session.json")).read_text())
    assert len(bytes.fromhex(facts["secret"])) == 32
