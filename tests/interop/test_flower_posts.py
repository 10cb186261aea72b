"""What the two sides of a Flower app refuse: clients that fail, and scripts that do not fit."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import Context, Error, Message

from hansa.base.errors import RunError, WireError
from hansa.engine import Send, Share
from hansa.engine.exchange.wire import Header, When, checksum
from hansa.interop.flower import client_app
from hansa.interop.flower.letters import Letter
from hansa.interop.flower.members import Members
from hansa.interop.flower.posts import ClientPost, ServerPost
from hansa.topology import Graph

SERVER, CLIENTS = 3, 3


def piece(sender: int, receiver: int, phase: int = 1) -> tuple[Header, bytes]:
    payload = bytes([sender, receiver, phase])
    return Header(sender, receiver, 0, phase, 1, 3, checksum(payload), 0.0, "model"), payload


def answering(round: int, letters: dict[int, Letter]) -> dict[int, Letter]:
    """Clients that say one thing each, in phase 2."""
    return {k: Letter({"report": {"of": k}}, [piece(k, SERVER, 2)]) for k in letters}


def test_letters_come_back_as_they_were() -> None:
    letter = Letter({"shared": {0: {"a": np.arange(3)}}}, [piece(3, 0), piece(3, 1)])
    found = Letter.unpack(letter.pack())
    assert found.mail == letter.mail
    assert np.array_equal(found.facts["shared"][0]["a"], np.arange(3))


def test_a_changed_payload_is_noticed() -> None:
    header, _ = piece(3, 0)
    with pytest.raises(WireError, match="checksum"):
        Letter.unpack(Letter({}, [(header, b"xyz")]).pack())


def test_what_was_said_and_decided_goes_in_one_letter() -> None:
    seen: dict[int, Letter] = {}

    def deliver(round: int, letters: dict[int, Letter]) -> dict[int, Letter]:
        seen.update(letters)
        return answering(round, letters)

    post = ServerPost(CLIENTS, 4, deliver, {"settings": "{}"})
    post.share(When(0, "", 0), {"plan": np.array([1])})
    post.send(*piece(SERVER, 0))
    assert post.gather(When(0, "", 1), set()) == {}
    assert not seen
    post.send(*piece(SERVER, 1))
    got = post.gather(When(0, "", 2), {(0, SERVER), (2, SERVER)})
    assert {k: len(letter.mail) for k, letter in seen.items()} == {0: 1, 2: 0}
    assert got[2, SERVER] == piece(2, SERVER, 2)
    assert post.close(0).keys() == {0, 1, 2}  # who is not waited for gets the letter at the end
    assert len(seen[1].mail) == 1
    assert post.close(1) == {}


def test_a_script_that_turns_to_a_client_twice_is_refused() -> None:
    post = ServerPost(CLIENTS, 4, answering, {})
    post.send(*piece(SERVER, 0))
    post.gather(When(0, "", 2), {(0, SERVER)})
    post.send(*piece(SERVER, 0, 3))
    with pytest.raises(RunError, match="answers once"):
        post.close(0)


def test_what_a_client_did_not_say_is_missed() -> None:
    post = ServerPost(CLIENTS, 4, answering, {})
    with pytest.raises(RunError, match=r"node 1.*did not send what was due"):
        post.gather(When(0, "", 7), {(1, SERVER)})


def test_a_message_in_the_name_of_another_is_refused() -> None:
    def lie(round: int, letters: dict[int, Letter]) -> dict[int, Letter]:
        return {0: Letter({"report": {}}, [piece(1, SERVER, 2)])}

    post = ServerPost(CLIENTS, 4, lie, {})
    with pytest.raises(WireError, match="client 0 sent a message of node 1"):
        post.gather(When(0, "", 2), {(0, SERVER)})


def test_a_client_knows_how_far_its_letter_goes() -> None:
    letter = Letter({"round": 0, "shared": {0: {}}}, [piece(SERVER, 1)])
    post = ClientPost(1, CLIENTS, 4, letter)
    down = Graph.from_edges(4, np.array([SERVER]), np.array([1]))
    decision = Share({"plan": np.zeros(1)})
    assert post.answers(decision, 0)
    assert not post.answers(decision, 4)
    assert post.answers(Share({}), 4)  # there is nothing to wait for
    send = Send(np.zeros((0, 1)), down)  # type: ignore[arg-type]
    assert post.answers(send, 1)
    assert not post.answers(send, 3)
    assert post.answers(Send(send.rows, down.transpose()), 3)


def test_clients_decide_nothing() -> None:
    post = ClientPost(1, CLIENTS, 4, Letter({"round": 0, "shared": {0: {}}}))
    with pytest.raises(RunError, match="cannot share asleep"):
        post.share(When(0, "", 0), {"asleep": np.array([1])})


def test_a_client_that_fails_or_keeps_silent_is_named(
    grid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = client_app()

    def fails_at_work(message: Message, context: Context) -> Message:
        if message.metadata.message_type.startswith("query"):
            return healthy(message, context)
        return Message(Error(0, "out of memory"), reply_to=message)

    nodes = grid(fails_at_work, 3)
    members = Members(nodes, 3, wait=1, timeout=1)
    with pytest.raises(RunError, match=r"node 2, round 5.*Flower says: out of memory"):
        members.deliver(4, {2: Letter({})})
    monkeypatch.setattr(nodes, "send_and_receive", lambda messages, timeout: [])
    with pytest.raises(RunError, match=r"node 1.*2 clients did not answer within 1 s"):
        members.deliver(4, {1: Letter({}), 2: Letter({})})
