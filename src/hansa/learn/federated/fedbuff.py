"""FedBuff: nobody waits for the slow (Nguyen et al., 2022).

So many clients train at any time. As soon as one is done another starts, from whatever the model
is then; the server keeps the updates in a buffer and takes a step when it is full. An update
that started from the model of tau steps ago counts 1 / sqrt(1 + tau) of its share.

A round is one step of the server, at the modelled time at which its buffer fills. When everything
happens follows from devices and links, so that it is known before anybody trains; a client trains
in the round in which it starts and its update waits until it is due.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, RunError
from hansa.base.lazy import torch
from hansa.engine import Block, Network, Script, Share
from hansa.ensemble.aggregators import Mean
from hansa.learn.federated.client_server import ClientServer
from hansa.learn.federated.invitation import DONE, Plan, Terms, charge, invite, wait_for_clients
from hansa.learn.federated.mail import post
from hansa.learn.federated.samplers import Pool
from hansa.learn.federated.sums import Sums
from hansa.topology import Graph

PENDING = "pending"


@register("fedbuff", paper="Nguyen et al.", year=2022, url="https://arxiv.org/abs/2106.06639")
class FedBuff(ClientServer):
    """Asynchronous federated learning with a buffer of updates."""

    usual: ClassVar[dict[str, Any]] = {"algorithm": {"concurrency": 8, "buffer": 4}}
    concurrency: int = Field(20, ge=1, description="clients that train at any time")
    buffer: int = Field(10, ge=1, description="updates that make a step of the server")
    max_staleness: int | None = Field(
        None, ge=0, description="an older update is thrown away; none = every one counts"
    )

    @property
    def needs_time(self) -> bool:
        return True

    def check(self, network: Network) -> None:
        if self.concurrency > network.clients:
            problem = f"there are only {network.clients} clients"
            raise ConfigError("concurrency", self.concurrency, problem, f"1 to {network.clients}")
        # Those at work when a round begins and those that start in it: nobody counts twice.
        if self.buffer > network.clients:
            problem = f"more than the {network.clients} clients, none of whom counts twice in it"
            raise ConfigError("buffer", self.buffer, problem, f"1 to {network.clients}")
        self.check_enough(self.buffer)
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
        block.kept["fedbuff.statistics"] = torch.zeros(*shape, statistics)

    def round(self, block: Block, t: int) -> Script:
        asleep = yield from self.asleep(block)
        server = len(block.residents) > 0
        began = float(block.state["modelled_time"][block.residents[0]]) if server else 0.0
        schedule = self._schedule(block, t, asleep) if server else Arrivals([], [], [], [])
        scheduled = yield Share(schedule.arrays())
        due, age, void = (scheduled.pop(name) for name in ("due", "age", "void"))
        plan = Plan.of(scheduled)
        self.log(block, plan)
        if server:  # it sends the model when it has it, which is before anybody starts
            block.state["modelled_time"][block.residents[0]] = began
        yield from self._begin(block, t, plan)
        self.shelf(block, PENDING).drop(void)
        yield from self._end(block, due, age)

    def _schedule(self, block: Block, t: int, asleep: np.ndarray) -> Arrivals:
        """Who starts until the buffer is full, and whose updates fill it."""
        at = int(block.residents[0])
        ends, version, outcome = (
            block.kept[f"fedbuff.{name}"][0].numpy() for name in ("end", "version", "outcome")
        )
        # Nobody trains from one and the same model twice, nor again while its update waits.
        barred = np.zeros(block.clients, dtype=bool)
        barred[asleep] = True
        barred |= ~block.presence.at(t)[: block.clients]
        schedule = Arrivals([], [], [], [])
        while len(schedule.due) < self.buffer:
            idle = np.flatnonzero(np.isinf(ends) & ~barred)
            wanted = min(self.concurrency - int(np.isfinite(ends).sum()), len(idle))
            if wanted:
                plan = self._invite(block, t, at, idle, wanted, len(schedule.plans))
                ends[plan.client], version[plan.client] = plan.end, t
                outcome[plan.client], barred[plan.client] = plan.outcome, True
                schedule.plans.append(plan)
            if np.isinf(ends).all():
                raise RunError(
                    f"the buffer holds {len(schedule.due)} of {self.buffer} updates and no client "
                    "is left that could start; lower algorithm.buffer",
                    phase="round",
                )
            first = int(np.argmin(ends))
            time = block.state["modelled_time"]
            time[at] = max(float(time[at]), float(ends[first]))
            ends[first], barred[first] = math.inf, True
            age = t - int(version[first])
            late = self.max_staleness is not None and age > self.max_staleness
            if outcome[first] == DONE and not late:
                schedule.due.append(first)
                schedule.age.append(age)
            else:
                schedule.void.append(first)
        return schedule

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

    def _begin(self, block: Block, t: int, plan: Plan) -> Script:
        """Clients get the model and train; their updates wait."""
        here = plan.take(np.isin(plan.client, block.ids))
        who, counts = block.positions(here.client), here.outcome == DONE
        time = block.state["modelled_time"]
        time[who] = torch.maximum(time[who], torch.from_numpy(here.start))
        down, model = plan.graph(block.nodes), block.rows[:, : self.sent(block)]
        with_it = list(self.told(block).values())
        if len(block.residents):
            started = block.kept["fedbuff.statistics"]
            started[:, plan.client] = self._statistics(block)[:, None].to(started.device)
        mail = yield from post(down, self.download, "model", block.residents, model, with_it)
        # Each was sent the model when it started, not when the server got it.
        time[who] = torch.maximum(time[who], torch.from_numpy(here.heard))
        charge(block, here.take(~counts), who[~counts])
        who = who[counts]
        updates, aside = self.train(block, self.heard(block, who, mail, here.take(counts), t))
        self.shelf(block, PENDING).put(block.ids[who], torch.cat([updates, *aside], dim=1))

    def _end(self, block: Block, due: np.ndarray, age: np.ndarray) -> Script:
        """The updates that are due arrive, and the server takes its step."""
        server, pending = block.clients, self.shelf(block, PENDING)
        who = block.positions(np.sort(due))
        sent, aside = self.sent(block), self.aside(block)
        kept = pending.take(block.ids[who], sent + aside).to(block.rows.device)
        updates, rest = kept[:, :sent], [kept[:, sent:]] if aside else []
        pending.drop(block.ids[who])
        graph = Graph.from_edges(block.nodes, due, np.full(len(due), server))
        mail = yield from post(graph, self.codec, "update", who, updates, rest)
        if not len(block.residents):
            return
        at = int(block.residents[0])
        weight, discount = np.zeros(block.clients), np.zeros(block.clients)
        weight[due], discount[due] = 1 / self.buffer, 1 / np.sqrt(1 + age)
        sums = Sums.start(block, self.aggregator, sent)
        self.gather(block, 0, mail, weight, sums, discount)
        sums.settle(0)
        now = self._statistics(block)
        before = block.kept["fedbuff.statistics"][0, np.sort(due)].to(now.device)
        others = sums.rest[0]
        others[len(others) - now.shape[1] :] += (before - now).mean(0)
        self.move(block, 0, sums)
        block.report["staleness"] = np.full(len(block), np.nan)
        block.report["staleness"][at] = float(age.mean())

    def _statistics(self, block: Block) -> torch.Tensor:
        """The statistics of normalization layers that travel, a view [r, S] of the models."""
        layout, sent = block.trainer.layout, self.sent(block)
        return block.rows[:, layout.size - layout.statistics : sent]


@dataclass
class Arrivals:
    """What happens until a server's buffer is full.

    Attributes:
        plans: who starts, in the order of time.
        due, age: whose updates count, and by how many steps of the server each is late.
        void: whose work was in vain.
    """

    plans: list[Plan]
    due: list[int]
    age: list[int]
    void: list[int]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, for the other blocks."""
        lists = {"due": self.due, "age": self.age, "void": self.void}
        integers = {name: np.array(values, dtype=np.int64) for name, values in lists.items()}
        return {**Plan.merged(self.plans), **integers}
