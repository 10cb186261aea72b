"""The middle of a federated round: from the servers' models to the sums of the clients' updates.

Clients begin and are summed in the order of their ids, a small wave at a time, so that few models
are in memory at once. Several waves are on their way: while one is waited for and summed, the
clients of the next are at work. A block steps through the waves in which it has a server or a
client and knows of no others; before a later wave the server says when an earlier one is in, so
that no worker runs ahead of the one that has the server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base import many
from hansa.engine import Asked, Block, Tell
from hansa.engine.exchange.attackers import TOGETHER
from hansa.learn.federated.client_server import ClientServer
from hansa.learn.federated.client_work import Flight, Heard
from hansa.learn.federated.invitation import DONE, Invitations, Plan
from hansa.learn.federated.mail import post
from hansa.learn.federated.sums import Sums
from hansa.topology import Graph

if TYPE_CHECKING:
    from torch import Tensor

_WAVE_BYTES = 32 << 20
"""Models of clients that are in memory of a worker at a time: few, so that they stay in cache from
the download to the server's sum, but enough for every thread."""


@dataclass(frozen=True)
class Waves:
    """How the updates of a round are cut into waves; the same in every block but for ``ahead``.

    Attributes:
        sizes: int64 [servers], clients of each server in a wave.
        span: waves of a part of the model at most.
        ahead: waves that are on their way at a time.
        together: the updates of all leave at once, with every block there.
    """

    sizes: np.ndarray
    span: int
    ahead: int
    together: bool

    @classmethod
    def of(cls, method: ClientServer, block: Block) -> Waves:
        """Each server's waves are in proportion to its number of clients."""
        counts = method.clients_each(block)
        if block.facts.get(TOGETHER):
            return cls(np.maximum(counts, 1), 1, 1, True)
        nbytes, trainer = max(1, block.trainer.layout.nbytes), block.trainer
        size = max(1, _WAVE_BYTES // 2 // nbytes)
        few = max(_WAVE_BYTES // nbytes, 2 * trainer.threads) * block.workers
        sizes = np.maximum(1, size * counts // max(1, int(counts.sum())))
        span = int((-(-counts // sizes)).max(initial=1))
        return cls(sizes, span, max(2, few // size), False)

    def planned(self, plan: Plan, number: int, parts: np.ndarray) -> Plan:
        """The plan of the server of this number, with the turns of its clients.

        Args:
            parts: int64 [k], the part of the model that each client has.
        """
        return plan.in_waves(int(self.sizes[number]), parts, self.span, self.ahead)


@dataclass
class Stream:
    """The way of a round's models to the clients of a block, and of their updates to its servers.

    Attributes:
        plan: what this block's servers planned.
        invited: what this block's clients were told.
        reached: bool [clients of the run], whom nothing that this block sent has missed.
    """

    method: ClientServer
    block: Block
    t: int
    plan: Plan
    invited: Invitations
    reached: np.ndarray
    sums: Sums

    def run(self, waves: Waves) -> Generator[Asked, Any, None]:
        """All of it."""
        block, method = self.block, self.method
        time = block.state["modelled_time"]
        now = time[block.residents].clone()
        for part in range(method.parts(block)):
            time[block.residents] = now  # all are invited at once
            held = method.numbers(block, part)
            heard = yield from self._models(part, held)
            yield from self._updates(part, held, heard, waves)

    def _models(self, part: int, held: Tensor | None) -> Generator[Asked, Any, Heard]:
        """Clients get the model; what those of this block got who are to train."""
        block, method = self.block, self.method
        here, theirs = self._of(self.invited, part), self._of(self.plan, part)
        theirs = theirs.take(self.reached[theirs.client])
        model, aside = block.rows[:, : method.sent(block)], list(method.told(block).values())
        (down, known), servers = _edges(block, here, theirs), block.residents
        mail = yield from post(
            down, method.download, "model", servers, model, aside, held, hears=known
        )
        self.reached[mail.lost(down, block)] = False
        who = block.positions(here.client)
        works = np.flatnonzero(mail.got(who) & (here.steps > 0))
        return method.heard(block, who[works], mail, here.take(works), self.t)

    def _updates(
        self, part: int, held: Tensor | None, heard: Heard, waves: Waves
    ) -> Generator[Asked, Any, None]:
        """Clients train, and their updates come in, wave by wave."""
        block = self.block
        theirs = self._of(self.plan, part)
        theirs = theirs.take((theirs.outcome == DONE) & self.reached[theirs.client])
        flying: deque[tuple[int, Graph, Graph | None, Heard, Flight]] = deque()
        turns = np.union1d(heard.invited.turn, theirs.turn)
        if waves.together:
            turns = np.array([part * waves.span])
        for turn in turns.tolist():
            here = heard.take(np.flatnonzero(heard.invited.turn == turn))
            due = theirs.take(theirs.turn == turn)
            down, known = _edges(block, here.invited, due)
            after = max(-1, *here.invited.after.tolist(), *due.after.tolist())
            while flying and flying[0][0] <= after:
                yield from self._arrive(*flying.popleft(), held)
            if after >= 0:
                yield Tell(down, kind="begin", turn=turn)
            up = (known or down).transpose()  # who does not know that it is waited for is silent
            waits = None if known is None else down.transpose()
            flying.append((turn, up, waits, here, self.method.launch(block, here)))
        while flying:
            yield from self._arrive(*flying.popleft(), held)

    def _arrive(
        self,
        turn: int,
        up: Graph,
        waits: Graph | None,
        here: Heard,
        flight: Flight,
        held: Tensor | None,
    ) -> Generator[Asked, Any, None]:
        """A wave's updates leave, and are added up.

        Args:
            waits: whom servers wait for, where those do not all send something.
        """
        block, method, weight = self.block, self.method, many.zeros(self.block.clients)
        weight[self.plan.client] = self.plan.weight
        updates, aside = method.land(block, flight)
        back = yield from post(
            up, method.codec, "update", here.who, updates, aside, held, turn, waits
        )
        for row in range(len(block.residents)):
            method.gather(block, row, back, weight, self.sums)

    def _of(self, some: Any, part: int) -> Any:
        """Those of some invitations whose clients have this part of the model."""
        return some.take(self.method.part_of(self.block, some.client) == part)


def _edges(block: Block, here: Invitations, theirs: Invitations) -> tuple[Graph, Graph | None]:
    """Servers to clients, as far as a block has the one or the other.

    Returns:
        (the edges, those of them that their clients know of too or None where all are).
    """

    def graph(some: Invitations, others: Invitations) -> Graph:
        return Graph.from_edges(
            block.nodes,
            np.concatenate([some.server, others.server]),
            np.concatenate([some.client, others.client]),
        )

    # A client beside its server always knows what that wants of it, but where a run is done again
    # in one block in which they had lived apart and the client did not hear its server.
    unaware = ~np.isin(theirs.client, here.client)
    unaware[unaware] = np.isin(theirs.client[unaware], block.ids)
    whole = graph(here, theirs)
    return whole, graph(here, theirs.take(~unaware)) if unaware.any() else None
