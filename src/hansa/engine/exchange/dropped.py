"""What was dropped, and how often."""

from __future__ import annotations

_REASONS = 100  # that are told apart
_OTHERS = "others"


class Dropped(dict[str, int]):
    """How often something was dropped, by the reason: a peer can make up any number of reasons, so
    beyond some all new ones are ``others``."""

    def count(self, why: str) -> None:
        """One more was dropped."""
        if len(self) >= _REASONS and why not in self:
            why = _OTHERS
        self[why] = self.get(why, 0) + 1
