"""An asynchronous run done again in the order in which another was: models equal to the bit."""

from __future__ import annotations

from collections import deque

from hansa.base.errors import RunError
from hansa.engine.asynchronous import Asynchronous
from hansa.engine.exchange.letter import Letter
from hansa.engine.exchange.taking import Take, Taken
from hansa.engine.runtimes.agenda import Agenda
from hansa.engine.runtimes.arrivals import HEARD, TOOK, WOKE, Happening, Order
from hansa.engine.runtimes.running import Running

REMEDY = "replay a run of the same settings and seed, whose folder is whole"


class Replayed(Agenda):
    """The agenda of a block of all nodes, to whom things happen as they are recorded."""

    order: Order

    def follow(self, order: Order) -> Replayed:
        """Do things in this order."""
        self.order = order
        self._unheard: dict[int, list[Letter]] = {}
        self._changed: deque[int] = deque()
        return self

    def play(self, algorithm: Asynchronous, t: int) -> None:
        """All that is to happen in a round, and what of later rounds that has to wait for.

        Raises:
            RunError: the recorded order is not one of this run.
        """
        self.begin(algorithm, t)
        ids = self.block.ids
        self._changed = deque(range(len(ids)))
        while True:
            while self._changed:
                k = self._changed.popleft()
                while self._happens(k, t):
                    pass
            late = self.order.left(t)
            if not late:
                break
            later = range(t + 1, self.order.last + 1)  # as little ahead as can be
            if not any(self._happens(k, limit) for limit in later for k in range(len(ids))):
                raise RunError(
                    f"the recorded order cannot go on: what is to happen to node {late[0]} in "
                    f"round {t + 1} waits for a message that was not sent; {REMEDY}",
                    node=late[0],
                    round=t + 1,
                )
        self.end()

    def _happens(self, k: int, limit: int) -> bool:
        """Do the next thing that is to happen to a node, if it can and its round has come."""
        node = int(self.block.ids[k])
        event = self.order.next(node)
        if event is None or event.t > limit:
            return False
        now, self.t = self.t, event.t
        try:
            return self._done(k, node, event)
        finally:
            self.t = now

    def _done(self, k: int, node: int, event: Happening) -> bool:
        if event.what == TOOK:
            self.finish_parked(k)
            if self.order.next(node) is not event:
                return True  # it was taken on the way
            return self._resume(k, once=True)
        if event.what == WOKE:
            if any(run.wakes for run in self._parked.get(k, [])):
                return False
            self.order.done(node)
            self.wake(k, event.t)
            return True
        assert event.what == HEARD
        for letter in self._unheard.get(k, []):
            if letter.sender == event.senders[0] and self._kind(letter.kind) == event.kind:
                self._unheard[k].remove(letter)
                self.mail.setdefault(k, []).append(letter)
                self.order.done(node)
                self.hear([(k, letter)])
                return True
        return False

    def came(self, letters: list[Letter], at_once: bool) -> None:
        """What was sent waits until its time comes."""
        for letter in letters:
            k = int(self.mailing.place[letter.receiver])
            pool = self._unheard if letter.kind in self.algorithm.hears else self.mail
            pool.setdefault(k, []).append(letter)
            self._changed.append(k)

    def _file(self, letter: Letter) -> None:
        self.mail.setdefault(int(self.mailing.place[letter.receiver]), []).append(letter)

    def _match(self, k: int, take: Take) -> list[Letter] | None:
        event = self.order.next(int(self.block.ids[k]))
        if event is None or event.what != TOOK or event.kind != self._kind(take.kind):
            return None
        chosen: list[Letter] = []
        for sender in event.senders:
            fits = (
                letter
                for letter in self.mail.get(k, [])
                if letter.kind == take.kind
                and letter.sender == sender
                and not any(letter is other for other in chosen)
            )
            letter = next(fits, None)
            if letter is None:
                return None
            chosen.append(letter)
        return chosen

    def _take(self, run: Running, take: Take, letters: list[Letter]) -> Taken:
        self.order.done(int(self.block.ids[run.k]))
        return super()._take(run, take, letters)
