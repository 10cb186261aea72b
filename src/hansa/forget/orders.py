"""What a server may ask of a client: orders by name.

An order is plain data and arrays, never code: it names a function that both sides have imported.
What a client answers is made the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.engine.exchange.wire import pack_control, unpack_control

Answer: TypeAlias = "dict[str, Any]"
Work: TypeAlias = "Callable[..., Answer]"


class Obedient(Protocol):
    """What an order needs of the client that serves it.

    Attributes:
        turn: names the random streams of the order.
        gradients, checks: examples of the order whose gradient or loss was computed.
    """

    client: int
    turn: int
    gradients: int
    checks: int


@dataclass(frozen=True)
class Form:
    """What a figure of an answer has to be.

    Attributes:
        shape: sizes, ``D`` for the numbers of a model and ``C`` for the classes; None: any size;
            of one number none.
        mass: its numbers are finite and 0 or more: counts and weights.
        due: it is in every answer.
    """

    shape: tuple[int | str | None, ...] = ()
    mass: bool = False
    due: bool = True

    def fits(self, value: Any, sizes: Mapping[str, int]) -> bool:
        """Whether a value is one.

        Args:
            sizes: by letter.
        """
        if not isinstance(value, np.ndarray | bool | int | float):
            return False
        array, wanted = np.asarray(value), [sizes.get(str(n), n) for n in self.shape]
        if array.dtype.kind not in "biuf" or array.ndim != len(wanted):
            return False
        if any(n not in (None, m) for n, m in zip(wanted, array.shape, strict=True)):
            return False
        return not self.mass or bool((np.isfinite(array) & (array >= 0)).all())


_works: dict[str, Work] = {}
_forms: dict[str, dict[str, Form]] = {}


def order(name: str, **gives: Form) -> Callable[[Work], Work]:
    """Decorator: make a function ``work(party, **asked)`` the one that serves an order.

    It returns what the server is told: plain data and arrays.

    Args:
        gives: the forms of what it returns, which the server holds each answer against.
    """

    def add(work: Work) -> Work:
        if _works.setdefault(name, work).__qualname__ != work.__qualname__:
            raise TypeError(f"the order {name!r} is taken by {_works[name].__module__}")
        _forms[name] = gives
        return work

    return add


@dataclass(frozen=True)
class Order:
    """What a server wants some clients to do.

    Attributes:
        name: which order it is.
        clients: ids of those who are asked, ascending.
        turn: names the random streams of what they draw.
        asked: plain data, arrays and tensors; the same for all of them.
    """

    name: str
    clients: tuple[int, ...]
    turn: int = 0
    asked: Mapping[str, Any] = field(default_factory=dict)

    def check(self, answers: Mapping[int, Answer], sizes: Mapping[str, int]) -> None:
        """Refuse answers without a figure that the order gives, or with one that it cannot be.

        Args:
            sizes: D and C, see :class:`Form`.

        Raises:
            WireError: naming the client and the figure.
        """
        for client, answer in answers.items():
            for name, form in _forms[self.name].items():
                there = name in answer
                if (there and not form.fits(answer[name], sizes)) or (form.due and not there):
                    what = f"a {name} that is none" if there else f"no {name}"
                    raise WireError(f"client {client} answers {self.name!r} with {what}")

    def pack(self) -> bytes:
        """What is sent."""
        return pack_control(self.name, turn=self.turn, asked=_plain(self.asked))

    @classmethod
    def unpack(cls, packet: bytes) -> Order:
        """What was sent, as those who are asked read it: of others it says nothing.

        Raises:
            WireError: it is malformed, or there is no such order.
        """
        said = unpack_control(packet)
        name, asked, turn = said["kind"], said.get("asked"), said.get("turn")
        if name not in _works or not isinstance(asked, dict) or not isinstance(turn, int):
            raise WireError(f"the server sends no order that is known: {name!r:.40}")
        return cls(name, (), turn, asked)

    def serve(self, party: Obedient) -> bytes:
        """Have a client do what it says; its answer."""
        party.turn, party.gradients, party.checks = self.turn, 0, 0
        answer = _works[self.name](party, **self.asked)
        return pack_control(
            "answer", answer=_plain(answer), spent=[int(party.gradients), int(party.checks)]
        )


@dataclass(frozen=True)
class Answered:
    """What came back of an order.

    Attributes:
        answers: by client, ascending.
        gradients, checks: examples whose gradient or loss the clients have computed.
        traffic: bytes that the order and the answers came to on the wire.
    """

    answers: dict[int, Answer]
    gradients: int
    checks: int
    traffic: int

    @classmethod
    def unpack(cls, packets: Mapping[int, bytes], traffic: int) -> Answered:
        """From what each client sent.

        Raises:
            WireError: an answer is malformed.
        """
        answers, spent = {}, np.zeros(2, dtype=np.int64)
        for client, packet in sorted(packets.items()):
            said = unpack_control(packet)
            answer, cost = said.get("answer"), said.get("spent")
            if not isinstance(answer, dict) or not _two_counts(cost):
                raise WireError(f"the answer of client {client} is malformed")
            answers[client] = answer
            spent += np.array(cost)
        return cls(answers, int(spent[0]), int(spent[1]), traffic)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """With arrays in the place of tensors."""
    return {
        name: value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        for name, value in fields.items()
    }


def _two_counts(cost: Any) -> bool:
    return (
        isinstance(cost, Sequence)
        and len(cost) == 2
        and all(isinstance(count, int) and count >= 0 for count in cost)
    )
