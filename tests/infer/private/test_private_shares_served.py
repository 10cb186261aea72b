"""Mode shares over TLS: taken up from the disk, and no second try for who cheats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hansa.infer.private.compiling.certificate import choose_scheme
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program
from hansa.infer.private.protocol.desk import Desk
from hansa.infer.private.protocol.frames import NO_SESSION, OPENING, Frame, Kind, unpack_facts
from hansa.infer.private.protocol.loopback import serve_in_thread
from hansa.infer.private.protocol.model_service import ModelService, client_side
from hansa.infer.private.protocol.pins import ANYONE, make_identity
from hansa.infer.private.protocol.private_client import asking
from hansa.infer.private.protocol.private_server import PrivateServer
from hansa.infer.private.shares.share_client import ShareClient

from .made_programs import mlp


@cache
def program() -> Program:
    return mlp((30, 20, 10, 5))


@cache
def service() -> ModelService:
    return ModelService(program(), choose_scheme(program(), "shares"))


def test_two_clients_whose_sessions_never_stay_in_memory(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).uniform(0, 127, (4, 30))
    wanted = evaluate(program(), read_rows(program(), rows)).argmax(1)
    keys = make_identity(tmp_path / "keys", "server")
    desk = Desk(service(), tmp_path / "state", live=1, identified=False)
    with serve_in_thread(PrivateServer(desk, keys, workers=2), keys.fingerprint) as nearby:

        def ask(part: np.ndarray) -> np.ndarray:
            with asking(nearby.address, nearby.pin, client_side) as client:
                answers = client.ask(part)
                assert answers.logits is None
                return answers.classes

        with ThreadPoolExecutor(2) as clients:
            found = np.concatenate(list(clients.map(ask, (rows[:2], rows[2:]))))
    np.testing.assert_array_equal(found, wanted)


def test_who_fails_the_check_of_a_transfer_has_no_session_any_more(tmp_path: Path) -> None:
    desk = Desk(service(), tmp_path, identified=False)
    welcome = desk.dispatch(ANYONE, Frame(Kind.HELLO, NO_SESSION))
    facts = unpack_facts(welcome.body, mask_seed=bytes)
    model = service().model
    client = ShareClient(model.outline, model.scheme, facts["mask_seed"], b"c" * 32)

    def said(query: int, step: int, body: bytes) -> Frame:
        return desk.dispatch(ANYONE, Frame(Kind.REQUEST, welcome.session, query, step, body))

    def refusal(frame: Frame) -> str:
        assert frame.kind is Kind.REFUSAL
        return str(unpack_facts(frame.body, code=str, text=str)["code"])

    opening = client.open()
    reply = said(OPENING, 0, next(opening)).body
    with pytest.raises(StopIteration):
        opening.send(reply)
    asked = client.ask(0, np.ones((1, 30)))
    request = asked.send(said(0, 0, next(asked)).body)
    assert refusal(said(0, 1, request[:-1] + bytes([request[-1] ^ 1]))) == "cheating"
    assert refusal(said(0, 1, request)) == "unknown_session"
    again = Desk(service(), tmp_path, identified=False)
    frame = Frame(Kind.REQUEST, welcome.session, 0, 1, request)
    assert refusal(again.dispatch(ANYONE, frame)) == "unknown_session"
