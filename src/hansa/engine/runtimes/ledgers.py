"""Where a site's reports go, and who tells it to pause or to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hansa.engine.party import Tells
from hansa.engine.runtimes.host import Report


class Stopped(BaseException):
    """This site was asked to stop: no error, so nothing handles it."""


class Ledger(Protocol):
    """Where a site's reports go: a folder of its own, or who gathers those of all sites."""

    def may(self, site: int) -> frozenset[str]:
        """Which kinds of control messages a site may send here."""

    def greet(self) -> None:
        """Hear whether this site is let in, before it reads anything."""

    def join(self, tells: Tells) -> Sequence[Tells]:
        """Tell what this party must, learn what all have told, and where they are."""

    def rejoin(self, done: int) -> int:
        """Agree with the others on when this site, which has so many rounds behind it and was gone
        meanwhile, takes part again; returns the rounds that are over by then."""

    def begins(self, done: int) -> None:
        """The round after ``done`` counts as begun."""

    def alive(self) -> None:
        """Hear what there is to hear.

        Raises:
            Stopped: this site shall stop.
        """

    def ends(self, done: int) -> bool:
        """Whether the run ends after ``done`` rounds; else the next one counts as begun."""

    def report(self, values: Report) -> None:
        """Take a round's report."""

    def note(self, event: Mapping[str, Any]) -> None:
        """Take an event that has to be safe before this site says anything else."""

    def settled(self) -> None:
        """Wait until what was reported is safe."""

    def saved(self, done: int, entry: dict[str, Any]) -> None:
        """This site's part of a checkpoint is written."""

    def done(self, whole: bool) -> None:
        """The run is over for this site; wait until the others need nothing of it any more."""

    def failed(self, error: BaseException) -> None:
        """The run is over for this site, which has failed."""
