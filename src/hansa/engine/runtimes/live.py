"""An asynchronous run whose nodes live in several workers: the sockets say what comes when.

A worker that has nodes that act ends its round when their wake-ups are over; one without ends it
with those that have some. Each tells the others, so that nobody is more than :data:`LEAD` rounds
ahead. Sockets keep the order of what one worker sends another. So where blocks are saved (and at
the end) two tellings make sure that nothing is on its way: after the first of all others nobody
wakes any more, and after the second all that wake-ups had led to was heard.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from hansa.base.errors import RunError, WireError
from hansa.engine.asynchronous import Asynchronous
from hansa.engine.exchange.letter import Letter
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import UNASKED, Header, When, frame
from hansa.engine.runtimes.agenda import Agenda

LEAD = 4
"""Rounds that a worker may be ahead of the slowest."""
MARK = "round over"


class Live(Agenda):
    """The agenda of a worker's block."""

    post: SitePost

    def connect(self, post: SitePost) -> Live:
        """Take what this post brings."""
        self.post = post
        owner = np.asarray(post.owner)
        self.first = {int(w): int(np.argmax(owner == w)) for w in np.unique(owner)}
        self.others = [w for w in self.first if w != post.index]
        servers = self.block.network.servers
        leads = {int(w) for w in np.unique(owner[len(owner) - servers :])}
        self.leaders = leads if servers else set(self.first)
        self._marks = dict.fromkeys(self.others, -1)
        self._aside: deque[tuple[Header, bytes]] = deque()
        self._closed = False
        self._own: deque[Letter] = deque()
        return self

    def play(self, algorithm: Asynchronous, t: int) -> None:
        """A round: own nodes by modelled time, other workers' messages as they come.

        Raises:
            RunError: nothing was heard for too long.
        """
        self.begin(algorithm, t)
        self._closed = False
        waited, self._aside = self._aside, deque()
        for header, payload in waited:
            self._hear(header, payload)
        left = self.enter(t)
        self.post.deadline.touch()
        while True:
            moved = self._receive(0) or self.poll_parked()
            if self.arrives_next(left):
                self.arrive()
            elif left and self.pending:
                left -= self.wake_next(t)
                self.post.deadline.touch()
            elif self._over_for_me(t, left):
                break
            elif not moved:
                self._wait(t, "a message")

    def settle(self, t: int, still: bool) -> None:
        """End a round for all: ``still``, so that nothing is on its way when it is saved."""
        if still:
            self.finish_parked()
        self._tell(t, 0)
        while not self._heard_of(self.others, 2 * t if still else 2 * (t - LEAD)):
            self._closed = still
            self._wait(t, "the end of the round")
        if still:
            self._closed = True
            self.finish_parked()
            self._tell(t, 1)
            while not self._heard_of(self.others, 2 * t + 1):
                self._wait(t, "the end of the round")
        while still and self._own:
            self._receive(0)
        self.report()

    def _over_for_me(self, t: int, left: int) -> bool:
        """Whether nothing is left to do here in a round."""
        if self.post.index in self.leaders:
            return not left and not self.unfinished
        return self._heard_of(self.leaders, 2 * t)

    def _heard_of(self, workers: list[int] | set[int], mark: int) -> bool:
        return all(self._marks[w] >= mark for w in workers if w != self.post.index)

    def _tell(self, t: int, phase: int) -> None:
        own = self.first[self.post.index]
        for worker in self.others:
            there = self.first[worker]
            mark = frame(When(t, MARK, UNASKED), own, there, MARK, b"", elements=phase)
            self.post.send(mark, b"")

    def came(self, letters: list[Letter], at_once: bool) -> None:
        """What own nodes send each other waits its turn: who has sent it goes on first."""
        if at_once:
            super().came(letters, True)
        else:
            self._own.extend(letters)

    def _receive(self, wait: int) -> bool:
        """Hear the next message, if one comes within so many ms."""
        if self._own:
            super().came([self._own.popleft()], True)
            return True
        came = self.post.receive(wait)
        for header, payload in came:
            self._hear(header, payload)
        return bool(came)

    def _hear(self, header: Header, payload: bytes) -> None:
        if header.kind == MARK:
            worker = self.post.owner[header.sender]
            self._marks[worker] = max(self._marks[worker], 2 * header.round + header.elements)
        elif self._closed and header.round > self.t:
            self._aside.append((header, payload))  # its sender has saved this round already
        else:
            try:
                letter = self.mailing.letter(header, payload)
                self._check(letter)
            except WireError as error:
                self.post.dropped.count(f"from node {header.sender}: {error}")
            else:
                super().came([letter], True)

    def _check(self, letter: Letter) -> None:
        """Refuse what its sender may not say.

        Raises:
            WireError: naming both ends.
        """
        clients, ends = self.block.clients, (letter.sender, letter.receiver)
        if not self.algorithm.may_say(clients, *ends, letter.kind):
            raise WireError(f"it may not send node {letter.receiver} a {letter.kind!r}")

    def _wait(self, t: int, what: str) -> None:
        if self._receive(self.patience) or self.poll_parked():
            return
        self.post.alive()
        if self.post.deadline.passed:
            silent = [w for w in self.others if self._marks[w] < 2 * t]
            who, waiting = self.waiting()
            node = who[0] if who else self.first[silent[0]] if silent else None
            raise RunError(
                f"waited {self.post.deadline.seconds:g} s in vain for {what} of worker(s) "
                f"{', '.join(map(str, silent))}{f' ({waiting})' if who else ''}; raise "
                "runtime.deadline if their work takes longer",
                node=node,
                round=t + 1,
                phase="exchange",
            )
