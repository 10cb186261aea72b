"""Federated learning in rounds: what FedAvg and its synchronous kin have in common.

A server invites some of its clients, all who count train from the same model, and the round ends
when their updates are in, or at the deadline. Several servers, each with clients of its own, run
side by side on one clock (cohorts).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError, RunError
from hansa.base.lazy import torch
from hansa.engine import Block, Ending, Network, Outcome, Script, Tell
from hansa.learn.federated import counters, protecting, selecting
from hansa.learn.federated.client_server import ClientServer
from hansa.learn.federated.client_work import Work
from hansa.learn.federated.invitation import (
    ABSENT,
    DONE,
    LOST,
    OUTCOMES,
    Invitations,
    Plan,
    Terms,
    charge,
    fastest,
    invite,
    wait_for_clients,
    worked,
)
from hansa.learn.federated.plateau import Plateau
from hansa.learn.federated.samplers import Pool
from hansa.learn.federated.sums import Sums
from hansa.learn.federated.waves import Stream, Waves
from hansa.privacy.central import CentralPrivacy
from hansa.topology import Graph

if TYPE_CHECKING:
    from torch import Tensor

STOPPED = "federated.stopped"
"""In ``block.kept``: which servers have ended by their own rule, bool [r]."""
OVER = "the clients' validation loss no longer falls"
"""Why a run ends early."""
_LOSS = "local_validation_loss"
_BATCH = 512


class Federated(ClientServer):
    """The base of the methods with rounds (see the module's text).

    Messages may get lost: a client that has not got invitation and model does nothing, and the
    weights of the updates that come make up for those that do not.
    """

    tolerates_loss: ClassVar[bool] = True

    sampled: int | None = Field(
        None, ge=1, description="clients whose updates a server wants each round; none = all"
    )
    over_selection: float = Field(
        1.0, ge=1, description="clients invited for each one wanted; the fastest count"
    )
    deadline: float | None = Field(
        None, gt=0, description="modelled seconds after which a round waits for nobody"
    )
    min_updates: int = Field(1, ge=1, description="updates without which a round has failed")
    on_failed_round: Literal["stop", "skip"] = Field(
        "stop", description="what too few updates lead to: the end, or the old model again"
    )
    weighting: Literal["examples", "uniform"] = Field(
        "examples", description="weight of an update: the client's number of examples, or 1"
    )
    global_momentum: float = Field(
        0.0,
        ge=0,
        description="share of the server's last step, per local step, from which the momentum of "
        "the clients' optimizer starts (0 = from nothing); costs a second download",
    )
    stop: Plateau | None = Field(
        None,
        description="early stopping on the clients' validation loss (evaluate.local_validation)",
    )
    select: Literal["last", "best"] = Field(
        "last", description="the model at the end: the last, or the best by validation loss"
    )

    def unprotected(self, way: str) -> str:
        if self.validates and way != "local":
            return "has clients report losses of examples that they hold back, without noise"
        if way != "central":
            return super().unprotected(way)
        if self.global_momentum and self.sampler.independent:
            return "divides its step by the local steps of those who were drawn, a secret"
        uniform = self.weighting == "uniform" and type(self).parts is ClientServer.parts
        return protecting.unprotected(
            self.aggregator, uniform, bool(self.answer_names or self.figures)
        )

    @property
    def needs_time(self) -> bool:
        return self.deadline is not None or self.over_selection > 1

    def working(self, clients: int) -> float:
        if self.sampled is None:
            return float(clients)
        invited = math.ceil(self.sampled * self.over_selection)
        return float(min(clients, self.servers(clients) * invited))

    @property
    def validates(self) -> bool:
        """Whether clients report the validation loss of the model that they got."""
        return self.stop is not None or self.select == "best"

    @property
    def needed(self) -> int:
        """Updates without which a round has failed."""
        return max(self.min_updates, self.aggregator.least)

    def check(self, network: Network) -> None:
        clients = network.clients
        if self.sampled is not None and self.sampled > clients:
            fix = f"1 to {clients}, or leave it out for all of them"
            raise ConfigError("sampled", self.sampled, f"there are only {clients} clients", fix)
        wanted = self.sampled or clients
        if self.min_updates > wanted:
            problem = f"only {wanted} updates are asked for in a round"
            raise ConfigError("min_updates", self.min_updates, problem, f"1 to {wanted}")
        self.check_enough(wanted)
        if self.sampler.independent and self.over_selection > 1:
            problem = "cuts off the slowest, and so clients are not drawn each by itself"
            fix = "1, or sampler: uniform"
            raise ConfigError("over_selection", self.over_selection, problem, fix)
        super().check(network)  # tries codecs with torch, which takes long to import

    def start(self, block: Block) -> None:
        super().start(block)
        members = self.members(block)
        if self.validates:
            selecting.begin(block, members, self._rule, "stop" if self.stop else "select")
        for count in self.clients_each(block).tolist():
            if count:
                self.check_enough(count)
        for row, at in enumerate(block.residents.tolist()):
            if (members == block.ids[at]).any():
                protecting.account(block, row, *self._odds(block, at))
        r, size = len(block.residents), block.trainer.layout.trainable
        block.kept[STOPPED] = torch.zeros(r, dtype=torch.bool)
        if self.global_momentum:
            block.kept["federated.direction"] = torch.zeros(r, size, device=block.rows.device)

    def check_block(self, block: Block) -> None:
        """Enough clients of a server can be in time, if they are there and nothing fails."""
        if self.deadline is None or block.clock is None:
            return
        members = self.members(block)
        for row, server in enumerate(block.ids[block.residents].tolist()):
            clients = np.flatnonzero(members == server)
            if not len(clients):
                continue
            terms = self.terms(block, row, clients, len(clients))
            needed, wanted = fastest(block, clients, terms), min(self.min_updates, len(clients))
            if (needed <= self.deadline * (1 + 1e-9)).sum() < wanted:
                least = float(np.sort(needed)[wanted - 1])
                few = f"fewer than {wanted}" if wanted > 1 else "none"
                problem = f"{few} of the clients of server {server} can ever be in time"
                fix = f"more than {least:.3g} (seconds of the clock), or fewer min_updates"
                raise ConfigError("deadline", self.deadline, problem, fix)

    @property
    def _rule(self) -> Plateau:
        return self.stop or Plateau(window=1, patience=1 << 30, strict=True)

    @property
    def figures(self) -> tuple[str, ...]:
        return (_LOSS,) if self.validates else ()

    def measure(self, work: Work) -> list[np.ndarray]:
        return [self._losses(work)] if self.validates else []

    def _losses(self, work: Work) -> np.ndarray:
        """Loss of the model that each client got on what it holds back, [k]; NaN if nothing."""
        crew, rows, which = work.crew, work.table, work.which
        integers = crew.integers(np.arange(len(crew)))
        if rows.shape[1] < crew.rows.shape[1]:  # each with statistics of its own
            own = crew.rows[:, rows.shape[1] :]
            rows, which = torch.cat([rows[which], own], dim=1), np.arange(len(which))
        elif integers:  # one of the clients that got a model says what was counted for it
            used, first, which = np.unique(which, return_index=True, return_inverse=True)
            counted = work.heard(counters.NAME) if self.counted(crew) else crew.rows[:, :0]
            integers = crew.integers(first)
            integers |= counters.as_state(crew, counted[torch.from_numpy(first)])
            rows = rows[torch.from_numpy(used)]
        return crew.trainer.losses(rows, which, crew.held, _BATCH, integers)

    def tells(self, block: Block) -> dict[str, Tensor]:
        if not self.global_momentum:
            return {}
        return {"direction": block.kept["federated.direction"]}

    def prepare(self, work: Work) -> None:
        if self.global_momentum:
            start = self.global_momentum * work.heard("direction")
            work.crew.state["optimizer.momentum"] = start

    # -- a round

    def round(self, block: Block, t: int) -> Script:
        yield from self.serve(block, t)
        if self.stop is not None and (yield from self._is_over(block)):
            return OVER
        return None

    def serve(self, block: Block, t: int) -> Script:
        """The servers' round with their clients."""
        asleep = yield from self.asleep(block)
        waves = Waves.of(self, block)
        plan = self._plans(block, t, asleep, waves)
        told = yield self._invitations(block, plan)
        reached = np.ones(block.clients, dtype=bool)
        reached[plan.client[told.lost]] = False
        invited = Invitations(told.senders, block.ids[told.receivers], **told.values)
        sums = Sums.start(block, self.aggregator, self.sent(block), self.answer_names)
        yield from Stream(self, block, t, plan, invited, reached, sums).run(waves)
        yield from self._release(block, plan, reached)
        plan = plan.after_losses(reached, sums.heard)
        self.log(block, plan)
        for row in self.serving(block, t):
            mine = plan.take(plan.server == block.ids[block.residents[row]])
            sums.settle(int(row), short=bool((mine.outcome == LOST).any()))
            self.step(block, t, plan, int(row), sums)

    def serving(self, block: Block, t: int) -> np.ndarray:
        """int64: which of the block's servers have a round t with their clients."""
        return np.flatnonzero(~block.kept[STOPPED].numpy())

    def clients_of(self, block: Block, t: int, server: int) -> np.ndarray:
        """int64, ascending: ids of the clients that a server has in round t."""
        return np.flatnonzero(self.members(block) == server)

    def _invitations(self, block: Block, plan: Plan) -> Tell:
        """Each client that is invited learns so, and nothing of the others."""
        default = {"steps": 0, "turn": -1, "after": -1}
        values = {name: getattr(plan, name) for name in default}
        star = self.star(block)
        words = star, plan.server, plan.client, values, default, "invite"
        return Tell(*words, on_missing="skip", brief=True)

    def _release(self, block: Block, plan: Plan, reached: np.ndarray) -> Generator[Tell, Any, None]:
        """Clients whose updates are not wanted are told when to give up, and charged so far."""
        if block.clock is None or not block.clock.modelled:
            return
        lost = plan.take((plan.outcome != DONE) & reached[plan.client])
        values = {"samples": worked(block, lost), "end": lost.end}
        default = dict.fromkeys(values, 0.0)
        star = self.star(block)
        told = yield Tell(star, lost.server, lost.client, values, default, "release", brief=True)
        charge(block, told.receivers, *(told.values[name] for name in values))

    def _is_over(self, block: Block) -> Generator[Tell, Any, bool]:
        """Whether all servers have ended by their own rule.

        Those that go on say so to the first of them, which tells everybody when none is left.
        """
        center, nodes = block.clients, block.nodes
        going = block.ids[block.residents[~block.kept[STOPPED].numpy()]]
        others = np.arange(center + 1, nodes)
        goes_on = center in going
        if len(others):
            speak = going[going != center]
            inwards = Graph.from_edges(nodes, others, np.full(len(others), center))
            heard = yield Tell(inwards, speak, np.full(len(speak), center), kind="going")
            goes_on = goes_on or bool(heard.came.any())
        return (yield from self.tell_over(block, not goes_on))

    def tell_over(self, block: Block, over: bool) -> Generator[Tell, Any, bool]:
        """Whether the first of the servers says that it is ``over``; it alone knows, all hear."""
        center, nodes = block.clients, block.nodes
        here = len(block.positions(np.array([center]))) > 0
        everyone = np.delete(np.arange(nodes), center)
        outwards = Graph.from_edges(nodes, np.full(len(everyone), center), everyone)
        hearers = everyone if here and over else everyone[:0]
        ended = yield Tell(outwards, np.full(len(hearers), center), hearers, kind="over")
        return len(hearers) > 0 or bool(ended.came.any())

    def finish(self, block: Block, t: int) -> Ending:
        yield from ()
        if self.select == "last":
            return None
        return Outcome(block.ids[block.residents], self._selected(block, t), "best")

    def learns(self, block: Block, server: int) -> bool:
        """Whether clients judge the model of a server."""
        return bool((self.members(block) == server).any())

    @property
    def judged_every(self) -> int:
        """How many rounds pass from one model that clients judge to the next."""
        return 1

    def adopt(self, block: Block, rows: Tensor) -> None:
        super().adopt(block, rows)
        if selecting.BEST in block.kept:
            block.kept[selecting.BEST].copy_(rows)

    def _selected(self, block: Block, t: int) -> Tensor:
        return selecting.best_rows(block, t, self.learns, self._rule, self.judged_every)

    def _plans(self, block: Block, t: int, asleep: np.ndarray, waves: Waves) -> Plan:
        """What this block's servers plan, each for its clients that are awake and present."""
        plans = []
        for row in self.serving(block, t):
            available = self.clients_of(block, t, int(block.ids[block.residents[row]]))
            if len(asleep):
                available = np.setdiff1d(available, asleep, assume_unique=True)
            if block.presence.absences:
                available = available[block.presence.at(t)[available]]
            plan = self._plan(block, t, int(row), available)
            number = int(block.ids[block.residents[row]]) - block.clients
            plans.append(waves.planned(plan, number, self.part_of(block, plan.client)))
        return Plan.of(Plan.merged(plans))

    def _plan(self, block: Block, t: int, row: int, there: np.ndarray) -> Plan:
        """The invitations of one server to clients that are ``there``."""
        at = int(block.residents[row])
        server = int(block.ids[at])
        wanted = len(there) if self.sampled is None else min(self.sampled, len(there))
        there, stays = wait_for_clients(block, at, there)
        invited = min(len(there), math.ceil(wanted * self.over_selection))
        chosen = there
        if self.sampler.independent and self.sampled is not None:
            chosen = self._drawn(block, t, server, there)
            wanted = len(chosen)
        elif invited < len(there):
            random = block.streams.numpy("sampling", server, t)
            pool = Pool(there, block.sizes[there], stays)
            chosen = np.sort(self.sampler.choose(pool, invited, random))
        terms = self.terms(block, row, chosen, wanted)
        return invite(block, t, server, float(block.state["modelled_time"][at]), chosen, terms)

    def _drawn(self, block: Block, t: int, server: int, there: np.ndarray) -> np.ndarray:
        """Which of those ``there`` are in a round for which each of the server's clients is drawn
        by itself, in secret."""
        every = self.clients_of(block, t, server)
        random = block.streams.own.numpy("sampling", server, t)
        pool = Pool(every, block.sizes[every], np.full(len(every), np.inf))
        drawn = self.sampler.choose(pool, min(self.sampled or len(every), len(every)), random)
        return np.intersect1d(drawn, there)

    def terms(self, block: Block, row: int, chosen: np.ndarray, wanted: int) -> Terms:
        """What a server asks of the clients that it chose, of whom ``wanted`` count."""
        return Terms(
            count=wanted,
            deadline=math.inf if self.deadline is None else self.deadline,
            failure=self.failure,
            down_bytes=self.down_bytes(block, row),
            up_bytes=self.up_bytes(block, row),
            by_size=self.weighting == "examples",
        )

    def step(self, block: Block, t: int, plan: Plan, row: int, sums: Sums) -> None:
        """A server's step on what it got, and what it makes of the clients' losses."""
        at = int(block.residents[row])
        invited = plan.take(plan.server == block.ids[at])
        self._pass_time(block, at, invited, float(sums.latest[row]))
        done = invited.client[invited.outcome == DONE]
        mass = block.sizes if self.weighting == "examples" else np.ones(block.nodes)
        everyone = mass[: block.clients].sum(where=self.members(block) == block.ids[at])
        # Also of a failed round: its clients have changed their own state.
        self.absorb(block, row, sums, float(mass[done].sum() / everyone))
        protected = isinstance(block.privacy, CentralPrivacy)
        # Who was drawn is nobody's business: with nobody there, noise is all there is.
        if len(done) < self.needed and not (protected and self.sampler.independent):
            self._failed(block, t, at, invited, len(done))
            return
        before = block.rows[row].clone() if self.validates or self.global_momentum else None
        protecting.protect(block, row, sums, self._odds(block, at)[1], t)
        self.move(block, row, sums)
        if before is None:
            return
        if self.global_momentum:
            # The gradient that the local steps of a mean client would have followed.
            size = block.trainer.layout.trainable
            steps = float(invited.steps[invited.outcome == DONE].mean())
            moved = before[:size] - block.rows[row, :size]
            direction = moved / (block.trainer.learning_rate(t) * steps)
            block.kept["federated.direction"][row] = direction
        if self.validates:
            losses = np.concatenate([figures[_LOSS] for figures in sums.figures[row]])
            self.judge(block, t, row, before, losses)

    def _odds(self, block: Block, at: int) -> tuple[float, float]:
        """(chance of each client of the server at a position to be in a round by itself, or 1 where
        that is not how they are drawn; how many updates are expected)."""
        members = max(1, int((self.members(block) == block.ids[at]).sum()))
        expected = min(self.sampled or members, members)
        return expected / members if self.sampler.independent else 1.0, expected

    def _pass_time(self, block: Block, at: int, invited: Plan, latest: float) -> None:
        """Move a server's time to the end of the round; measure how the round went."""
        start = float(invited.start[0]) if len(invited) else latest
        ends = invited.end[invited.outcome == DONE]
        missing = invited.end[np.isin(invited.outcome, ABSENT)]
        end = max(latest, start, *ends)
        enough = self.sampled is not None and len(ends) >= self.sampled
        if len(missing) and not enough:
            # A server without a deadline learns of a failure when it happens.
            late = float(missing.max()) if self.deadline is None else start + self.deadline
            end = max(end, late)
        block.state["modelled_time"][at] = end
        for name, value in (
            ("invited", len(invited)),
            ("participants", len(ends)),
            ("round_time", end - start),
            ("idle_time", float((end - ends).sum())),
        ):
            block.note(name, at, value)

    def _failed(self, block: Block, t: int, at: int, invited: Plan, count: int) -> None:
        """Too few updates: say what became of the clients, and stop or go on."""
        fates = np.bincount(invited.outcome, minlength=len(OUTCOMES))
        outcomes = (
            ", ".join(f"{n} {OUTCOMES[k]}" for k, n in enumerate(fates) if n) or "none invited"
        )
        server = int(block.ids[at])
        if self.on_failed_round == "stop":
            own = self.needed == self.min_updates
            asks = "algorithm.min_updates is" if own else "algorithm.aggregator needs"
            fix = "Give them a longer deadline, invite more of them (sampled, over_selection)"
            if (invited.outcome == LOST).any():
                fix = "Have what is lost sent again (faults.on_missing: wait)"
            if not len(invited):
                there = block.presence.at(t)[self.clients_of(block, t, server)]
                fix = "Their batteries are empty: give them more (clock.battery_share)"
                if not there.any():
                    fix = "All are away in this round: leave some of them (faults.absent)"
            raise RunError(
                f"server {server} got {count} updates where {asks} {self.needed}; of its clients: "
                f"{outcomes}. {fix}, or go on with the old model: algorithm.on_failed_round: skip",
                phase="round",
            )
        block.events.append({"kind": "round_failed", "server": server, "clients": outcomes})

    def judge(self, block: Block, t: int, row: int, before: Tensor, losses: np.ndarray) -> None:
        """Take the losses of a server's clients for ``before``, the model that they got."""
        losses = losses[~np.isnan(losses)]
        if not len(losses):
            return  # nobody who could judge it was invited in this round
        at, loss = int(block.residents[row]), float(losses.mean())
        stalled = selecting.see(block, row, before, loss, self._rule)
        block.note(_LOSS, at, loss)
        if stalled and self.stop is not None:
            block.kept[STOPPED][row] = True
            if self.select == "best":
                block.rows[row] = block.kept[selecting.BEST][row]
            block.events.append({"kind": "stopped", "server": int(block.ids[at]), "loss": loss})
