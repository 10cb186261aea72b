"""What scripts ask for, and what it is done with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, get_args

import numpy as np

from hansa.engine.exchange.faults import Faults
from hansa.engine.exchange.wire import MAX_TURN, Buffer, Header, Key, When

if TYPE_CHECKING:
    from hansa.codec import Codec
    from hansa.engine.block import Block
    from hansa.engine.exchange.recorded import Recorded
    from hansa.engine.exchange.terms import OnMissing
    from hansa.engine.exchange.weather import Weather
    from hansa.engine.time.clock import Clock

T = TypeVar("T")


class Post(Protocol):
    """What carries messages between the blocks of a run: sockets, or what stands in for them.

    Attributes:
        index: which of the workers this is.
        owner: the worker of each node of the run.
    """

    index: int
    owner: list[int]

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        """Take a message for another worker; ``more`` of its nodes may hear the same."""

    def tell(self, header: Header, payload: bytes) -> None:
        """As :meth:`send`, for a frame of words: by itself no reason to turn to anybody."""

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> Mapping[Key, tuple[Header, Buffer]]:
        """Wait for all expected messages of an exchange.

        Args:
            whole: it is an error if one does not come; else those that came are given.
        """

    def share(self, when: When, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of all blocks, end to end."""

    def note(self, event: dict[str, Any]) -> bool:
        """Have an event of the run recorded before anything else leaves this site.

        What a site says once it has given somebody up follows from that, and is not understood
        without it, should the site be lost before its round is over.

        Returns:
            Whether that was done; no: it goes with the report of the round.
        """


class Exchange:
    """What exchanges are done with; calling it does what a script asks for.

    There is one for all runtimes. A block that holds the whole run has no post; then nothing is
    encoded or framed, but all is counted as if it were.

    Args:
        post: what carries messages to other workers; None: the whole run is in one block.
        faults: what goes wrong on purpose.
        tolerant: the algorithm can do without a message.
        recorded: what happens besides, since it did in the run that is replayed.
        weather: what links add to the modelled time of messages.
    """

    def __init__(
        self,
        clock: Clock,
        post: Post | None = None,
        faults: Faults | None = None,
        tolerant: bool = False,
        recorded: Recorded | None = None,
        weather: Weather | None = None,
    ) -> None:
        self.clock, self.post, self.faults, self.tolerant = clock, post, faults, tolerant
        self.recorded = recorded
        self.weather = weather if clock.modelled else None
        self._owner = None if post is None else np.asarray(post.owner)

    def __call__(self, block: Block, asked: Asked[T], round: int, phase: int) -> T:
        """What a script is resumed with."""
        return asked.perform(self, block, round, phase)

    def here(self, ids: np.ndarray) -> np.ndarray:
        """Which of these nodes live in this block, bool [k]."""
        if self.post is None or self._owner is None:
            return np.ones(len(ids), dtype=bool)
        return self._owner[ids] == self.post.index

    def worker(self, node: int) -> int:
        """Where a node lives."""
        return 0 if self._owner is None else int(self._owner[node])

    @property
    def patience(self) -> float:
        """Modelled seconds that a node waits in vain."""
        return (self.faults or Faults()).patience

    def policy(self, said: OnMissing) -> OnMissing:
        """What becomes of a message that does not come, where the exchange ``said`` so."""
        return said if self.faults is None else self.faults.policy(said)

    def patient(self, policy: OnMissing) -> bool:
        """Whether a peer's silence is an error, and not a message that is missing."""
        return not self.tolerant or policy in ("wait", "abort")

    def lost(
        self, block: Block, when: When, kind: str, senders: np.ndarray, receivers: np.ndarray
    ) -> np.ndarray:
        """Which messages of an exchange a fault of the run file takes, bool [pairs].

        Everybody can ask for any pair, int64 [pairs] node ids each.
        """
        if self.faults is None or not self.faults.lossy:
            return np.zeros(len(senders), dtype=bool)
        return self.faults.of(block.streams, when, kind, senders, receivers)

    def unheard(
        self, when: When, kind: str, senders: np.ndarray, receivers: np.ndarray
    ) -> np.ndarray:
        """Which messages do not come that did not in the run that is replayed, bool [pairs].

        Their senders do not know; ``lost`` ones they do.
        """
        if self.recorded is None:
            return np.zeros(len(senders), dtype=bool)
        return self.recorded.unheard(when, kind, senders, receivers)

    def due(
        self, block: Block, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """When messages that are sent now arrive, s of modelled time [messages].

        Args:
            senders: positions in the block, int64 [messages].
            receivers: node ids, int64 [messages].
            sizes: bytes, int64 [messages].
        """
        if self.post is None:
            leaves = self.clock.transfer(block, senders, receivers, sizes)
        else:
            load = np.zeros(len(block), dtype=np.int64)
            np.add.at(load, senders, sizes)
            leaves = self.clock.send(block, load)[senders]
        if block.nodes - block.clients > 1:
            leaves = leaves + self.clock.backhaul(block, block.ids[senders], receivers, sizes)
        if self.weather is None:
            return leaves
        return self.weather.arrivals(block, block.ids[senders], receivers, sizes, leaves)


class Asked(ABC, Generic[T]):
    """What a script asks for by yielding it; it is resumed with what comes of it."""

    kind: str = ""
    turn: int | None = None
    codec: Codec | None = None

    @abstractmethod
    def perform(self, exchange: Exchange, block: Block, round: int, phase: int) -> T:
        """Do it for a block and give what the script is resumed with.

        Args:
            exchange: moves frames between workers and counts what nodes say.
            round: the block's round, from 0.
            phase: how many exchanges without a turn the block has had in this round.
        """

    def when(self, round: int, phase: int) -> When:
        """Which exchange of the run this is, the same for all blocks that take part in it."""
        if self.turn is None:
            return When(round, "", phase)
        return When(round, self.kind, self.turn)


@lru_cache(maxsize=256)
def check_kind(kind: str, turn: int | None = None) -> None:
    """Refuse what a header cannot carry.

    Raises:
        ValueError: the kind is not at most 16 ASCII characters, or the turn does not fit.
    """
    if not (kind.isascii() and kind.isprintable() and len(kind) <= 16):
        raise ValueError(f"the kind {kind!r} is not at most 16 ASCII characters")
    if turn is not None and not (kind and 0 <= turn < MAX_TURN):
        raise ValueError(f"turn {turn} of kind {kind!r} is not one of {MAX_TURN} of a named kind")


def check_ids(ids: Any, name: str) -> None:
    """Refuse what are no ids of nodes.

    Raises:
        ValueError: naming the argument.
    """
    good = isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and ids.ndim == 1
    if not good or (ids < 0).any():
        raise ValueError(f"{name}={ids!r} is no array of node ids, int64 [k]")


def check_missing(policy: str, known: Any) -> None:
    """Refuse a word that says of no missing message what becomes of it.

    Args:
        known: the literal type of those that do.

    Raises:
        ValueError: naming those that there are.
    """
    if policy not in get_args(known):
        raise ValueError(f"on_missing={policy!r} is none of {', '.join(get_args(known))}")
