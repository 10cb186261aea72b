"""How ratings get from node to node in a round: blindly, by what is remembered, or by digests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from hansa.codec import Codec, Padded, Raw
from hansa.engine import Block, Script, Send
from hansa.recommend import lacking, remembering, storing
from hansa.recommend.choosing import Wanted, drawn
from hansa.recommend.exposure import Exposure
from hansa.recommend.outgoing import Receivers
from hansa.recommend.vetting import Guard
from hansa.recommend.weighing import PROBE
from hansa.recommend.withdrawing import Withdrawals

Reconcile: TypeAlias = Literal["none", "remembered", "digest"]
"""Against ratings that come to who has them: nothing; a neighbour is not sent what it is known to
have; or nodes say by digests what they have, and are sent what they lack."""


def opened(block: Block, exposure: Exposure, remember: bool, probe: bool = False) -> None:
    """Open the nodes' stores, with notes of what limits and memory need to know.

    Args:
        probe: some ratings are held back to measure (``weighing.py``).
    """
    notes = dict(exposure.notes)
    if probe:
        notes[PROBE] = np.bool_(False)
    if remember:
        notes[remembering.KNOWN] = np.uint64(0)
    block.open_store(True, exposure.capacity, exposure.when_full, notes)


@dataclass(frozen=True)
class Passing:
    """How ratings are passed on.

    Attributes:
        count: ratings to a message, at most.
        codec: how they become bytes.
        exposure: how far they go.
        reconcile: what is done against ratings that come to who has them.
        entries: ratings that a digest covers, about.
        guard: what is refused.
        withdrawals: what is taken back, and when.
    """

    count: int
    codec: Codec
    exposure: Exposure
    reconcile: Reconcile
    entries: int
    guard: Guard
    withdrawals: Withdrawals

    @property
    def _packets(self) -> Codec:
        """How digests become bytes: filled up where ratings are."""
        if isinstance(self.codec, Padded):
            return Padded(codec=Raw(), block=self.codec.block)
        return Raw()

    def start(self, block: Block, probe: bool = False) -> None:
        """Open the nodes' stores."""
        opened(block, self.exposure, self.reconcile == "remembered", probe)

    def round(
        self, block: Block, t: int, to: Receivers, silent: np.ndarray | None = None
    ) -> Script:
        """One round's ratings.

        Args:
            silent: bool [n], who sends none. With it the script returns how many bytes each node
                was sent, float64 [n].
        """
        each = to.one or self.reconcile != "none"
        at = to.chosen[to.speaks] if to.one else np.arange(to.edges)
        if self.reconcile == "digest":
            digests = lacking.asked(block, t, to, self.entries)
            inbox = yield Send(digests, to.graph, self._packets, kind="digests", each=True)
            wanted, at = lacking.answers(block, t, to, inbox)
        elif self.reconcile == "remembered":
            remembering.forget(block, t)
            wanted = remembering.wanted(block, [to.links(block)[e] for e in at.tolist()])
        elif to.one:
            wanted = [Wanted(k) for k in np.flatnonzero(to.speaks).tolist()]
        else:
            wanted = [Wanted(k, copies=int(d)) for k, d in enumerate(to.degrees)]
        if silent is not None:
            wanted = [
                replace(one, among=_nothing(block, one.k)) if silent[one.k] else one
                for one in wanted
            ]
        tables, places = drawn(block, t, self.count, wanted, self.exposure)
        tables = to.on_edges(tables, at) if each else tables
        inbox = yield Send(tables, to.graph, self.codec, kind="ratings", each=each)
        if self.reconcile == "remembered":
            lost = inbox.lost[at] if len(inbox.lost) else inbox.lost
            remembering.sent(block, [to.links(block)[e] for e in at.tolist()], places, lost)
        storing.take(block, inbox, t, self.exposure, self.guard, self.withdrawals)
        if silent is None:
            return None
        ratings = [inbox.messages(k)[1] for k in range(len(block))]
        return np.array([float(self.codec.size(each).sum()) for each in ratings])


def _nothing(block: Block, k: int) -> np.ndarray:
    return np.zeros(len(block.parts[k]), dtype=bool)
