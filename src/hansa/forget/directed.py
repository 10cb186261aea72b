"""A server's program that its clients serve, as an algorithm of the engine: one order a round.

The program runs in the block in which the (first) server lives. A round is one order: the server
tells whom it asks, sends the order, they do it where their data are, and answer. When the program
is at its end, everybody hears that, and the run is over.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.lazy import torch
from hansa.base.threads import one_thread
from hansa.codec import Packets, Raw
from hansa.engine import Algorithm, Block, Ending, Inbox, Outcome, Script, Send, Tell, star_to
from hansa.engine.block import COUNTERS, MODELLED
from hansa.engine.exchange.words import Told
from hansa.engine.history import UPDATES
from hansa.forget.classifier import Classifier
from hansa.forget.federation import Asking, Federation
from hansa.forget.orders import Answered, Order
from hansa.forget.party import Party
from hansa.forget.request import Request
from hansa.forget.run_plan import RunPlan
from hansa.topology import Graph

ROW, GIVEN, ORACLE = "forget.row", "forget.given", "forget.oracle"
"""What the server is given at the start, in ``block.kept``: the run's model, the one that an exact
method has come to, and the oracle's."""
WAS = "was."
"""How the names begin of state that training anew has put aside (see :mod:`.again`)."""
SERVED = "served"
"""The event with which the program tells what there is to say; and why the run is over."""
_DESK = "forget.desk"
_SMALL = 1 << 20  # bytes of a model whose operations are not worth several threads


@dataclass
class Desk:
    """What a block keeps between the orders of one program.

    Attributes:
        star: along whose edges the server can tell something.
        federation: the server, where it lives; else None.
        program: what it does.
        came: what the last order brought.
        before: the counters of the run, which are put back at the end.
    """

    plan: RunPlan
    network: Classifier
    star: Graph
    before: dict[str, Any]
    federation: Federation | None = None
    program: Generator[Order, Answered, dict[str, Any]] | None = None
    came: Answered | None = None
    facts: dict[str, Any] | None = None
    parties: dict[int, Party] = field(default_factory=dict)

    def advance(self) -> Order | None:
        """The program's next order; None: it is at its end."""
        assert self.program is not None
        try:
            return self.program.send(self.came)  # type: ignore[arg-type]
        except StopIteration as end:
            self.facts = end.value
            return None


