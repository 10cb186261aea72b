"""Letters to other workers: each crosses once for all who hear it there, and is each one's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.codec import Dense
from hansa.engine.exchange.taking import Put
from hansa.engine.exchange.wire import Header
from hansa.engine.runtimes.mailing import Mailing

NODES, ROW = 9, torch.arange(5, dtype=torch.float32)[None]


class OneNode:
    """A block of node 0, which has come to a moment."""

    nodes, ids = NODES, np.array([0])

    def __init__(self) -> None:
        self.state = {"modelled_time": np.array([2.5])}

    def __len__(self) -> int:
        return 1


class Wire:
    """A post that keeps what crosses."""

    def __init__(self, owner: list[int]) -> None:
        self.owner = owner
        self.crossed: list[tuple[list[Header], bytes]] = []

    def send(self, header: Header, payload: bytes, *more: Header) -> None:
        self.crossed.append(([header, *more], payload))


@settings(max_examples=60)
@given(
    owner=st.lists(st.integers(0, 2), min_size=NODES - 1, max_size=NODES - 1),
    told=st.lists(
        st.tuples(st.integers(1, NODES - 1), st.sampled_from([0.0, 1.0, -7.5]), st.floats(0, 9)),
        unique_by=lambda each: each[0],
        min_size=1,
    ),
    word=st.booleans(),
    noted=st.booleans(),
)
def test_a_message_crosses_once_a_worker_and_note(
    owner: list[int], told: list[tuple[int, float, float]], word: bool, noted: bool
) -> None:
    receivers, notes, due = (list(column) for column in zip(*told, strict=True))
    block, post = OneNode(), Wire([9, *owner])
    mailing = Mailing(block, None, None, post)  # type: ignore[arg-type]
    put = Put(
        to=np.array(receivers),
        kind="model",
        rows=None if word else ROW,
        notes=np.array(notes)[:, None] if noted else None,
    )
    send: Any = None if word else SimpleNamespace(codec=Dense(), rows=ROW)
    assert mailing._deliver(block, put, send, 84, np.array(due), 3) == []  # type: ignore[arg-type]
    kinds = {(owner[receiver - 1], note * noted) for receiver, note, _ in told}
    assert len(post.crossed) == len(kinds)
    came = {}
    for headers, payload in post.crossed:
        assert len({owner[header.receiver - 1] for header in headers}) == 1
        for header in headers:
            header.verify(payload)
            came[header.receiver] = Mailing.letter(Header.unpack(header.pack()), payload)
    assert sorted(came) == sorted(receivers)
    body = None if word else bytes(Dense().encode(ROW)[0])
    for receiver, note, moment in told:
        letter = came[receiver]
        assert (letter.sender, letter.round, letter.sent) == (0, 3, 2.5)
        assert (letter.arrival, letter.content) == (moment, body)
        assert letter.note == ((note,) if noted else ())
