"""What a server may ask of clients: orders by name, and plain data that survive their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import RunError, WireError
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.ensemble.synthetic import SHELF
from hansa.forget import QuickDrop, Request
from hansa.forget.case import Case
from hansa.forget.orders import Answer, Answered, Order, order
from hansa.forget.portions import Portion

from .conftest import forgotten


@dataclass
class Nobody:
    """A client that holds nothing."""

    client: int = 4
    turn: int = 0
    gradients: int = 0
    checks: int = 0


@order("test.echo")
def echo(party: Nobody, **asked: Any) -> Answer:
    """What it was asked, and in which turn."""
    party.checks += 2
    party.gradients += 3
    return {**asked, "turn": party.turn}


few = st.lists(st.integers(0, 50), max_size=4)
requests = st.builds(Request.of, few, few, few)
portions = st.builds(
    Portion,
    forget=st.booleans(),
    request=requests,
    past=requests,
    source=st.sampled_from(["real", "synthetic"]),
    stand_in=st.sampled_from(["none", "random_real", "noise"]),
    share=st.floats(0, 0.9),
    drawn=st.none() | st.tuples(st.integers(1, 99), st.integers(1, 999)),
    classes=st.none() | few.map(tuple),
)


@given(portions)
def test_a_portion_is_the_same_on_the_other_side(portion: Portion) -> None:
    packet = pack_control("x", portion=portion.dump())
    assert Portion.parse(unpack_control(packet)["portion"]) == portion


@given(
    turn=st.integers(0, 2**40),
    number=st.floats(allow_nan=False),
    row=st.lists(st.floats(width=32, allow_nan=False), max_size=5),
)
def test_orders_and_answers_are_carried_to_the_bit(
    turn: int, number: float, row: list[float]
) -> None:
    values = torch.tensor(row, dtype=torch.float32)
    asked = Order("test.echo", (1, 2), turn, {"row": values, "lr": number, "words": ["a", 1]})
    read, party = Order.unpack(asked.pack()), Nobody()
    assert (read.name, read.clients, read.turn) == ("test.echo", (), turn)
    answered = Answered.unpack({2: read.serve(party), 1: read.serve(party)}, 7)
    assert list(answered.answers) == [1, 2]
    for answer in answered.answers.values():
        assert np.array_equal(answer["row"], values.numpy())
        assert (answer["lr"], answer["words"], answer["turn"]) == (number, ["a", 1], turn)
    assert (answered.gradients, answered.checks, answered.traffic) == (6, 4, 7)


@pytest.mark.parametrize(
    "packet",
    [
        b"", b"\xc1", pack_control("no such order", turn=1, asked={}),
        pack_control("test.echo", turn="1", asked={}), pack_control("test.echo", turn=1),
        pack_control("test.echo", turn=1, asked=["row"]),
    ],
)  # fmt: skip
def test_what_is_no_order_is_refused(packet: bytes) -> None:
    with pytest.raises(WireError):
        Order.unpack(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00", pack_control("answer", answer={}), pack_control("answer", answer=3, spent=[0, 0]),
        pack_control("answer", answer={}, spent=[0, -1]),
        pack_control("answer", answer={}, spent=[1.5, 0]),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(packet: bytes) -> None:
    with pytest.raises(WireError):
        Answered.unpack({3: packet}, 1)


def test_an_order_has_one_meaning() -> None:
    with pytest.raises(TypeError, match="taken by"):

        @order("test.echo")
        def other(party: Nobody) -> Answer:
            return {}


def test_what_a_client_stores_anew_is_what_it_holds_from_then_on(party) -> None:
    own, everything = party(2), Portion(False, source="synthetic")
    before = own.holding(everything)
    assert own.holding(everything) is before
    row = own.stored(SHELF)
    own.store(SHELF, torch.zeros_like(row))
    assert not own.holding(everything).x.any()
    own.store(SHELF, None)
    assert own.holding(everything) is None
    assert own.stored(SHELF) is None


def test_an_order_changes_nothing_of_what_others_are_asked(party) -> None:
    """One that reads what it was asked as a tensor has a copy of its own."""
    row = np.ones(3, dtype=np.float32)
    party(2).to_device(row).zero_()
    assert row.all()


DAMAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "no weight": ("held", {}),
    "a text": ("held", {"mass": "lots", "counts": np.ones(10, np.int64)}),
    "less than nothing": ("held", {"mass": -5.0, "counts": np.ones(10, np.int64)}),
    "no number": ("held", {"mass": float("nan"), "counts": np.ones(10, np.int64)}),
    "all that there is": ("held", {"mass": float("inf"), "counts": np.ones(10, np.int64)}),
    "other classes": ("held", {"mass": 3.0, "counts": np.ones(3, np.int64)}),
    "a part of a model": ("steps", {"row": np.zeros(3, np.float32)}),
    "no model": ("steps", {"row": "x"}),
    "no loss": ("loss", {"loss": None}),
    "negative hits": ("tell", {n: np.full(10, -1) for n in ("sums", "hits", "counts")}),
}


@pytest.mark.parametrize("harm", DAMAGE)
def test_an_answer_that_is_none_is_refused_and_its_client_named(
    case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """A client's figures are weights and models of the server's: one that is no number is none."""
    name, answer = DAMAGE[harm]
    plain = Order.serve

    def serve(self: Order, party: Any) -> bytes:
        packet = plain(self, party)
        if self.name != name or party.client != 1:
            return packet
        return pack_control("answer", answer=answer, spent=[0, 0])

    monkeypatch.setattr(Order, "serve", serve)
    with pytest.raises(RunError, match=f"client 1 answers '{name}' with (no|a) "):
        forgotten(case(classes=[3]), QuickDrop())
