"""What an algorithm is: what nodes do alone, what they send, what they make of what they got."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hansa.base.component import Component
from hansa.engine.exchange.asked import Asked
from hansa.engine.outcome import Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.engine.block import Block
    from hansa.engine.exchange.exchange import Send
    from hansa.engine.exchange.inbox import Inbox
    from hansa.engine.network import Network, WeightRule

Script = Generator[Asked, Any, Any]
"""A round as a coroutine: it yields what to send and is resumed with the :class:`Inbox` of what
came (or, for a :class:`Share`, with what all blocks shared). One that returns a text ends the run
with this round, in every block alike; the text says why."""
Ending = Generator[Asked, Any, Outcome | None]
"""The end of a run as a coroutine, which returns what the run has come to."""


class Algorithm(Component, kind="algorithm"):
    """A collaboration, written once over a block of nodes and unaware of where they run.

    An instance is frozen settings; whatever changes from round to round is in ``block.state``.
    Most algorithms are the three functions below. One that exchanges more than once a round
    (through a server, say) overrides :meth:`round` and yields once an exchange::

        def round(self, block, t):
            self.local(block, t)
            inbox = yield Send(block.rows, graph)
            ...
    """

    uses_topology: ClassVar[bool] = True
    """Whether the run file's topology matters."""

    uses_public: ClassVar[bool] = False
    """Whether it looks at the examples that ``data.public`` holds back for all."""

    own_pace: ClassVar[bool] = False
    """Whether nodes act when the modelled clock says, not in rounds: it needs all in one block."""

    must_tell: ClassVar[frozenset[str]] = frozenset()
    """What every client must tell all parties when it joins, some of ``sizes`` (how many examples
    it trains on and holds back), ``labels`` (how many of each class) and ``keys`` (by which it
    signs, and whose ratings it has): without it the roster has nothing, since only its holder sees
    a client's examples."""

    own_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings that each site has for itself: those of others may differ."""

    uses_limits: ClassVar[bool] = False
    """Whether it looks at the lowest and highest values of all examples (``Dataset.limits``)."""

    unattackable: ClassVar[str] = ""
    """Why no attack can change what its nodes send; empty: one can."""

    attackable: ClassVar[str] = "an algorithm such as dpsgd or fedavg"
    """What to write instead, where no attack can."""

    lacks: ClassVar[Mapping[str, str]] = {
        "deadline": "has no server that waits for anybody",
        "over_selection": "has no server that invites",
        "sampled": "has no server that invites",
    }
    """Settings that others have and that would make no sense here, and why: what somebody is told
    who writes one."""

    tolerates_loss: ClassVar[bool] = False
    """Whether it can go on where a message does not come that its :class:`Send` can do without
    (``on_missing`` other than wait and abort)."""

    loss_breaks: ClassVar[str] = "does not say that it can (Algorithm.tolerates_loss)"
    """Why it cannot, where it does not tolerate loss."""

    crash_breaks: ClassVar[str] = ""
    """Why it cannot go on without a node whose site is gone, or with one that comes back as it was
    some rounds ago, though it tolerates that a message is lost; empty: it can."""

    usual: ClassVar[dict[str, Any]] = {}
    """What a run that names only the algorithm is told besides; a run file says it itself."""

    @property
    def needs_time(self) -> bool:
        """Whether it decides by modelled time, so that it needs a clock that models some."""
        return self.own_pace

    @property
    def needs_all(self) -> str:
        """Why every site has to stay to the end: what an unplanned absence breaks; empty: none
        does."""
        return self.crash_breaks if self.tolerates_loss else self.loss_breaks

    @property
    def mixing_rule(self) -> WeightRule | None:
        """The rule of the weights by which it mixes models, its setting ``weights``; None where it
        has none and so cannot take a graph whose edges have weights."""
        return getattr(self, "weights", None)

    def unprotected(self, way: str) -> str:
        """Why differential privacy of a way (of ``hansa.privacy.privacy.WAYS``) does not protect
        with it; empty: it does.

        One that looks at examples other than by :meth:`Block.train` has to say so, and so does one
        whose messages are no whole rows of numbers.
        """
        if way == "local":
            return self.unattackable or ("has no rounds" if self.own_pace else "")
        return {
            "central": "has no server that adds up its clients' updates",
            "distributed": "does not add up masked vectors",
        }.get(way, "")

    def servers(self, clients: int) -> int:
        """How many nodes without data it needs besides so many clients; their ids come last.

        Where there are servers, only they keep models between rounds.
        """
        return 0

    def hubs(self, clients: int) -> np.ndarray:
        """int64 [k], ids of the nodes that all others learn through: nobody can go on without one
        of them. By default the servers."""
        return np.arange(clients, clients + self.servers(clients))

    def members(self, block: Block) -> np.ndarray:
        """int64 [clients]: whose model each client uses, a server's id or (here) its own; or -1."""
        return np.arange(block.clients)

    def judged(self, block: Block) -> np.ndarray:
        """int64 [clients]: whose model is measured on each client's own examples; as ``members``
        says, where one server's model is not made of several others'."""
        return self.members(block)

    def working(self, clients: int) -> float:
        """How many clients train in a round, on average and at most, for a forecast."""
        return float(clients)

    def check(self, network: Network) -> None:
        """Refuse settings that cannot work with this topology among so many nodes.

        Raises:
            ConfigError: naming field, value and fix.
        """

    def start(self, block: Block) -> None:
        """Put the algorithm's own state into ``block.state`` before the first round."""

    def ready(self, block: Block) -> None:
        """Take up what a checkpoint has brought, before the first round that is played."""

    def check_block(self, block: Block) -> None:
        """Refuse what a block that has started shows to be impossible.

        Raises:
            ConfigError: naming field, value and fix.
        """

    def local(self, block: Block, t: int) -> None:
        """What each node does alone in round t; by default the local steps of the run file."""
        block.train(t)

    def outgoing(self, block: Block, t: int) -> Send | None:
        """What the nodes send after their local work, or None for no exchange this round."""
        raise NotImplementedError(f"{type(self).__name__} must define outgoing, or round")

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        """Take what arrived into ``block.rows``, in place."""
        raise NotImplementedError(f"{type(self).__name__} must define incoming, or round")

    def round(self, block: Block, t: int) -> Script:
        """The round's script."""
        self.local(block, t)
        send = self.outgoing(block, t)
        if send is not None:
            self.incoming(block, (yield send), t)

    def finish(self, block: Block, t: int) -> Ending:
        """What the run has come to, once, after the round t that ends it.

        It leaves rows and state as they are, so that a run of more rounds can go on from there.

        Returns:
            The outcome; None: the residents' models as they are.
        """
        yield from ()
        return None

    def adopt(self, block: Block, rows: Tensor) -> None:
        """Put models [r, D] in the place of the residents', so that nothing is left of those."""
        block.rows.copy_(rows)

    def measured(self, block: Block, t: int) -> Generator[Asked, Any, tuple[np.ndarray, Tensor]]:
        """What is measured after round t, (positions [k], rows [k, D]): the block's models.

        A script, for models that are put together from what is in several blocks.
        """
        yield from ()
        return block.models()
