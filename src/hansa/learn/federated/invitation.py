"""Who is invited to a federated round, and who of them sees it through.

All of it is decided before anybody trains: what a client's round takes follows from its device,
its link, its number of examples and the sizes of the messages, so that who is late, who leaves and
who is surplus is known by the modelled clock alone, and only work that counts is really done. The
rest is charged to its clients as far as they got: a client that is late or not needed any more is
told so and gives up at that moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from hansa.base.errors import RunError
from hansa.base.lazy import torch
from hansa.codec import Table, Tables
from hansa.engine import Block
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.topology import Graph

OUTCOMES = ("done", "late", "left", "failed", "surplus", "idle", "lost")
"""What becomes of an invited client: its update counts; it missed the deadline; it became
unavailable; it failed; enough others were faster; it had no budget for a single step; a message to
it or its update was lost."""
DONE, LATE, LEFT, FAILED, SURPLUS, IDLE, LOST = range(7)
ABSENT = (LATE, LEFT, FAILED, LOST)
REALS = ("start", "heard", "trained", "end", "weight")
"""Columns of a plan that are no whole numbers."""


@dataclass(frozen=True)
class Invitations:
    """What clients are told of a round, by ascending client; int64 arrays [k].

    Attributes:
        server: id of the server that invites.
        client: id of the client.
        steps: local steps that it is to take; 0: it gets the model and its update is not wanted.
        turn: the wave of updates in which its own goes.
        after: the wave that has to be in before it begins; -1: none.
    """

    server: np.ndarray
    client: np.ndarray
    steps: np.ndarray
    turn: np.ndarray
    after: np.ndarray

    def __len__(self) -> int:
        return len(self.client)

    def take(self, which: np.ndarray) -> Self:
        """Some of the invitations: a mask or positions."""
        return type(self)(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def graph(self, nodes: int) -> Graph:
        """Servers to their clients."""
        return Graph.from_edges(nodes, self.server, self.client)


@dataclass(frozen=True)
class Plan(Invitations):
    """A round as its servers plan it; arrays [k].

    Attributes:
        samples: training examples that the client can afford.
        start, heard, trained, end: modelled time at which it is invited, has the model, has
            trained, and is done or gives up.
        outcome: index into :data:`OUTCOMES`.
        weight: its share in its server's average; 0 if its update does not count.
    """

    samples: np.ndarray
    start: np.ndarray
    heard: np.ndarray
    trained: np.ndarray
    end: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Plan:
        """From the arrays of several servers' plans, end to end."""
        order = np.argsort(arrays["client"], kind="stable")
        return cls(**{f.name: arrays[f.name][order] for f in fields(cls)})

    @classmethod
    def merged(cls, plans: list[Plan]) -> dict[str, np.ndarray]:
        """The arrays of several servers' plans, end to end."""
        return {
            f.name: np.concatenate(
                [np.zeros(0, np.float64 if f.name in REALS else np.int64)]
                + [getattr(plan, f.name) for plan in plans]
            )
            for f in fields(cls)
        }

    def in_waves(self, size: int, parts: np.ndarray, span: int, ahead: int) -> Plan:
        """The plan of one server, with the turns of its clients' updates.

        Args:
            size: clients of a wave.
            parts: int64 [k], clients of different parts go in different waves: those of part p have
                the turns from p ``span`` on.
            ahead: waves that are on their way at a time.
        """
        turn, after = np.zeros(len(self), dtype=np.int64), np.full(len(self), -1)
        for part in np.unique(parts).tolist():
            those = np.flatnonzero((parts == part) & (self.outcome == DONE))
            wave = np.arange(len(those)) // size
            turn[parts == part] = part * span
            turn[those] += wave
            after[those] = np.where(wave < ahead, -1, turn[those] - ahead)
        return replace(self, turn=turn, after=after)

    def after_losses(self, reached: np.ndarray, came: np.ndarray) -> Plan:
        """What became of the plan where messages were lost; the weights of the others make up.

        Args:
            reached: bool [clients of the run], who has got invitation and model.
            came: bool [clients of the run], whose update is in.
        """
        unheard = ~reached[self.client]
        lost = unheard | ((self.outcome == DONE) & ~came[self.client])
        if not lost.any():
            return self
        weight = np.where(lost, 0.0, self.weight)
        for server in np.unique(self.server[lost]):
            those = self.server == server
            weight[those] /= weight[those].sum() or 1.0
        return replace(
            self,
            heard=np.where(unheard, self.start, self.heard),
            trained=np.where(unheard, self.start, self.trained),
            outcome=np.where(lost, LOST, self.outcome),
            weight=weight,
        )


@dataclass(frozen=True)
class Terms:
    """What a server asks of a round.

    Attributes:
        count: updates that it wants; of more, the first count.
        deadline: modelled seconds after which it waits for nobody.
        failure: chance that a client fails on the way.
        down_bytes, up_bytes: what a client gets and sends, one number or [k].
        by_size: weigh updates by the clients' numbers of examples, not alike.
        failures: names the stream that decides who fails.
        effort: an example's compute in a client's model as a share of that in the whole one, [k]
            (see ``Block.effort``).
    """

    count: int
    deadline: float
    failure: float
    down_bytes: int | np.ndarray
    up_bytes: int | np.ndarray
    by_size: bool
    failures: str = "failure"
    effort: float | np.ndarray = 1.0


