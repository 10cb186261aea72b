"""How a site that was gone takes part again, from a round that all agree on.

It asks every other site how far it is. Each says which round it has begun, and begins no other
until it is told when the one that asked is back: in the round after the latest of those. So nobody
waits for it before, everybody does from then on, and no clock has a say in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from hansa.engine.runtimes.control import Message

Say = Callable[..., None]
"""``say(site, kind, **fields)``."""


class Rejoining:
    """One site's part in the return of others, and in its own.

    Args:
        say: tells another site something.
        left: is told that a site is gone.
        back: is told that a site speaks again, and from which round on, from 0.
        incarnation: how many times this site was started before.

    Attributes:
        begun: rounds that this site has begun: it may have told others of them.
        most: rounds of the run, where that is known; nobody has begun more.
        asking: sites that asked how far this one is, and have not said yet when they are back.
    """

    def __init__(
        self,
        say: Say,
        left: Callable[[int], None],
        back: Callable[[int, int], None],
        incarnation: int = 0,
    ) -> None:
        self.say, self._leave, self.back = say, left, back
        self.incarnation = incarnation
        self._incarnations: dict[int, int] = {}
        self.begun = 0
        self.most = math.inf
        self.asking: set[int] = set()
        self._waiting: set[int] = set()
        self._latest = 0

    def heard(self, message: Message) -> bool:
        """Take what another site says, if it is about this."""
        site, kind, fields = message
        if kind == "where" and fields["incarnation"] <= self._incarnations.get(site, -1):
            pass  # a start asks once, and answers that it does not take would pile up
        elif kind == "where":
            self.left(site, fields["incarnation"] - 1)  # who asks was gone
            self._incarnations[site] = fields["incarnation"]
            self.asking.add(site)
            self.say(site, "begun", round=self.begun)
        elif kind == "begun":
            if site in self._waiting and fields["round"] <= self.most:
                self._latest = max(self._latest, fields["round"])
            self._waiting.discard(site)
        elif kind == "back":
            self.asking.discard(site)
            self.back(site, fields["at"] - 1)
        else:
            return False
        return True

    def left(self, site: int, incarnation: int) -> bool:
        """A site is gone that was started so many times before: nobody waits for it.

        That may be heard after it has asked when it may come back; then it is of no use, and this
        is False.
        """
        if incarnation < self._incarnations.get(site, 0):
            return False
        self._leave(site)
        self.asking.discard(site)
        self._waiting.discard(site)
        return True

    def give_up(self) -> set[int]:
        """Wait no longer for those who have not said how far they are; returns them."""
        silent, self._waiting = self._waiting, set()
        return silent

    def ask(self, sites: Iterable[int]) -> None:
        """Ask others how far they are."""
        self._waiting = set(sites)
        self._latest = self.begun
        for site in sorted(self._waiting):
            self.say(site, "where", incarnation=self.incarnation)

    @property
    def known(self) -> bool:
        """Whether all who were asked have said how far they are, or are gone."""
        return not self._waiting

    def awaits(self, site: int) -> bool:
        """Whether a site was asked and has not said."""
        return site in self._waiting

    def announce(self, sites: Iterable[int]) -> int:
        """Tell others when this site is back; returns the number of that round, from 1."""
        at = self._latest + 1
        self.begun = at
        for site in sites:
            self.say(site, "back", at=at)
        return at
