"""Clients and servers: what synchronous and asynchronous federated methods have in common.

A server sends its model x to clients, they train it on their own examples, and it takes a weighted
average of their updates Delta_i = x_i - x as its step (McMahan et al., 2017; Reddi et al., 2021),
or what another ``aggregator`` makes of them.
Clients keep nothing between rounds, so they cost no memory then; a method that needs state of its
clients keeps it on a shelf, for those that ever took part.

A method changes one or two pieces: the server's optimizer, a term in the clients' gradients
(:meth:`ClientServer.correction`), the weights (:meth:`ClientServer.weigh`), or something more that
is sent down (:meth:`ClientServer.tells`) or up (:meth:`ClientServer.answers`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base import few
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import Codec, Dense
from hansa.codec.codec import check_codec
from hansa.engine import Algorithm, Asked, Block, Network, Send, Tell
from hansa.engine.block import Correction
from hansa.engine.shelf import Shelf
from hansa.engine.training.bench import aligned_rows
from hansa.ensemble.aggregators import Mean, ModelAggregator
from hansa.learn.federated import counters, protecting
from hansa.learn.federated.client_work import Flight, Heard, Work
from hansa.learn.federated.invitation import Invitations, Plan
from hansa.learn.federated.mail import Mail, is_exact, post_bytes
from hansa.learn.federated.samplers import Sampler, UniformSampler
from hansa.learn.federated.server_optimizers import Average, ServerOptimizer
from hansa.learn.federated.sums import Sums
from hansa.topology import Graph

if TYPE_CHECKING:
    from torch import Tensor


class ClientServer(Algorithm):
    """The base of the federated methods (see the module's text)."""

    uses_topology: ClassVar[bool] = False
    must_tell: ClassVar[frozenset[str]] = frozenset({"sizes"})
    apart: ClassVar[bool] = True
    """Whether each client works by itself, at any time; otherwise :meth:`local_work` shares out
    what all clients of a wave do."""
    answer_names: ClassVar[tuple[str, ...]] = ()
    """Names of the rows [P] that clients send with their update."""

    sampler: Sampler = Field(UniformSampler(), description="which clients are invited")
    failure: float = Field(
        0.0, ge=0, le=1, description="chance that an invited client fails on the way"
    )
    server: ServerOptimizer = Field(Average(), description="the server's step")
    aggregator: ModelAggregator = Field(
        Mean(), description="what a server makes of its clients' updates, statistics and answers"
    )
    buffers: Literal["average", "local"] = Field(
        "average",
        description="statistics of normalization layers: averaged like parameters, or each "
        "client's own and never sent (FedBN's way with them)",
    )
    codec: Codec = Field(Dense(), description="how an update becomes bytes")
    download: Codec = Field(Dense(), description="how a server's model becomes bytes")

    # -- what methods change

    def servers(self, clients: int) -> int:
        return 1

    def members(self, block: Block) -> np.ndarray:
        """int64 [clients]: the id of each client's server."""
        return np.broadcast_to(np.int64(block.clients), block.clients)

    def clients_each(self, block: Block) -> np.ndarray:
        """int64 [servers]: how many clients each server has."""
        members, servers = self.members(block), block.nodes - block.clients
        if servers == 1:
            return np.array([np.count_nonzero(members == block.clients)])
        return np.bincount(members[members >= block.clients] - block.clients, minlength=servers)

    def parts(self, block: Block) -> int:
        """How many parts of a model there are that clients may have; the whole is one."""
        return 1

    def part_of(self, block: Block, clients: np.ndarray) -> np.ndarray:
        """Which of them clients of the run have, int64 [k]: known to everybody."""
        return np.zeros(len(clients), dtype=np.int64)

    def numbers(self, block: Block, part: int) -> Tensor | None:
        """The numbers of a row, int64, in a part; None: all that are sent."""
        return None

    def tells(self, block: Block) -> dict[str, Tensor]:
        """What servers send with the model, rows [r, K] by a short name."""
        return {}

    def prepare(self, work: Work) -> None:
        """What clients do before their first step."""

    def correction(self, work: Work) -> Correction | None:
        """A term of the clients' gradients."""
        return None

    def local_work(self, work: Work) -> None:
        """What clients do with the model that they got: their local steps, in place."""
        work.crew.train(work.t, steps=work.invited.steps, correct=self.correction(work))

    def answers(self, work: Work) -> dict[str, Tensor]:
        """What clients send with their update, rows [k, P] by name; servers aggregate them.

        The crew's rows are the trained models, and the table those from which they started.
        """
        return {}

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the single numbers that clients send with their update."""
        return ()

    def measure(self, work: Work) -> list[np.ndarray]:
        """Those numbers, [k] each."""
        return []

    def weigh(
        self, weights: np.ndarray, figures: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, float]:
        """(scale of each update [k], part of the factor of their aggregate) for clients of one
        server. Updates are scaled before they are aggregated, by their weights.

        Args:
            weights: [k] p_i; those of all clients of a round add up to 1.
            figures: by name, [k] each: what :meth:`measure` said.
        """
        return np.ones(len(weights)), 0.0

    def absorb(self, block: Block, row: int, sums: Sums, share: float) -> None:
        """Take the aggregated answers into a server's state.

        Args:
            share: of the weight of all the server's clients, how much those have that answered.
        """

    # -- the same for all

    def check(self, network: Network) -> None:
        check_codec(self.codec, torch.zeros(1, 4))
        check_codec(self.download, torch.zeros(1, 4), "download")

    def check_enough(self, updates: int) -> None:
        """Refuse an aggregator for which so many updates a step are too few.

        Raises:
            ConfigError: naming it.
        """
        least = self.aggregator.least
        if updates < least:
            problem = f"needs {least} updates and a server gets {updates} at most"
            fix = "more clients a server, or another aggregator"
            raise ConfigError("aggregator", self.aggregator.name, problem, fix)

    def start(self, block: Block) -> None:
        protecting.begin(block)
        r, size = len(block.residents), block.trainer.layout.trainable
        for name, value in self.server.slots.items():
            block.kept[f"server.{name}"] = torch.full((r, size), value, device=block.rows.device)

    def sent(self, block: Block) -> int:
        """How many numbers of a row travel: all, or all but the statistics."""
        layout = block.trainer.layout
        if self.buffers == "average":
            return layout.size
        return layout.size - layout.statistics

    def counted(self, block: Block) -> int:
        """How many counters of the model travel, either way."""
        return counters.count(block) if self.buffers == "average" else 0

    def told(self, block: Block) -> dict[str, Tensor]:
        """All that servers send with the model, rows [r, K] by name."""
        aside = self.tells(block)
        if self.counted(block):
            aside = {**aside, counters.NAME: counters.read(block, block.residents)}
        return aside

    def aside(self, block: Block) -> int:
        """How many numbers a client sends besides its update."""
        answers = len(self.answer_names) * block.trainer.layout.trainable
        return answers + self.counted(block) + len(self.figures)

    def down_bytes(self, block: Block, row: int) -> int:
        """What a client gets from the server at a row."""
        aside = sum(rows.shape[1] for rows in self.told(block).values())
        return post_bytes(self.download, block.rows[row : row + 1, : self.sent(block)], aside)

    def up_bytes(self, block: Block, row: int) -> int:
        """What a client sends, as far as that is known before it has trained."""
        model = block.rows[row : row + 1, : self.sent(block)]
        return post_bytes(self.codec, model, self.aside(block))

    def heard(
        self, block: Block, who: np.ndarray, mail: Mail, invited: Invitations, t: int
    ) -> Heard:
        """What the clients at ``who`` got; they did get something."""
        tells = self.told(block)
        widths = [rows.shape[1] for rows in tells.values()]
        table, which, parts = mail.table(who, self.sent(block), widths)
        return Heard(who, invited, table, which, dict(zip(tells, parts, strict=True)), t)

    def launch(self, block: Block, heard: Heard) -> Flight:
        """Have clients begin with their work, as soon as there is a thread for it."""
        size, sent, aside = block.trainer.layout.size, self.sent(block), self.aside(block)
        count, device = len(heard.who), block.rows.device
        # One allocation: what a client trains is what it sends, with what goes aside behind it.
        behind = aside if is_exact(self.codec) and sent == size else 0
        room = aligned_rows(count, size + behind, device)
        rows = room[:, :size]
        rest = room[:, size:] if behind else torch.empty(count, aside, device=device)
        flight = Flight([], [], rows[:, :sent], rest)
        everyone = np.arange(count)
        for at in block.trainer.chunks(everyone) if self.apart else [everyone]:
            if not len(at):
                continue
            own, span = heard.take(at), slice(int(at[0]), int(at[-1]) + 1)
            crew = block.visit(own.who, rows[span])
            work = Work(crew, own.invited, own.table, own.which, own.told, own.t)
            if block.trainer.counters:
                counted = counters.read(block, own.who)
                begun = work.heard(counters.NAME) if self.counted(block) else counted
                counters.write(crew, np.arange(len(crew)), begun)
            flight.works.append(work)
            if self.apart:
                flight.done.append(block.trainer.submit(self._work, work, rest[span]))
            else:
                self._work(work, rest[span])
        return flight

    def land(self, block: Block, flight: Flight) -> tuple[Tensor, list[Tensor]]:
        """Wait for clients at work: (updates [k, K], what goes with them)."""
        for done in flight.done:
            done.result()
        for work in flight.works:
            block.settle(work.crew)
            if self.buffers == "local":
                counted = counters.read(work.crew, np.arange(len(work.crew)))
                counters.write(block, block.positions(work.crew.ids), counted)
        return flight.updates, [flight.aside] if flight.aside.shape[1] else []

    def train(self, block: Block, heard: Heard) -> tuple[Tensor, list[Tensor]]:
        """Local steps of clients, from what they got: (updates [k, K], what goes with them)."""
        return self.land(block, self.launch(block, heard))

    def _work(self, work: Work, rest: Tensor) -> None:
        """All that clients do: their rows become updates, and what goes with them is ``rest``.

        Nothing of their block changes, so that a thread may do it while others work or wait.
        """
        crew, layout = work.crew, work.crew.trainer.layout
        sent = self.sent(crew)
        for row, m in zip(crew.rows, work.which, strict=True):
            row[:sent] = work.table[m]
        if sent < layout.size:
            shelf = self.shelf(crew, "buffers")
            crew.rows[:, sent:] = layout.flatten(crew.trainer.module)[sent:].to(crew.rows.device)
            shelved = np.array([node in shelf for node in crew.ids], dtype=bool)
            own = shelf.take(crew.ids[shelved], layout.size - sent)
            crew.rows[np.flatnonzero(shelved), sent:] = own.to(crew.rows.device)
        self.prepare(work)
        self.local_work(work)
        if sent < layout.size:
            shelf.put(crew.ids, crew.rows[:, sent:])
        answers = self.answers(work)
        extra = [answers[name] for name in self.answer_names]
        if self.counted(crew):
            extra.append(counters.read(crew, np.arange(len(crew))))
        if self.figures:
            numbers = np.stack(self.measure(work), axis=1)
            extra.append(torch.from_numpy(numbers).to(crew.rows))
        if extra:
            rest.copy_(torch.cat(extra, dim=1))
        for row, m in zip(crew.rows, work.which, strict=True):
            row[:sent] -= work.table[m]

    def gather(
        self,
        block: Block,
        row: int,
        mail: Mail,
        weight: np.ndarray,
        sums: Sums,
        discount: np.ndarray | None = None,
    ) -> None:
        """Add what a server got to its sums.

        Statistics are no steps along a gradient: however a method scales the parameters' updates,
        they are aggregated as they are. Counters are averaged whatever the aggregator.

        Args:
            weight: float64 [clients], p_i of each client.
            discount: float64 [clients], what each client's step is scaled with.
        """
        at, size = int(block.residents[row]), block.trainer.layout.trainable
        senders, updates, rest = mail.messages(at)
        sums.latest[row] = max(sums.latest[row], float(block.state["modelled_time"][at]))
        if not len(senders):
            return
        sent, width = self.sent(block), len(self.figures)
        rest = rest[:, rest.shape[1] - self.aside(block) :]
        numbers = rest[:, rest.shape[1] - width :].double().cpu().numpy().T
        figures = dict(zip(self.figures, numbers, strict=True))
        updates = protecting.bounded(block, row, updates[:, :sent], sums)
        sums.figures[row].append(figures)
        shares = weight[senders]
        sums.heard[senders] = True
        sums.share[row] += shares.sum()
        scales, factor = self.weigh(shares, figures)
        if discount is not None:
            scales = scales * discount[senders]
        answers = rest[:, : size * len(self.answer_names)].split(size, dim=1)
        named = zip(self.answer_names, answers, strict=False)
        sums.add(row, updates, shares, scales, dict(named), mail.held)
        sums.factor[row] += factor
        if self.counted(block):
            first = len(self.answer_names) * size
            counted = rest[:, first : rest.shape[1] - width].double()
            sums.counters[row] += torch.from_numpy(shares).to(counted) @ counted

    def move(self, block: Block, row: int, sums: Sums) -> None:
        """A server's step on what it has gathered."""
        size, sent = block.trainer.layout.trainable, self.sent(block)
        update = sums.update[row]
        if self.counted(block) and sums.came[row]:
            counters.write(block, block.residents[row : row + 1], sums.counters[row : row + 1])
        if sums.factor[row]:
            update.mul_(float(sums.factor[row]))
        slots = {name: block.kept[f"server.{name}"][row] for name in self.server.slots}
        self.server.step_(block.rows[row, :size], update, slots)
        block.rows[row, size:sent] += sums.rest[row]

    def star(self, block: Block) -> Graph:
        """Servers to all who can be their clients: known at both ends, whoever is invited."""
        if "federated.star" not in block.facts:
            members = self.members(block)
            has, indptr = members >= block.clients, np.zeros(block.nodes + 1, dtype=np.int64)
            np.cumsum(has, out=indptr[1 : block.clients + 1])
            indptr[block.clients + 1 :] = indptr[block.clients]
            block.facts["federated.star"] = Graph(indptr, members if has.all() else members[has])
        return block.facts["federated.star"]

    def measured(self, block: Block, t: int) -> Generator[Asked, Any, tuple[np.ndarray, Tensor]]:
        """With statistics of their own: the models of the clients that have some, not a server's.

        Its own statistics are those of the start, and nobody uses them. Such clients ask for its
        model and put theirs together.
        """
        at, models = block.models()
        sent = self.sent(block)
        if sent == block.rows.shape[1]:
            return at, models
        members, nodes = self.judged(block), block.nodes
        ids, own = self.shelf(block, "buffers").all()
        clients = np.flatnonzero(members >= block.clients)
        inwards = Graph.from_edges(nodes, clients, members[clients])
        asks = yield Tell(inwards, ids, members[ids], kind="ask")
        askers, asked = asks.senders[asks.came], block.ids[asks.receivers[asks.came]]
        served = np.isin(asked, block.ids[at])
        down = Graph.from_edges(
            nodes,
            np.concatenate([asked[served], members[ids]]),
            np.concatenate([askers[served], ids]),
        )
        inbox = yield Send(models[:, :sent], down, kind="measured", senders=at, on_missing="wait")
        who = block.positions(ids)
        table, which = inbox.table(who)
        rows = torch.cat([table[torch.from_numpy(which)], own.to(table.device)], dim=1)
        idle = np.isin(block.ids[at], members) & ~np.isin(block.ids[at], asked)
        rows = torch.cat([rows.to(models.device), models[torch.from_numpy(idle)]])
        return np.concatenate([who, at[idle]]), rows

    def asleep(self, block: Block) -> Generator[Tell, Any, np.ndarray]:
        """Ids of the clients of this block's servers whose batteries do not last another round.

        Only they know: they tell their servers.
        """
        if block.awake is None:  # in every block alike: the clock has no batteries
            return np.zeros(0, dtype=np.int64)
        star = self.star(block)
        ids = block.ids[~block.awake]
        ids = ids[ids < block.clients]
        indptr, servers = star.rows(ids)
        told = yield Tell(star.transpose(), np.repeat(ids, np.diff(indptr)), servers, kind="asleep")
        return np.unique(told.senders[told.came])

    def log(self, block: Block, plan: Plan) -> None:
        """Each client's part in a round, for the record; its server knows it."""
        for name in ("server", "start", "heard", "trained", "end", "outcome"):
            values = block.log.setdefault(f"client_{name}", few.nobody(block.nodes))
            values[plan.client] = getattr(plan, name)

    def shelf(self, block: Block, name: str) -> Shelf:
        """Rows that clients keep between rounds."""
        return block.shelves.setdefault(f"client.{name}", Shelf())
