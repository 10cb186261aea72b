"""A script of an asynchronous run that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hansa.engine.block import Block
from hansa.engine.exchange.taking import Put, Take, Until


@dataclass(eq=False)
class Running:
    """A script under way.

    Attributes:
        k: its node's position in the block.
        node: that node alone.
        wakes: whether it is a wake-up, which its round waits for.
        waiting: what it is parked for.
    """

    k: int
    node: Block
    script: Any
    t: int
    wakes: bool
    waiting: Take | Until | Put | None = None

    @property
    def computes(self) -> bool:
        """Whether it is parked for something that is computed meanwhile, not for a message."""
        return isinstance(self.waiting, Until | Put)

    @property
    def ready(self) -> bool:
        """Whether that has been computed."""
        asked = self.waiting
        if isinstance(asked, Until):
            return asked.done()
        return isinstance(asked, Put) and asked.after is not None and asked.after()

    def go_on(self, value: Any) -> tuple[Any, bool]:
        """(what it asks for next, False), or (None, True) at its end."""
        try:
            return self.script.send(value), False
        except StopIteration:
            return None, True
