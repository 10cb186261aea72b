"""What starts the sites of a run, wherever that is."""

from __future__ import annotations

from typing import Any, Protocol

from hansa.engine.links.ticket import Ticket


class Launcher(Protocol):
    """Starts sites, and knows how they end."""

    def start(self, ticket: Ticket, part: dict[str, Any] | None, rejoins: bool) -> None:
        """Start a site.

        Args:
            part: its own part of a checkpoint, from which it goes on; None: from where all do.
            rejoins: the others go on meanwhile.
        """

    def ended(self, site: int) -> str | None:
        """How a site has ended, as the end of a sentence, or None: it still runs."""

    def kill(self, site: int) -> None:
        """End a site now."""

    def log(self, site: int) -> str:
        """Where a site's own account is, as the end of a sentence."""

    def close(self) -> None:
        """End all that was started, and what started it."""
