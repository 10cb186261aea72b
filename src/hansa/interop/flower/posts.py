"""Where a worker's sockets would be: the messages between blocks, in letters that Flower carries.

Every client is a block of its own, and the servers are one more. A round's script runs on both
sides. The server's runs until it waits for clients; what it has said and decided so far goes to
them, one letter each; a client's runs on that for as far as it goes, and what it says goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hansa.base.errors import RunError, WireError
from hansa.engine import Send, Share, Tell
from hansa.engine.exchange.asked import Asked
from hansa.engine.exchange.wire import Header, Key, When
from hansa.engine.runtimes.host import Report
from hansa.interop.flower.letters import Letter, Piece

Deliver = Callable[[int, dict[int, Letter]], dict[int, Letter]]
"""Takes letters to clients in a round, and gives back their replies."""
Values = dict[str, np.ndarray]


class ServerPost:
    """The servers' side of a run.

    Args:
        facts: what every letter says.
    """

    def __init__(self, clients: int, nodes: int, deliver: Deliver, facts: dict[str, Any]) -> None:
        self.index, self.owner = clients, _owner(clients, nodes)
        self.deliver, self.facts = deliver, facts
        self._begin()

    def _begin(self) -> None:
        self._shared: dict[int, Values] = {}
        self._waiting: dict[int, list[Piece]] = {}
        self._words: dict[int, list[Piece]] = {}
        self._came: dict[tuple[When, Key], Piece] = {}
        self._reports: dict[int, Report] = {}

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        """Keep a message until its receiver's letter goes."""
        for each in (header, *more):
            self._waiting.setdefault(each.receiver, []).append((each, bytes(payload)))

    def tell(self, header: Header, payload: bytes) -> None:
        """Keep words until there is a letter to go with."""
        self._words.setdefault(header.receiver, []).append((header, payload))

    def share(self, when: When, values: Values) -> Values:
        """Keep a decision for the letters: a copy, since the script may do with it as it likes."""
        self._shared[when.number] = {name: array.copy() for name, array in values.items()}
        return values

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> dict[Key, tuple[Header, bytes]]:
        """Send what waits, if anything is expected back, and take the replies.

        Raises:
            RunError: a client failed, or did not say what it should.
        """
        senders = {sender for sender, _ in expected}
        if senders - self._reports.keys():
            self._ship(when.round, senders)
        missing = sorted(key for key in expected if (when, key) not in self._came)
        if missing:
            node = missing[0][0]
            raise RunError("the client did not send what was due", node=node, round=when.round + 1)
        return {key: self._came.pop((when, key)) for key in expected}

    def note(self, event: dict[str, Any]) -> bool:
        """No: it goes with what is recorded of the round."""
        return False

    def close(self, round: int) -> dict[int, Report]:
        """End a round: letters that ask for no answer go too. Returns the clients' reports."""
        if self._waiting:
            self._ship(round, set())
        reports = self._reports
        self._begin()
        return reports

    def _ship(self, round: int, senders: set[int]) -> None:
        """One letter each to those who are sent something or who have something to say."""
        again = sorted(self._waiting.keys() & self._reports.keys())
        if again:
            raise RunError(
                "the algorithm turns to a client twice in a round; a Flower client answers once",
                node=again[0],
                round=round + 1,
            )
        # Those of later waves wait, so that few replies are held at a time.
        asked = (senders or self._waiting.keys()) - self._reports.keys()
        facts = {**self.facts, "round": round, "shared": self._shared}
        letters = {
            k: Letter(facts, self._words.pop(k, []) + self._waiting.pop(k, []))
            for k in sorted(asked)
        }
        for client, reply in self.deliver(round, letters).items():
            self._reports[client] = reply.facts["report"]
            for header, payload in reply.mail:
                if (header.sender, header.round) != (client, round):
                    raise WireError(f"client {client} sent a message of node {header.sender}")
                self._came[header.when, (client, header.receiver)] = header, payload


class ClientPost:
    """One client's side of one round.

    Attributes:
        sent: what it has said.
    """

    def __init__(self, client: int, clients: int, nodes: int, letter: Letter) -> None:
        self.index, self.owner = client, _owner(clients, nodes)
        self.sent: list[Piece] = []
        self._shared: dict[int, Values] = letter.facts["shared"]
        self._came = {(h.when, h.sender): (h, payload) for h, payload in letter.mail}
        self.round: int = letter.facts["round"]
        for header, _ in letter.mail:
            if (header.receiver, header.round) != (client, self.round):
                raise WireError(f"client {client} got a message for node {header.receiver}")

    def answers(self, asked: Asked, phase: int) -> bool:
        """Whether the letter has all that a script asks for."""
        if isinstance(asked, Share):
            return not asked.values or phase in self._shared  # nothing to wait for
        when = asked.when(self.round, phase)
        if isinstance(asked, Tell):
            senders = [sender for sender, _ in asked.due(np.array(self.owner), self.index)]
        elif isinstance(asked, Send):
            senders = asked.graph.rows(np.array([self.index]))[1].tolist()
        else:
            return False
        return all((when, sender) in self._came for sender in senders)

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        """Put a message into the reply."""
        self.sent.extend((each, bytes(payload)) for each in (header, *more))

    def tell(self, header: Header, payload: bytes) -> None:
        """Put words into the reply."""
        self.send(header, payload)

    def share(self, when: When, values: Values) -> Values:
        """What the servers decided.

        Raises:
            RunError: the client has a say in it.
        """
        if any(len(array) for array in values.values()):
            raise RunError(f"clients cannot share {', '.join(values)} through Flower")
        return self._shared[when.number] if values else {}

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> dict[Key, tuple[Header, bytes]]:
        """From the letter."""
        return {key: self._came[when, key[0]] for key in expected}

    def note(self, event: dict[str, Any]) -> bool:
        """No: it goes with what the client reports of its round."""
        return False


def _owner(clients: int, nodes: int) -> list[int]:
    """The block of each node: a client's own, or the servers'."""
    return [*range(clients), *[clients] * (nodes - clients)]
