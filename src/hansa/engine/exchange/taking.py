"""What asynchronous scripts yield: a message that does not wait, and what has come until then.

A script of one node yields a :class:`Put` and goes on at once; it yields a :class:`Take` and is
resumed when what it asks for has come. ``simulate`` orders what comes by modelled time; between
workers the sockets do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hansa.codec import Codec, Dense
from hansa.codec.messages import Messages
from hansa.engine.block import Block
from hansa.engine.exchange.asked import Asked, Exchange, check_ids, check_kind
from hansa.engine.exchange.inbox import Inbox
from hansa.engine.exchange.letter import Letter


class Unrounded(Asked[Any]):
    """What is asked for by a script of one node: an agenda does it, not an exchange of blocks."""

    def perform(self, exchange: Exchange, block: Block, round: int, phase: int) -> Any:
        """Refuse.

        Raises:
            TypeError: always; wake and hear may ask for it, round may not.
        """
        raise TypeError(f"a {type(self).__name__} is for scripts of one node: wake and hear")


@dataclass(frozen=True)
class Put(Unrounded):
    """A message of one node that does not wait for anybody.

    Attributes:
        to: int64 [k], the ids of those who get it.
        kind: a short name, at most 16 ASCII characters; what the receiver asks for.
        rows: one message, the same for all: a row [1, K], a part of one, or a packet. None: a
            word, that something has happened; it has no content, so that it is not counted, as
            what a network tells of itself is not.
        codec: how the message becomes bytes.
        beside: how many of a row's last numbers are no model's and go with it.
        notes: float64 [k, m], what only modelled time and modelled faults need to be told: it
            stands for what a real party knows of itself, so it is not counted either.
        due: the modelled time at which it is there, where that does not follow from its bytes.
        at_once: in modelled time it is taken at the moment at which it is sent, and only its
            cost comes later: for what happens in one step, such as an average of two.
        after: in real time it leaves as soon as this is true; None: now.
    """

    to: np.ndarray
    kind: str
    rows: Messages | None = None
    codec: Codec = field(default_factory=Dense)
    beside: int = 0
    notes: np.ndarray | None = None
    due: float | None = None
    at_once: bool = False
    after: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind)
        check_ids(self.to, "to")
        if self.rows is not None and len(self.rows) != 1:
            raise ValueError(f"{len(self.rows)} messages, and one is put at a time")


@dataclass(frozen=True)
class Take(Unrounded):
    """What has come of a kind until something is so; answered with a :class:`Taken`.

    Attributes:
        kind: as the senders named it.
        codec: how bytes become a message.
        senders: int64, wait for a message of each of these.
        count: wait for so many messages, whoever sent them.
        until: wait until this modelled time. A round ends with its wake-ups, so that what is said
            in the next one is not there yet. With none of the three: what has come by now.
        elements: numbers that each message has to have, where that is known: else it is malformed.
    """

    kind: str
    codec: Codec = field(default_factory=Dense)
    senders: np.ndarray | None = None
    count: int | None = None
    until: float | None = None
    elements: int | None = None

    def __post_init__(self) -> None:
        asked = [self.senders, self.count, self.until]
        if sum(one is not None for one in asked) > 1:
            raise ValueError("more than one of senders, count and until")
        if self.senders is not None:
            check_ids(self.senders, "senders")
        if (self.count is not None and self.count < 1) or (
            self.until is not None and not np.isfinite(self.until)
        ):
            raise ValueError(f"nothing comes for count={self.count}, until={self.until}")


@dataclass(frozen=True)
class Until(Unrounded):
    """Let others go on meanwhile: the script is resumed once ``done()`` is true.

    In modelled time it takes none, so that ``simulate`` resumes it when it is needed, at the
    latest at the end of the round.
    """

    done: Callable[[], bool]


@dataclass(frozen=True)
class Taken(Inbox):
    """An :class:`Inbox` of one node, with what only letters have.

    Attributes:
        letters: in step with ``senders``.
    """

    letters: tuple[Letter, ...] = ()
