"""An asynchronous run whose nodes live in several workers: the sockets say what comes when.

A worker that has nodes that act ends its round when their wake-ups are over; one without ends it
with those that have some. Each tells the others, so that nobody is more than :data:`LEAD` rounds
ahead. Sockets keep the order of what one worker sends another. So where blocks are saved (and at
the end) two tellings make sure that nothing is on its way: after the first of all others nobody
wakes any more, and after the second all that wake-ups had led to was heard.

Who waits does so for certain workers: those whose telling is due, or from whose nodes a wake-up
takes something. Such a telling or message is of use; ``runtime.deadline`` counts from a worker's
last one (:class:`~hansa.engine.exchange.silences.Silences`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from hansa.base.errors import RunError, WireError
from hansa.engine.asynchronous import Asynchronous
from hansa.engine.exchange.letter import Letter
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.silences import Silences
from hansa.engine.exchange.taking import Take
from hansa.engine.exchange.wire import UNASKED, Header, When, frame
from hansa.engine.runtimes.agenda import Agenda
from hansa.engine.runtimes.running import Running

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
        self._silences = Silences({w: post.deadlines[w].seconds for w in self.others})
        self._aside: deque[tuple[Header, bytes]] = deque()
        self._closed = False
        self._own: deque[Letter] = deque()
        return self

    def play(self, algorithm: Asynchronous, t: int) -> None:
        """A round: own nodes by modelled time, other workers' messages as they come.

        Raises:
            RunError: somebody who is waited for was of no use for too long.
        """
        self.begin(algorithm, t)
        self._closed = False
        waited, self._aside = self._aside, deque()
        for header, payload in waited:
            self._hear(header, payload)
        left = self.enter(t)
        self._silences.begin()
        while True:
            moved = self._receive(0) or self.poll_parked()
            if self.arrives_next(left):
                self.arrive()
            elif left and self.pending:
                left -= self.wake_next(t)
                self._silences.begin()
            elif self._over_for_me(t, left):
                break
            else:
                self._wait(t, "a message", self._behind(2 * t, self.leaders), moved)

    def settle(self, t: int, still: bool) -> None:
        """End a round for all: ``still``, so that nothing is on its way when it is saved."""
        if still:
            self.finish_parked()
        self._tell(t, 0)
        self._silences.begin()
        while behind := self._behind(2 * t if still else 2 * (t - LEAD)):
            self._closed = still
            self._wait(t, "the end of the round", behind)
        if still:
            self._closed = True
            self.finish_parked()
            self._tell(t, 1)
            self._silences.begin()
            while behind := self._behind(2 * t + 1):
                self._wait(t, "the end of the round", behind)
        while still and self._own:
            self._receive(0)
        self.report()

    def _over_for_me(self, t: int, left: int) -> bool:
        """Whether nothing is left to do here in a round."""
        if self.post.index in self.leaders:
            return not left and not self.unfinished
        return not self._behind(2 * t, self.leaders)

    def _behind(self, mark: int, workers: Iterable[int] | None = None) -> list[int]:
        """Those of the other workers, or of these, that have not told so much yet."""
        among = self.others if workers is None else sorted(workers)
        return [w for w in among if w != self.post.index and self._marks[w] < mark]

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
        worker = self.post.owner[header.sender]
        if header.kind == MARK:
            self._marked(worker, header.round, header.elements)
        elif self._closed and header.round > self.t:
            self._aside.append((header, payload))  # its sender has saved this round already
        else:
            try:
                letter = self.mailing.letter(header, payload)
                self._check(letter)
            except WireError as error:
                self.post.dropped.count(f"from node {header.sender}: {error}")
            else:
                if self._awaits(letter):
                    self._silences.useful(worker)
                else:
                    self._silences.lives(worker)
                super().came([letter], True)

    def _marked(self, worker: int, t: int, phase: int) -> None:
        """Another worker tells how far it is; it cannot be further ahead than all may be."""
        if t > self.t + LEAD + 1 or phase > 1:
            self.post.dropped.count(f"from worker {worker}: a telling of a round too far ahead")
        elif 2 * t + phase > self._marks[worker]:
            self._marks[worker] = 2 * t + phase
            self._silences.useful(worker)

    def _awaits(self, letter: Letter) -> bool:
        """Whether a wake-up waits for such a message of this sender."""
        for run in self.parked(self.mailing.place.item(letter.receiver)):
            take = run.waiting
            if run.wakes and isinstance(take, Take) and take.kind == letter.kind:
                return take.senders is None or letter.sender in take.senders
        return False

    def _needed(self, parked: list[Running], behind: list[int]) -> set[int]:
        """The workers that this one waits for: those that its wake-ups take something from, or
        else those that are behind."""
        takes = [run.waiting for run in parked if run.wakes and isinstance(run.waiting, Take)]
        if not takes:
            return set(behind or self.others)
        senders = [take.senders for take in takes if take.senders is not None]
        owners = {self.post.owner[s] for some in senders for s in some.tolist()}
        if len(senders) < len(takes) or owners == {self.post.index}:
            return set(self.others)
        return owners - {self.post.index}

    def _check(self, letter: Letter) -> None:
        """Refuse what its sender may not say.

        Raises:
            WireError: naming both ends.
        """
        clients, ends = self.block.clients, (letter.sender, letter.receiver)
        if not self.algorithm.may_say(clients, *ends, letter.kind):
            raise WireError(f"it may not send node {letter.receiver} a {letter.kind!r}")

    def _wait(self, t: int, what: str, behind: list[int], moved: bool = False) -> None:
        """Wait for a message, or for what is computed here.

        Args:
            behind: workers whose telling is due, where no wake-up waits for anything.
            moved: something has come already.

        Raises:
            RunError: who is waited for was of no use for too long.
        """
        if not (moved or self._receive(self.patience) or self.poll_parked()):
            self.post.alive()
        if not self._silences.passed(self.others):
            return
        parked = [run for k in range(len(self.block)) for run in self.parked(k)]
        if any(run.computes for run in parked):
            self._silences.begin()
            return
        silent = sorted(self._silences.passed(self._needed(parked, behind)))
        if silent:
            who, waiting = self.waiting()
            raise RunError(
                f"waited {self._silences.seconds[silent[0]]:g} s in vain for {what} of worker(s) "
                f"{', '.join(map(str, silent))}{f' ({waiting})' if who else ''}; raise "
                "runtime.deadline if their work takes longer",
                node=who[0] if who else self.first[silent[0]],
                round=t + 1,
                phase="exchange",
            )
