"""Algorithms that go around another and change one thing of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.engine.algorithm import Algorithm, Ending, Script
from hansa.engine.block import Block
from hansa.engine.exchange.asked import Asked
from hansa.engine.exchange.exchange import Send
from hansa.engine.exchange.inbox import Inbox
from hansa.engine.network import Network, WeightRule

if TYPE_CHECKING:
    from torch import Tensor


class Wrapper(Algorithm):
    """Another algorithm, all of whose declarations and functions are handed on.

    Subclasses override what they change and call ``super()`` for the rest. ``usual`` is their own:
    it is asked of the name alone.
    """

    algorithm: Algorithm = Field(description="what the nodes do and say")

    @property
    def uses_topology(self) -> bool:  # type: ignore[override]
        return self.algorithm.uses_topology

    @property
    def uses_public(self) -> bool:  # type: ignore[override]
        return self.algorithm.uses_public

    @property
    def own_pace(self) -> bool:  # type: ignore[override]
        return self.algorithm.own_pace

    @property
    def unattackable(self) -> str:  # type: ignore[override]
        return self.algorithm.unattackable

    @property
    def attackable(self) -> str:  # type: ignore[override]
        return self.algorithm.attackable

    @property
    def own_settings(self) -> frozenset[str]:  # type: ignore[override]
        return self.algorithm.own_settings

    @property
    def uses_limits(self) -> bool:  # type: ignore[override]
        return self.algorithm.uses_limits

    @property
    def must_tell(self) -> frozenset[str]:  # type: ignore[override]
        return self.algorithm.must_tell

    @property
    def tolerates_loss(self) -> bool:  # type: ignore[override]
        return self.algorithm.tolerates_loss

    @property
    def loss_breaks(self) -> str:  # type: ignore[override]
        return self.algorithm.loss_breaks

    @property
    def crash_breaks(self) -> str:  # type: ignore[override]
        return self.algorithm.crash_breaks

    @property
    def needs_all(self) -> str:
        return self.algorithm.needs_all

    @property
    def needs_time(self) -> bool:
        return self.algorithm.needs_time

    @property
    def mixing_rule(self) -> WeightRule | None:
        return self.algorithm.mixing_rule

    def unprotected(self, way: str) -> str:
        return self.algorithm.unprotected(way)

    def servers(self, clients: int) -> int:
        return self.algorithm.servers(clients)

    def hubs(self, clients: int) -> np.ndarray:
        return self.algorithm.hubs(clients)

    def members(self, block: Block) -> np.ndarray:
        return self.algorithm.members(block)

    def judged(self, block: Block) -> np.ndarray:
        return self.algorithm.judged(block)

    def working(self, clients: int) -> float:
        return self.algorithm.working(clients)

    def check(self, network: Network) -> None:
        """Refuse what the inner algorithm does, and name its field as the run file does."""
        try:
            self.algorithm.check(network)
        except ConfigError as error:
            # One that goes around another has named its inner one's field from the top already.
            deeper = isinstance(self.algorithm, Wrapper) and error.field.startswith(INNER)
            raise error.under("algorithm" if deeper else INNER) from None

    def start(self, block: Block) -> None:
        self.algorithm.start(block)

    def ready(self, block: Block) -> None:
        self.algorithm.ready(block)

    def check_block(self, block: Block) -> None:
        self.algorithm.check_block(block)

    def local(self, block: Block, t: int) -> None:
        self.algorithm.local(block, t)

    def outgoing(self, block: Block, t: int) -> Send | None:
        return self.algorithm.outgoing(block, t)

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        self.algorithm.incoming(block, inbox, t)

    def round(self, block: Block, t: int) -> Script:
        return (yield from self.algorithm.round(block, t))

    def finish(self, block: Block, t: int) -> Ending:
        return (yield from self.algorithm.finish(block, t))

    def adopt(self, block: Block, rows: Tensor) -> None:
        self.algorithm.adopt(block, rows)

    def measured(self, block: Block, t: int) -> Generator[Asked, Any, tuple[np.ndarray, Tensor]]:
        return (yield from self.algorithm.measured(block, t))


INNER = "algorithm.algorithm"
"""The inner one's full name in a run file."""