def invite(block: Block, t: int, server: int, now: float, chosen: np.ndarray, terms: Terms) -> Plan:
    """The plan of one server for the clients that it chose (ascending ids), at modelled time
    ``now``."""
    clock = block.clock
    k, sizes = len(chosen), block.sizes[chosen]
    pace = None if clock is None else clock.pace(block, chosen) * terms.effort
    steps, samples = block.trainer.planned(chosen, sizes, block.streams, t, pace)
    start = np.full(k, now)
    if clock is None or pace is None or not clock.modelled:
        heard = trained = end = start
        leaves = np.full(k, np.inf)
    else:
        down, work, up = _durations(block, chosen, terms, samples, pace)
        heard = start + down
        trained = heard + work
        end = trained + up
        leaves = block.presence.leaves(block, chosen, now)
    outcome = np.full(k, DONE)
    random = block.streams.numpy(terms.failures, server, t)
    fails, when = random.random(k) < terms.failure, random.random(k)
    fails_at = np.where(fails, start + when * (end - start), np.inf)
    cutoff = now + terms.deadline
    outcome[end > cutoff] = LATE
    gives_up = np.minimum(end, cutoff)
    for code, moment in ((LEFT, leaves), (FAILED, fails_at)):
        outcome[moment < gives_up] = code
        gives_up = np.minimum(gives_up, moment)
    outcome[fails & (fails_at <= gives_up)] = FAILED  # also where time stands still
    outcome[steps == 0] = IDLE
    gives_up[steps == 0] = start[steps == 0]
    makes_it = np.flatnonzero(outcome == DONE)
    if 0 < terms.count <= len(makes_it):
        order = makes_it[np.lexsort((chosen[makes_it], end[makes_it]))]
        closes = end[order[terms.count - 1]]
        surplus = order[terms.count :]
        outcome[surplus] = SURPLUS
        gives_up[surplus] = closes
        gives_up = np.where(outcome == DONE, gives_up, np.minimum(gives_up, closes))
    done = outcome == DONE
    mass = block.sizes[chosen] if terms.by_size else np.ones(k)
    weight = np.where(done, mass, 0.0)
    return Plan(
        server=np.full(k, server),
        client=chosen,
        steps=np.where(done, steps, 0),
        turn=np.zeros(k, dtype=np.int64),
        after=np.full(k, -1),
        samples=samples,
        start=start,
        heard=np.minimum(heard, gives_up),
        trained=np.minimum(trained, gives_up),
        end=gives_up,
        outcome=outcome,
        weight=weight / weight.sum() if done.any() else weight,
    )


def invitation_bytes(steps: np.ndarray) -> np.ndarray:
    """Bytes [k] of the messages that invite clients to so many steps in the first wave."""
    nothing = np.zeros_like(steps)
    return Table().size(Tables.rows(steps=steps, turn=nothing, after=nothing - 1)) + HEADER_BYTES


def fastest(block: Block, clients: np.ndarray, terms: Terms) -> np.ndarray:
    """Modelled seconds [k] that clients need for a round, at least: with a budget, to be told of
    it and to answer."""
    clock = block.clock
    if clock is None or not clock.modelled:
        return np.zeros(len(clients))
    sizes, pace = block.sizes[clients], clock.pace(block, clients) * terms.effort
    samples = block.trainer.planned(clients, sizes, block.streams, 0, pace)[1]
    if (samples < block.trainer.asked_examples(sizes)).any():
        samples = np.zeros_like(samples)
    return sum(_durations(block, clients, terms, samples, pace), np.zeros(len(clients)))


def _durations(
    block: Block, clients: np.ndarray, terms: Terms, samples: np.ndarray, pace: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Modelled seconds [k] of the way down, of the work, and of the way up."""
    clock, k = block.clock, len(clients)
    assert clock is not None  # who asks has looked
    down = clock.down_seconds(block, clients, np.full(k, terms.down_bytes))
    return down, samples * pace, clock.up_seconds(block, clients, np.full(k, terms.up_bytes))


def worked(block: Block, plan: Plan) -> np.ndarray:
    """Training examples [k] that clients had done when they gave up, of those that are in vain."""
    clock = block.clock
    assert clock is not None  # where no time is modelled nobody gives up half-way
    pace, spent = clock.pace(block, plan.client), plan.trained - plan.heard
    samples = np.divide(spent, pace, out=np.zeros_like(spent), where=pace > 0)
    return np.minimum(samples, plan.samples)


def charge(block: Block, at: np.ndarray, samples: np.ndarray, end: np.ndarray) -> None:
    """Count what clients of the block whose update does not count had done when they gave up.

    Args:
        at: int64 [k], their positions.
        samples, end: what they had done, and when they gave up, s; [k].
    """
    if block.clock is None or not block.clock.modelled or not len(at):
        return
    whole = np.zeros(len(block))
    whole[at] = samples
    block.clock.compute(block, whole)
    block.state["modelled_time"][at] = torch.from_numpy(end)


def wait_for_clients(block: Block, at: int, clients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of a server's clients that are available, and for how many seconds each [k].

    Where nobody is, the server at position ``at`` waits for the first to come back.

    Raises:
        RunError: nobody ever does.
    """
    presence, time = block.presence, block.state["modelled_time"]
    if not presence.timed or not len(clients):
        return clients, np.full(len(clients), np.inf)
    now = float(time[at])
    stays = presence.stays(block, clients, now)
    while not (stays > 0).any():
        now = presence.next_return(block, clients, now)
        if math.isinf(now):
            server = int(block.ids[at])
            raise RunError(f"no client of server {server} ever becomes available again")
        time[at] = now
        stays = presence.stays(block, clients, now)
    there = stays > 0
    return (clients, stays) if there.all() else (clients[there], stays[there])
