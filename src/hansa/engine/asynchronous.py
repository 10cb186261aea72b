"""Algorithms without rounds: every node has a script of its own, and nobody keeps step.

A node *wakes* when it is due, and *hears* what comes in between. Both are scripts of one node, over
a block that is that node alone; they yield :class:`Put`, :class:`Take` and :class:`Until`. The
engine interleaves them: in ``simulate`` by modelled time, one event after the other; in a worker of
``processes`` its own nodes wake by their modelled time, and what other workers send is heard as the
sockets bring it. What happens in between two yields of a script happens in one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hansa.engine.algorithm import Algorithm, Script
from hansa.engine.block import Block
from hansa.engine.exchange.letter import Letter
from hansa.engine.exchange.taking import Put, Unrounded

if TYPE_CHECKING:
    from collections.abc import Iterator


class Asynchronous(Algorithm):
    """A collaboration of nodes at their own pace, written as scripts of one of them.

    Those that keep a model act: the servers where there are some, else everybody. What a run file
    calls a round is as many wake-ups as nodes that act are present, in each worker's block.
    """

    own_pace: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ()
    """All kinds of messages that its nodes put."""
    hears: ClassVar[tuple[str, ...]] = ()
    """Those of them that :meth:`hear` is called for; the others wait until they are taken."""

    def due(self, node: Block, t: int) -> tuple[float, int]:
        """When a node wakes next: (modelled time, what decides between those of the same time).

        By default when its local steps are done that it begins now.
        """
        assert node.clock is not None  # see prepare
        sizes = node.own_sizes
        asked = t, sizes.item(), node.state["modelled_time"].item()
        known = node.tables.get("due")
        if known is None or known[0] != asked:
            pace = node.clock.pace(node, node.ids) if node.clock.modelled else None
            samples = node.trainer.planned(node.ids, sizes, node.streams, t, pace)[1]
            known = node.tables["due"] = asked, node.clock.finish(node, samples).item()
        return known[1], 0

    def opening(self, block: Block, t: int) -> Iterator[tuple[int, Put]]:
        """What nodes of a block say as a round begins: (position, what it puts)."""
        yield from ()

    def wake(self, node: Block, t: int) -> Script:
        """What a node does when it is due."""
        raise NotImplementedError(f"{type(self).__name__} must define wake")

    def hear(self, node: Block, t: int, letter: Letter) -> Script:
        """What a node does about a message of a kind that it ``hears``; it takes it itself."""
        raise NotImplementedError(f"{type(self).__name__} must define hear")

    def may_say(self, clients: int, sender: int, receiver: int, kind: str) -> bool:
        """Whether one node may send another something of a kind; else it is not heard.

        Args:
            clients: how many nodes have data; the ids from there on are servers.
        """
        return kind in self.kinds

    def closing(self, block: Block, t: int) -> None:
        """What a block reports at the end of a round."""

    def round(self, block: Block, t: int) -> Script:
        yield Wakes(self)
        self.closing(block, t)


def acting(block: Block, t: int) -> np.ndarray:
    """Positions of the nodes of a block that act in a round, ascending."""
    return block.residents[block.present(t)[block.residents]]


@dataclass(frozen=True)
class Wakes(Unrounded):
    """A round of an asynchronous algorithm: as many wake-ups as nodes that act are present."""

    algorithm: Asynchronous
