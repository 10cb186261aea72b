"""FedBuff: nobody waits for the slow (Nguyen et al., 2022).

So many clients train at any time. As soon as one is done another starts, from whatever the model
is then; the server keeps the updates in a buffer and takes a step when it is full. An update
that started from the model of tau steps ago counts 1 / sqrt(1 + tau) of its share.

A round is one step of the server. A client that has trained says so, and keeps its update until the
server asks for it: what is too old by then is never sent. In ``simulate`` clients are done when
devices and links of the modelled clock say, and the step is at the modelled time at which the
buffer fills; between workers they are done when they are. What the clock and the faults have in
store for a client goes with the model that it gets and is not counted: a real one knows it itself.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, RunError
from hansa.base.lazy import torch
from hansa.codec import Codec, Dense
from hansa.engine import Asynchronous, Block, Network, Put, Script, Take, Until
from hansa.engine.exchange.letter import Letter
from hansa.ensemble.aggregators import Mean
from hansa.learn.federated.client_server import ClientServer
from hansa.learn.federated.invitation import (
    DONE,
    REALS,
    Plan,
    Terms,
    charge,
    invite,
    wait_for_clients,
    worked,
)
from hansa.learn.federated.mail import Mail, is_exact
from hansa.learn.federated.samplers import Pool
from hansa.learn.federated.sums import Sums

PENDING = "pending"
ASLEEP, MODEL, DONE_WORD, DUE, VOID, UPDATE = "asleep", "model", "done", "due", "void", "update"
PLANS = "fedbuff.plans"
"""The fact of a block that says who has started in a round."""


@register("fedbuff", paper="Nguyen et al.", year=2022, url="https://arxiv.org/abs/2106.06639")
class FedBuff(Asynchronous, ClientServer):
    """Asynchronous federated learning with a buffer of updates."""

    kinds: ClassVar[tuple[str, ...]] = (
        ASLEEP, MODEL, f"{MODEL}+", DONE_WORD, DUE, VOID, UPDATE, f"{UPDATE}+",
    )  # fmt: skip
    hears: ClassVar[tuple[str, ...]] = (ASLEEP, MODEL, DUE, VOID)
    lacks: ClassVar[Mapping[str, str]] = {
        "deadline": "has no rounds that could end: its server steps when its buffer is full",
        "over_selection": "has no rounds for which too many could be invited",
        "sampled": "has no rounds to sample for: concurrency says how many train at once",
    }

    usual: ClassVar[dict[str, Any]] = {"algorithm": {"concurrency": 8, "buffer": 4}}
    concurrency: int = Field(20, ge=1, description="clients that train at any time")
    buffer: int = Field(10, ge=1, description="updates that make a step of the server")
    max_staleness: int | None = Field(
        None, ge=0, description="an older update is thrown away; none = every one counts"
    )

    def unprotected(self, way: str) -> str:
        if way == "central":
            return "steps whenever enough updates are in, and no round bounds what one client does"
        return super().unprotected(way)

    def check(self, network: Network) -> None:
        if self.concurrency > network.clients:
            problem = f"there are only {network.clients} clients"
            raise ConfigError("concurrency", self.concurrency, problem, f"1 to {network.clients}")
        # Those at work when a round begins and those that start in it: nobody counts twice.
        if self.buffer > network.clients:
            problem = f"more than the {network.clients} clients, none of whom counts twice in it"
            raise ConfigError("buffer", self.buffer, problem, f"1 to {network.clients}")
        self.check_enough(self.buffer)
        if self.sampler.independent:
            problem = "draws as many as chance has it, and concurrency says how many train at once"
            raise ConfigError("sampler", self.sampler.name, problem, "uniform")
        super().check(network)

    def start(self, block: Block) -> None:
        super().start(block)
        shape = (len(block.residents), block.clients)
        # When each client is done (infinite where it is not at work), with what model, and how.
        block.kept["fedbuff.end"] = torch.full(shape, math.inf, dtype=torch.float64)
        block.kept["fedbuff.version"] = torch.zeros(shape, dtype=torch.int64)
        block.kept["fedbuff.outcome"] = torch.zeros(shape, dtype=torch.int64)
        # The statistics that each client started from: late ones are averaged as they were then.
        statistics = self._statistics(block).shape[1]
        if statistics and not isinstance(self.aggregator, Mean):
            problem = "cannot aggregate statistics of models of different rounds"
            fix = "algorithm.buffers: local, or mean"
            raise ConfigError("aggregator", self.aggregator.name, problem, fix)
        block.kept["fedbuff.asleep"] = torch.zeros(shape, dtype=torch.bool)
        block.kept["fedbuff.statistics"] = torch.zeros(*shape, statistics)

    def due(self, node: Block, t: int) -> tuple[float, int]:
        """A server's next step begins with the end of its last."""
        return float(node.state["modelled_time"][0]), 0

    def opening(self, block: Block, t: int) -> Iterator[tuple[int, Put]]:
        """Clients whose batteries do not last another round tell the server so."""
        if block.awake is None:
            return
        told = block.facts.setdefault("fedbuff.told", set())
        for k in np.flatnonzero(~block.awake & (block.ids < block.clients)).tolist():
            if k not in told:
                told.add(k)
                yield k, Put(np.array([block.clients]), ASLEEP, at_once=True)

    def may_say(self, clients: int, sender: int, receiver: int, kind: str) -> bool:
        """The server alone tells clients what to do, and nobody else gets their updates."""
        down = kind in (MODEL, f"{MODEL}+", DUE, VOID)
        return kind in self.kinds and down == (sender >= clients) == (receiver < clients)

    def wake(self, node: Block, t: int) -> Script:
        """The server's step: clients start until updates enough to fill the buffer are there."""
        ends, version, outcome = (
            node.kept[f"fedbuff.{name}"][0].numpy() for name in ("end", "version", "outcome")
        )
        time = node.state["modelled_time"]
        began = float(time[0])
        # Nobody trains from one and the same model twice, nor again while its update waits.
        barred = node.kept["fedbuff.asleep"][0].numpy() | ~node.presence.at(t)[: node.clients]
        plans: list[Plan] = []
        due: list[int] = []
        age: list[int] = []
        void: list[int] = []
        while len(due) < self.buffer:
            idle = np.flatnonzero(np.isinf(ends) & ~barred)
            wanted = min(self.concurrency - int(np.isfinite(ends).sum()), len(idle))
            if wanted:
                plan = self._invite(node, t, 0, idle, wanted, len(plans))
                ends[plan.client], version[plan.client] = plan.end, t
                outcome[plan.client], barred[plan.client] = plan.outcome, True
                plans.append(plan)
                now = float(time[0])
                time[0] = began  # it sends the model when it has it, before anybody starts
                yield from self._start(node, plan)
                time[0] = now
            if np.isinf(ends).all():
                raise RunError(
                    f"the buffer holds {len(due)} of {self.buffer} updates and no client "
                    "is left that could start; lower algorithm.buffer",
                    phase="round",
                )
            first = int((yield Take(DONE_WORD, count=1)).letters[0].sender)
            if np.isinf(ends[first]):
                continue  # it was not asked to do anything
            time[0] = max(float(time[0]), float(ends[first]))
            ends[first], barred[first] = math.inf, True
            late = t - int(version[first])
            if outcome[first] == DONE and (
                self.max_staleness is None or late <= self.max_staleness
            ):
                due.append(first)
                age.append(late)
            else:
                void.append(first)
        time[0] = began
        node.facts[PLANS] = Plan.of(Plan.merged(plans))
        yield Put(np.array(void, dtype=np.int64), VOID, at_once=True)
        yield from self._step(node, np.array(due), np.array(age))

    def hear(self, node: Block, t: int, letter: Letter) -> Script:
        """What the server hears of those asleep, and clients of the server."""
        who, pending = np.array([letter.sender]), self.shelf(node, PENDING)
        if letter.kind == MODEL:
            yield from self._work_on(node, letter)
            return
        yield Take(letter.kind, senders=who)
        if letter.kind == ASLEEP:
            node.kept["fedbuff.asleep"][0, letter.sender] = True
        elif letter.kind == VOID:
            pending.drop(node.ids)
        else:
            sent, aside = self.sent(node), self.aside(node)
            kept = pending.take(node.ids, sent + aside).to(node.rows.device)
            pending.drop(node.ids)
            rest = [kept[:, sent:]] if aside else []
            yield from self._put(who, UPDATE, self.codec, kept[:, :sent], rest)

    def closing(self, block: Block, t: int) -> None:
        if PLANS in block.facts:
            self.log(block, block.facts.pop(PLANS))

    def _start(self, node: Block, plan: Plan) -> Script:
        """Clients get the model, and what is in store for them."""
        started = node.kept["fedbuff.statistics"]
        started[:, plan.client] = self._statistics(node)[:, None].to(started.device)
        rows = [getattr(plan, each.name) for each in fields(plan)]
        notes = np.stack([np.asarray(row, dtype=np.float64) for row in rows], axis=1)
        model, with_it = node.rows[:, : self.sent(node)], list(self.told(node).values())
        yield from self._put(plan.client, MODEL, self.download, model, with_it, notes)

    def _work_on(self, node: Block, letter: Letter) -> Script:
        """A client trains; its update waits until it is asked for."""
        node.awake = None  # it was when it was invited
        plan, time = _plan_of(letter.note), node.state["modelled_time"]
        time.clamp_(min=float(plan.start[0]))
        server, aside = np.array([letter.sender]), self._told_with(node)
        mail = yield from self._taken(MODEL, self.download, server, aside, self.sent(node))
        # It was sent the model when it started, not when the server got it.
        time.clamp_(min=float(plan.heard[0]))
        end = float(plan.end[0])
        if plan.outcome[0] != DONE:
            charge(node, np.zeros(1, dtype=np.int64), worked(node, plan), plan.end)
            yield Put(server, DONE_WORD, due=end)
            return
        who = np.zeros(1, dtype=np.int64)
        flight = self.launch(node, self.heard(node, who, mail, plan, letter.round))

        def trained() -> bool:
            return all(done.done() for done in flight.done)

        yield Put(server, DONE_WORD, due=end, after=trained)
        yield Until(trained)
        updates, rest = self.land(node, flight)
        self.shelf(node, PENDING).put(node.ids, torch.cat([updates, *rest], dim=1))

    def _step(self, node: Block, due: np.ndarray, age: np.ndarray) -> Script:
        """The server asks for the updates that are due, and takes its step."""
        yield Put(due, DUE, at_once=True)
        who, aside, sent = np.sort(due), self.aside(node), self.sent(node)
        mail = yield from self._taken(UPDATE, self.codec, who, aside, sent)
        weight, discount = np.zeros(node.clients), np.zeros(node.clients)
        weight[due], discount[due] = 1 / self.buffer, 1 / np.sqrt(1 + age)
        sums = Sums.start(node, self.aggregator, sent)
        self.gather(node, 0, mail, weight, sums, discount)
        sums.settle(0)
        now = self._statistics(node)
        before = node.kept["fedbuff.statistics"][0, who].to(now.device)
        others = sums.rest[0]
        others[len(others) - now.shape[1] :] += (before - now).mean(0)
        self.move(node, 0, sums)
        node.report["staleness"] = np.array([float(age.mean())])

    def _put(
        self,
        to: np.ndarray,
        kind: str,
        codec: Codec,
        row: torch.Tensor,
        aside: list[torch.Tensor],
        notes: np.ndarray | None = None,
    ) -> Script:
        """A row [1, K] and what goes with it, as :func:`hansa.learn.federated.mail.post` does."""
        beside = sum(part.shape[1] for part in aside)
        exact = is_exact(codec)
        if exact and aside:
            row = torch.cat([row, *aside], dim=1)
        own = beside if exact else 0
        yield Put(to, kind, row, codec, own, notes, at_once=True)
        if aside and not exact:
            rest = torch.cat(aside, dim=1)
            yield Put(to, f"{kind}+", rest, Dense(), beside, at_once=True)

    def _taken(
        self, kind: str, codec: Codec, senders: np.ndarray, aside: int, size: int
    ) -> Generator[Take, Any, Mail]:
        """What :meth:`_put` has sent."""
        exact = is_exact(codec)
        inbox = yield Take(kind, codec, senders, elements=size + aside * exact)
        if not aside or exact:
            return Mail(inbox, inbox if aside else None, None, size)
        rest = yield Take(f"{kind}+", Dense(), senders, elements=aside)
        return Mail(inbox, rest, None, size)

    def _told_with(self, node: Block) -> int:
        """How many numbers come with a model."""
        return sum(rows.shape[1] for rows in self.told(node).values())

    def _invite(
        self, block: Block, t: int, at: int, idle: np.ndarray, wanted: int, turn: int
    ) -> Plan:
        """Clients that start now, as far as they are available."""
        available, stays = wait_for_clients(block, at, idle)
        count = min(wanted, len(available))
        server = int(block.ids[at])
        random = block.streams.numpy(f"sampling {turn}", server, t)
        chosen = available
        if count < len(available):
            pool = Pool(available, block.sizes[available], stays)
            chosen = np.sort(self.sampler.choose(pool, count, random))
        down, up = self.down_bytes(block, 0), self.up_bytes(block, 0)
        terms = Terms(count, math.inf, self.failure, down, up, False, f"failure {turn}")
        now = float(block.state["modelled_time"][at])
        return invite(block, t, server, now, chosen, terms)

    def _statistics(self, block: Block) -> torch.Tensor:
        """The statistics of normalization layers that travel, a view [r, S] of the models."""
        layout, sent = block.trainer.layout, self.sent(block)
        return block.rows[:, layout.size - layout.statistics : sent]


def _plan_of(note: tuple[float, ...]) -> Plan:
    """One client's invitation, as :meth:`FedBuff._start` has it."""
    named = zip(fields(Plan), note, strict=True)
    return Plan(**{f.name: np.array([x if f.name in REALS else int(x)]) for f, x in named})
