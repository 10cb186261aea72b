"""What a site's post needs of the links to others, and what it knows of who is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hansa.engine.exchange.wire import Buffer


class PeerFacts(Protocol):
    """What links know of another site.

    Attributes:
        heard: when anything last came from it, monotonic s.
        facts: what it last told of itself.
    """

    @property
    def heard(self) -> float: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...


class Carrier(Protocol):
    """What brings messages to other sites, in order and once: links, or what stands in for them."""

    def send(self, site: int, kind: int, parts: Sequence[Buffer]) -> None:
        """Queue a message; never blocks."""

    def queued(self, site: int) -> int:
        """Bytes that a site has not acknowledged yet."""

    def grant(self, site: int, nbytes: int) -> None:
        """Let a site send so many bytes more."""

    def state(self, site: int) -> PeerFacts:
        """What is known of a site."""

    def tell(self, **facts: Any) -> None:
        """Let all others know something small of this site."""

    def forget(self, site: int) -> None:
        """Drop what waits for a site."""


def no_moment(what: str, round: int) -> None:
    """Nothing happens at a moment of a run."""


@dataclass
class Attendance:
    """Sites that are gone, and the round (from 0) in which each speaks again; None: not known."""

    until: dict[int, int | None] = field(default_factory=dict)

    def away(self, site: int, round: int) -> bool:
        """Whether a site says nothing in a round."""
        if site not in self.until:
            return False
        back = self.until[site]
        return back is None or round < back