class Directed(Algorithm):
    """What a server does with the clients of a run that was trained.

    Its subclasses say what; they carry plain settings and are found by import path.
    """

    uses_topology: ClassVar[bool] = False
    unattackable: ClassVar[str] = "works on a run that was trained"

    learned: Algorithm = Field(description="what the clients learned by")
    rounds: int = Field(ge=1, description="rounds of training that were planned")
    done: int = Field(ge=0, description="rounds of training that there were")
    number: int = Field(1, ge=1, description="which request of the run is served")
    request: Request = Field(Request(), description="what is to be forgotten")
    past: Request = Field(Request(), description="what was forgotten before")

    @abstractmethod
    def program(self, federation: Federation) -> Asking[dict[str, Any]]:
        """What the server does; ``federation.row`` is the run's model at the end.

        Returns:
            What there is to say about it, as plain data.
        """

    def start(self, block: Block) -> None:
        """Nothing: a checkpoint brings the nodes as they were trained."""

    def ready(self, block: Block) -> None:
        """Take back the state that training anew has put aside, where it has."""
        if aside := {n.removeprefix(WAS): v for n, v in block.state.items() if n.startswith(WAS)}:
            block.state = aside

    def desk(self, block: Block) -> Desk:
        """The block's desk; at the first order it is set up."""
        if _DESK not in block.facts:
            plan = RunPlan.of_block(block, self.learned, self.rounds, self.done)
            counters = {k: block.state[k].clone() for k in (*COUNTERS, *MODELLED)}
            star = star_to(block.clients, block.nodes).transpose()
            desk = Desk(plan, Classifier(plan.module), star, counters)
            block.facts[_DESK] = desk
            if len(block.positions(np.array([block.clients]))):
                desk.federation = self._federation(block, plan)
                desk.program = self.program(desk.federation)
        desk = block.facts[_DESK]
        assert isinstance(desk, Desk)
        return desk

    def _federation(self, block: Block, plan: RunPlan) -> Federation:
        every = int(getattr(self.learned, "keep_updates", 0))
        rows = {
            name: block.kept[name][0].to(block.rows.device)
            for name in (ROW, GIVEN, ORACLE)
            if name in block.kept
        }
        return Federation(
            plan=plan,
            row=rows[ROW],
            request=self.request,
            past=self.past,
            updates=block.kept[UPDATES][0] if every else None,
            updates_every=every,
            number=self.number,
            given=rows.get(GIVEN),
            oracle=rows.get(ORACLE),
        )

    def round(self, block: Block, t: int) -> Script:
        """One order, or the end: the server tells whom it asks, and them alone what."""
        desk, server = self.desk(block), block.clients
        center = block.positions(np.array([server]))
        with self._threads(block):
            order = desk.advance() if len(center) else None
        before = self._traffic(block, center)
        asked = yield from self._asked(block, desk, order, bool(len(center)))
        if asked is None:
            self._leave(block, desk)
            return SERVED
        out = Graph.from_edges(block.nodes, np.full(len(asked), server), asked)
        packets = () if order is None else (order.pack(),)
        inbox = yield Send(Packets(packets), out, Raw(), "order", senders=center)
        at = block.positions(asked)
        with self._threads(block):
            answers = tuple(self._answers(block, inbox, at))
        inbox = yield Send(Packets(answers), out.transpose(), Raw(), "answer", senders=at)
        if order is not None:
            senders, messages = inbox.messages(int(center[0]))
            assert isinstance(messages, Packets)
            sent = dict(zip(senders.tolist(), messages.packets, strict=True))
            desk.came = Answered.unpack(sent, self._traffic(block, center) - before)
        return None

    def _asked(
        self, block: Block, desk: Desk, order: Order | None, central: bool
    ) -> Generator[Tell, Told, np.ndarray | None]:
        """Ids of the clients that are asked, of those whom the block can know of; None: the end."""
        who, server = np.zeros(0, dtype=np.int64), block.clients
        if central:
            others = np.delete(np.arange(block.nodes), server)
            who = others if order is None else np.array(order.clients, dtype=np.int64)
        over = np.full(len(who), int(order is None))
        told = yield Tell(desk.star, np.full(len(who), server), who, {"over": over}, {"over": 0})
        if told.values["over"].any() or (central and order is None):
            return None
        return who if central else block.ids[told.receivers[told.came]]

    def _answers(self, block: Block, inbox: Inbox, at: np.ndarray) -> Iterator[bytes]:
        """What the clients at these positions answer to the order that they got."""
        order: Order | None = None
        for k in at.tolist():
            _, messages = inbox.messages(k)
            assert isinstance(messages, Packets)
            if order is None:  # it is one to all
                order = Order.unpack(messages.packets[0])
            yield order.serve(self.party(block, int(block.ids[k])))

    def party(self, block: Block, client: int) -> Party:
        """A client of the block."""
        desk = self.desk(block)
        if client not in desk.parties:
            desk.parties[client] = Party(block, client, desk.plan, desk.network, self.number)
        return desk.parties[client]

    def finish(self, block: Block, t: int) -> Ending:
        yield from ()
        federation = self.desk(block).federation
        rows = block.rows[:0] if federation is None else federation.row.unsqueeze(0)
        return Outcome(block.ids[block.positions(np.array([block.clients]))], rows)

    def _leave(self, block: Block, desk: Desk) -> None:
        """Put the block into the state that the run is in from now on."""
        for name, values in desk.before.items():
            block.state[name] = values
        for name in (ROW, GIVEN, ORACLE):
            block.kept.pop(name, None)
        if desk.federation is None:
            return
        block.events.append({"kind": SERVED, "facts": desk.facts})
        if block.nodes - block.clients == 1:
            self.learned.adopt(block, desk.federation.row.unsqueeze(0))

    def _traffic(self, block: Block, center: np.ndarray) -> int:
        """Bytes that the server has sent and received."""
        at = torch.from_numpy(center)
        return sum(int(block.state[n][at].sum()) for n in ("bytes_sent", "bytes_received"))

    def _threads(self, block: Block) -> Any:
        """Small models of one lane: what they gain by more, handing out would cost."""
        small = block.trainer.layout.nbytes < _SMALL and block.trainer.device.type == "cpu"
        return one_thread(small)
