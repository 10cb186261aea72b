"""FedAvg from the engine's own pieces, in one file (hansa's own is `fedavg`, with many settings).

hansa learn own_fedavg --set plugins=[examples/own_fedavg.py] --set nodes=40
"""

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa import Algorithm, Block, Graph, Script, Send, register
from hansa.codec import whole_rows


@register("own_fedavg")
class OwnFedAvg(Algorithm):
    """A server averages the models of a few clients, weighted by their numbers of examples."""

    uses_topology: ClassVar[bool] = False
    must_tell: ClassVar[frozenset[str]] = frozenset({"sizes"})  # else nobody knows them
    sampled: int = Field(10, ge=1, description="clients a round")

    def servers(self, clients: int) -> int:
        return 1

    def round(self, block: Block, t: int) -> Script:
        server = block.clients  # the ids of servers come after those of the clients
        random = block.streams.numpy("sampling", server, t)  # the same in every worker
        chosen = np.sort(random.choice(block.clients, self.sampled, replace=False))
        star = Graph.from_edges(block.nodes, np.full(len(chosen), server), chosen)
        inbox = yield Send(block.rows, star, senders=block.residents)
        who = block.positions(chosen)
        models, which = inbox.table(who)
        crew = block.visit(who, models[which])
        crew.train(t)
        block.settle(crew)
        inbox = yield Send(crew.rows, star.transpose(), senders=who)
        for row, at in enumerate(block.residents):
            senders, models = inbox.messages(int(at))
            weights = block.sizes[senders] / block.sizes[senders].sum()
            block.rows[row] = sum(w * x for w, x in zip(weights, whole_rows(models), strict=True))
