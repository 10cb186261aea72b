"""Sockets between workers: every worker hears on one, and speaks to each peer on its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from hansa.base.errors import RunError, WireError
from hansa.base.lazy import zmq
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    UNASKED,
    Header,
    Key,
    When,
    frame,
    pack_control,
    unpack_control,
)

_POLL_MS = 200
_REASONS = 100  # that are told apart


HELD = "\x01held"
"""The kind of a word that its sender waits for somebody: no message between nodes, not counted, and
no kind that a message can have."""


class Mesh:
    """Sends frames to peers and sorts what comes by round and phase.

    A peer can be ahead by a round, so frames of later exchanges are kept until they are asked
    for. Frames that are malformed, repeated or too late are counted and dropped.

    A peer is given up that says nothing of use for the ``deadline`` while it is waited for. What
    it has said before, or never should have, is of no use. Whoever was given up is not waited for
    again until it is heard: of anything that has not come before, even too late. Who waits for long
    says so to those whom it does not wait for: they wait for it meanwhile, and so the one who is
    silent is given up, and not all who are held up by it. Such words go over as many workers as
    there are at most, so that none who wait for each other in a circle do so for ever.

    Args:
        index: this worker's number.
        owner: worker of each node of the run.
        deadline: seconds of silence of a peer after which waiting for it is given up.
        alive: raises when there is no point in waiting any longer.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        index: int,
        owner: list[int],
        deadline: float,
        alive: Callable[[], None],
    ) -> None:
        self.index, self.owner, self.alive = index, owner, alive
        self.deadline = Deadline(deadline)  # of all peers, for who waits for any of them
        self.deadlines = {peer: Deadline(deadline) for peer in set(owner) - {index}}
        self.given_up: set[int] = set()
        self._held: dict[int, int] = {}  # over how many workers a peer said that it is held up
        self._said = Deadline(deadline / 4)  # since this one said so
        self.dropped: dict[str, int] = {}
        self._context = context
        self._ear: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._ear.set_hwm(0)  # rounds keep peers in step, so queues cannot grow without limit
        self._ear.linger = 0
        self._ear.maxmsgsize = MAX_PAYLOAD  # who announces more is cut off before it is read
        self.port = self._ear.bind_to_random_port("tcp://127.0.0.1")
        self._mouths: dict[int, zmq.Socket[bytes]] = {}
        self._kept: dict[When, dict[Key, tuple[Header, bytes]]] = {}
        self._oldest = (-1, 0)  # round, and exchange of it that every block takes part in
        self._closed: set[When] = set()  # of this round, by kind and turn
        self._unasked: deque[list[tuple[Header, bytes]]] = deque()
        self._missed: set[tuple[When, Key]] = set()  # what a peer that was given up did not say

    def connect(self, ports: list[int]) -> None:
        """Open a socket to every peer, given the ports of all workers by index."""
        for peer, port in enumerate(ports):
            if peer != self.index:
                mouth: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
                mouth.set_hwm(0)
                mouth.identity = f"worker-{self.index}".encode()
                mouth.connect(f"tcp://127.0.0.1:{port}")
                self._mouths[peer] = mouth

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        """Send one message to the worker of its receiver, once for all who hear it there.

        Args:
            more: headers of the same message for others of that worker's nodes.
        """
        mouth = self._mouths[self.owner[header.receiver]]
        mouth.send_multipart([header.pack(), payload, *(other.pack() for other in more)])

    def tell(self, header: Header, payload: bytes) -> None:
        """Send a frame of words."""
        self.send(header, payload)

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> dict[Key, tuple[Header, bytes]]:
        """Wait until all expected messages of an exchange are there.

        Args:
            whole: a peer's silence is an error; else the messages of the others are given.

        Raises:
            RunError: a peer's deadline passed; names the nodes that were not heard.
        """
        self._begin(when)
        got = self._kept.setdefault(when, {})
        for peer in self._peers(expected) - (set() if whole else self.given_up):
            self.deadlines[peer].touch()
        self._held.clear()
        self._said.touch()
        self.alive()  # a word to stop is heard even where no peer is ever waited for
        while not expected <= got.keys():
            hopeless = bool(self.given_up) and not whole and self._hopeless(expected - got.keys())
            if self._ear.poll(0 if hopeless else _POLL_MS):
                if self._take():
                    continue
            elif hopeless:
                self._missed |= {(when, key) for key in expected - got.keys()}
                break
            self.alive()
            missing = expected - got.keys()
            self._say_held(when, self._peers(missing))
            silent = {peer for peer in self._peers(missing) if self.deadlines[peer].passed}
            if silent and whole:
                raise self._vain(when, missing, silent)
            self.given_up |= silent
        del self._kept[when]
        if when.kind:
            self._closed.add(when)
        else:
            self._oldest = (when.round, when.number + 1)
        return {key: got[key] for key in expected if key in got}

    def _say_held(self, when: When, peers: set[int]) -> None:
        """Tell the other workers now and then that this one waits for these peers."""
        if not self._said.passed:
            return
        self._said.touch()
        hops = 1 + max((self._held.get(peer, 0) for peer in peers), default=0)
        for worker in self._mouths.keys() - peers if hops <= len(self._mouths) else ():
            own, there = self.owner.index(self.index), self.owner.index(worker)
            held = When(when.round, HELD, UNASKED)
            self.send(frame(held, own, there, HELD, b"", elements=hops), b"")

    def _hopeless(self, missing: set[Key]) -> bool:
        """Whether all that is missing is due from peers that were given up."""
        return self._peers(missing) <= self.given_up

    def _peers(self, keys: set[Key]) -> set[int]:
        """The workers that messages are due from."""
        return {self.owner[sender] for sender, _ in keys}

    def _vain(self, when: When, missing: set[Key], silent: set[int]) -> RunError:
        nodes = sorted({sender for sender, _ in missing if self.owner[sender] in silent})
        seconds = self.deadlines[min(silent)].seconds
        return RunError(
            f"waited {seconds:g} s in vain for a message of node(s) "
            f"{', '.join(map(str, nodes[:8]))}; raise runtime.deadline if their work takes longer",
            node=nodes[0],
            round=when.round + 1,
            phase="exchange",
        )

    def receive(self, wait: int) -> list[tuple[Header, bytes]]:
        """The next message that belongs to no numbered exchange, for each who hears it here.

        Args:
            wait: ms; if none comes in them, there is nothing.
        """
        while not self._unasked:
            if not self._ear.poll(wait):
                return []
            self._take()
            wait = 0
        return self._unasked.popleft()

    def share(self, when: When, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of all workers, end to end; each speaks in the name of its first node.

        Raises:
            WireError: another worker does not share the same names.
        """
        owner = np.asarray(self.owner)
        first = [int(np.argmax(owner == worker)) for worker in np.unique(owner)]
        own = first[self.index]
        others = [other for other in first if other != own]
        payload = pack_control("share", **values)
        for other in others:
            self.send(frame(when, own, other, when.kind or "share", payload), payload)
        got = self.gather(when, {(other, own) for other in others})
        parts = []
        for other in first:
            part: dict[str, Any] = values if other == own else unpack_control(got[other, own][1])
            if not values.keys() <= part.keys():
                raise WireError(f"the worker of node {other} shared {sorted(part)}")
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in values}

    def note(self, event: dict[str, Any]) -> bool:
        """No: it goes with the report of the round."""
        return False

    def _begin(self, when: When) -> None:
        """What comes for exchanges before this one comes too late."""
        if when.round > self._oldest[0]:
            self._oldest = (when.round, 0)
            self._closed.clear()
            for over in [other for other in self._kept if other.round < when.round]:
                del self._kept[over]
        if not when.kind:
            self._oldest = (when.round, when.number)

    def _late(self, when: When) -> bool:
        """Whether an exchange is over."""
        if when.kind:
            return when.round < self._oldest[0] or when in self._closed
        return (when.round, when.number) < self._oldest

    def _take(self) -> bool:
        """Read what is there and file it; returns whether it was of use.

        Only that puts off the deadline of the peer that it came from.
        """
        frames = self._ear.recv_multipart()
        try:
            headers = self._headers(frames)
        except WireError as error:
            self.drop(f"from {frames[0][:32]!r}: {error}")
            return False
        peer, useful = self.owner[headers[0].sender], False
        if headers[0].kind == HELD:
            self._held[peer] = headers[0].elements
            self.given_up.discard(peer)
            self.deadlines[peer].touch()
            return False
        if headers[0].when.number == UNASKED:
            self._unasked.append([(header, frames[2]) for header in headers])
            useful, headers = True, []
        for header in headers:
            when, key = header.when, (header.sender, header.receiver)
            if self._late(when):
                self.drop("late or repeated")
                if (when, key) in self._missed:  # it is there again
                    self._missed.discard((when, key))
                    self.given_up.discard(peer)
            elif key in self._kept.setdefault(when, {}):
                self.drop("repeated")
            else:
                self._kept[when][key] = (header, frames[2])
                useful = True
        if useful:
            self.given_up.discard(peer)
            self.deadlines[peer].touch()
            self.deadline.touch()
        return useful

    def _headers(self, frames: list[bytes]) -> list[Header]:
        """The headers of a message, one for each who hears it here; all of them are checked.

        Raises:
            WireError: something is not as it should be.
        """
        parts = [*frames[1:2], *frames[3:]]
        if len(frames) < 3 or any(len(part) != HEADER_BYTES for part in parts):
            raise WireError("not a header and a payload")
        headers = [Header.unpack(part) for part in parts]
        headers[0].verify(frames[2])
        for header in headers:
            if (header.size, header.checksum) != (headers[0].size, headers[0].checksum):
                raise WireError("its headers announce different payloads")
            if not (header.sender < len(self.owner) and header.receiver < len(self.owner)):
                raise WireError("names a node that does not exist")
            if frames[0] != f"worker-{self.owner[header.sender]}".encode():
                raise WireError("its sender does not live where it came from")
            if self.owner[header.receiver] != self.index:
                raise WireError("its receiver does not live here")
        return headers

    def drop(self, why: str) -> None:
        """Count a message that is of no use, by the reason; many different ones as others."""
        if len(self.dropped) >= _REASONS:
            why = why if why in self.dropped else "others"
        self.dropped[why] = self.dropped.get(why, 0) + 1

    def close(self) -> None:
        """Close the sockets. Whatever was sent and not yet delivered is lost."""
        for socket in (self._ear, *self._mouths.values()):
            socket.close(linger=0)
