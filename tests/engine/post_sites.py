"""Sites whose links are in memory, and what they send each other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import Header, When, checksum

from .wires import Wires

LONG = 300.0  # seconds; only a test that fails waits so long
PAYLOAD = np.arange(4, dtype=np.float32).tobytes()


def header(sender: int, receiver: int, round: int = 0, phase: int = 0, **changes: Any) -> Header:
    fields: dict[str, Any] = {
        "elements": 4,
        "size": len(PAYLOAD),
        "checksum": checksum(PAYLOAD),
        "arrival": 0.0,
        "kind": "model",
    }
    return Header(sender=sender, receiver=receiver, round=round, phase=phase, **(fields | changes))


class Patience(Deadline):
    """A deadline that passes when something has happened, whatever the clock says."""

    def __init__(self, enough: Callable[[], bool]) -> None:
        super().__init__(LONG)
        self.enough, self.touched = enough, 0

    def touch(self) -> None:
        self.touched = getattr(self, "touched", 0) + 1

    @property
    def passed(self) -> bool:
        return self.enough()


class Sites:
    """Some sites whose links are in memory: two with nodes 0, 1 and 2, 3 if nothing is said."""

    def __init__(self, owner: tuple[int, ...] = (0, 0, 1, 1), credit: int = 1 << 40, **more: Any):
        self.gone = False
        self.posts = [SitePost(k, owner, LONG, self.alive, **more) for k in sorted(set(owner))]
        self.wires = Wires(self.posts, credit)

    def alive(self) -> None:
        if self.gone:
            raise ConnectionAbortedError


def some(when: When, post: SitePost) -> bool:
    """Whether something of an exchange waits here."""
    return bool(post._holes._kept.get(when))
