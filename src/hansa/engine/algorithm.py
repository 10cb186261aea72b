"""What an algorithm is: what nodes do alone, what they send, what they make of what they got."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from typing import ClassVar

from hansa.base.component import Component
from hansa.engine.block import Block
from hansa.engine.exchange import Inbox, Send
from hansa.engine.network import Network

Script = Generator[Send, Inbox, None]
"""A round as a coroutine: it yields what to send and is resumed with what came."""


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

    own_pace: ClassVar[bool] = False
    """Whether nodes act when the modelled clock says, not in rounds: it needs all in one block."""

    def check(self, network: Network) -> None:
        """Refuse settings that cannot work with this topology among so many nodes.

        Raises:
            ConfigError: naming field, value and fix.
        """

    def start(self, block: Block) -> None:
        """Put the algorithm's own state into ``block.state`` before the first round."""

    def local(self, block: Block, t: int) -> None:
        """What each node does alone in round t; by default the local steps of the run file."""
        block.train(t)

    @abstractmethod
    def outgoing(self, block: Block, t: int) -> Send | None:
        """What the nodes send after their local work, or None for no exchange this round."""

    @abstractmethod
    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        """Take what arrived into ``block.rows``, in place."""

    def round(self, block: Block, t: int) -> Script:
        """The round's script."""
        self.local(block, t)
        send = self.outgoing(block, t)
        if send is not None:
            self.incoming(block, (yield send), t)
