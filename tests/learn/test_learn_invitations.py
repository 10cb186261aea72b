"""Who is invited to a federated round, and what becomes of each."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import find
from hansa.base.streams import Streams
from hansa.learn.federated.invitation import (
    DONE,
    FAILED,
    IDLE,
    LATE,
    LEFT,
    LOST,
    OUTCOMES,
    SURPLUS,
    Plan,
    Terms,
    invite,
)
from hansa.learn.federated.samplers import Pool

# -- invitations -----------------------------------------------------------------------------------


@dataclass
class Devices:
    """A clock whose devices are told."""

    down: np.ndarray
    seconds: np.ndarray
    up: np.ndarray
    gone: np.ndarray
    modelled: bool = True

    def down_seconds(self, block: Any, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        return self.down[ids]

    def up_seconds(self, block: Any, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        return self.up[ids]

    def pace(self, block: Any, ids: np.ndarray) -> np.ndarray:
        return self.seconds[ids]

    def leaves(self, block: Any, ids: np.ndarray, time: float) -> np.ndarray:
        return time + self.gone[ids]


@dataclass
class Crowd:
    """As much of a block as an invitation looks at."""

    clock: Devices
    sizes: np.ndarray
    steps: np.ndarray
    streams: Streams = field(default_factory=lambda: Streams(1))

    @property
    def trainer(self) -> "Crowd":
        return self

    @property
    def presence(self) -> Devices:
        return self.clock

    def planned(self, ids: np.ndarray, sizes: np.ndarray, *others: Any) -> Any:
        return self.steps[ids], self.steps[ids] * 2


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Crowd, Terms]:
    k = draw(st.integers(1, 8))
    moments = st.integers(0, 6).map(lambda n: n / 2)
    arrays = [np.array(draw(st.lists(moments, min_size=k, max_size=k))) for _ in range(3)]
    stays = st.sampled_from([0.5, 2.0, 5.0, np.inf])
    gone = np.array(draw(st.lists(stays, min_size=k, max_size=k)))
    sizes = np.array(draw(st.lists(st.integers(1, 9), min_size=k, max_size=k)))
    steps = np.array(draw(st.lists(st.integers(0, 3), min_size=k, max_size=k)))
    terms = Terms(
        count=draw(st.integers(1, k)),
        deadline=draw(st.sampled_from([2.0, 5.0, np.inf])),
        failure=draw(st.sampled_from([0.0, 0.5, 1.0])),
        down_bytes=1,
        up_bytes=1,
        by_size=draw(st.booleans()),
    )
    return Crowd(Devices(*arrays, gone), sizes, steps, Streams(draw(st.integers(0, 9)))), terms


@given(crowds())
def test_invitations_are_those_of_a_server_that_watches_each_client(
    given_: tuple[Crowd, Terms],
) -> None:
    """A loop over clients says what happens first to each, and the server counts arrivals."""
    crowd, terms = given_
    now, k = 10.0, len(crowd.sizes)
    plan = invite(crowd, 3, 99, now, np.arange(k), terms)  # type: ignore[arg-type]
    random = crowd.streams.numpy("failure", 99, 3)
    fails, moment = random.random(k) < terms.failure, random.random(k)
    clock, ends, fates = crowd.clock, [], []
    for i in range(k):
        heard = now + clock.down[i]
        end = heard + crowd.steps[i] * 2 * clock.seconds[i] + clock.up[i]
        if crowd.steps[i] == 0:
            ends.append(now)
            fates.append(IDLE)
            continue
        happens = [(end, 3, DONE)]
        if end > now + terms.deadline:
            happens = [(now + terms.deadline, 3, LATE)]
        happens.append((now + clock.gone[i], 4, LEFT))
        if fails[i]:
            happens.append((now + moment[i] * (end - now), 0, FAILED))
        first = min(happens)
        ends.append(first[0])
        fates.append(first[2])
    made_it = sorted((ends[i], i) for i in range(k) if fates[i] == DONE)
    if len(made_it) >= terms.count:
        closes = made_it[terms.count - 1][0]
        for _, i in made_it[terms.count :]:
            fates[i] = SURPLUS
        ends = [e if f == DONE else min(e, closes) for e, f in zip(ends, fates, strict=True)]
    assert [OUTCOMES[o] for o in plan.outcome] == [OUTCOMES[f] for f in fates]
    assert plan.end == pytest.approx(ends, abs=1e-12)
    done = np.flatnonzero(np.array(fates) == DONE)
    mass = crowd.sizes if terms.by_size else np.ones(k)
    weights = np.zeros(k)
    if len(done):
        weights[done] = mass[done] / mass[done].sum()
    assert plan.weight == pytest.approx(weights)
    assert (plan.steps == np.where(plan.outcome == DONE, crowd.steps, 0)).all()
    assert (plan.start <= plan.heard).all()
    assert (plan.heard <= plan.trained).all()
    assert (plan.trained <= plan.end).all()


def planned(crowd: Crowd, terms: Terms) -> Plan:
    """Two servers' plans for two halves of the clients."""
    k = len(crowd.sizes)
    parts = [
        invite(crowd, 0, server, 0.0, who, terms)  # type: ignore[arg-type]
        for server, who in ((50, np.arange(k // 2, k)), (51, np.arange(k // 2)))
    ]
    return Plan.of(Plan.merged(parts))


@given(crowds())
def test_plans_of_several_servers_are_by_client(given_: tuple[Crowd, Terms]) -> None:
    k = len(given_[0].sizes)
    merged = planned(*given_)
    assert merged.client.tolist() == list(range(k))
    assert merged.server.tolist() == [51] * (k // 2) + [50] * (k - k // 2)
    assert len(Plan.of(Plan.merged([]))) == 0


@given(crowds(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_turns_are_waves_of_those_that_count(
    given_: tuple[Crowd, Terms], size: int, ahead: int, kinds: int
) -> None:
    """By ascending client, none larger than asked, each part of a model in turns of its own."""
    crowd, terms = given_
    k = len(crowd.sizes)
    parts, span = np.arange(k) % kinds, k
    plan = invite(crowd, 0, 50, 0.0, np.arange(k), terms)  # type: ignore[arg-type]
    plan = plan.in_waves(size, parts, span, ahead)
    for part in range(kinds):
        turns = plan.turn[(parts == part) & (plan.outcome == DONE)]
        expected = part * span + np.arange(len(turns)) // size
        assert turns.tolist() == expected.tolist()
        after = plan.after[(parts == part) & (plan.outcome == DONE)]
        first = turns - part * span < ahead
        assert after.tolist() == np.where(first, -1, turns - ahead).tolist()
    assert (plan.after[plan.outcome != DONE] == -1).all()


@given(crowds(), st.data())
def test_the_weights_of_those_that_came_make_up_for_the_lost(
    given_: tuple[Crowd, Terms], data: st.DataObject
) -> None:
    crowd, terms = given_
    k = len(crowd.sizes)
    plan = planned(crowd, terms)
    bits = st.lists(st.booleans(), min_size=k, max_size=k).map(np.array)
    reached, came = data.draw(bits), data.draw(bits)
    after = plan.after_losses(reached, came)
    counts = (plan.outcome == DONE) & reached & came
    assert ((after.outcome == DONE) == counts).all()
    lost = ~reached | ((plan.outcome == DONE) & ~came)
    assert ((after.outcome == LOST) == lost).all()
    assert (after.outcome[~lost] == plan.outcome[~lost]).all()
    assert (after.weight[~counts] == 0).all()
    for server in (50, 51):
        those = counts & (plan.server == server)
        if those.any():
            share = plan.weight[those] / plan.weight[those].sum()
            assert after.weight[those] == pytest.approx(share)
    assert (after.trained[~reached] == plan.start[~reached]).all()


# -- samplers --------------------------------------------------------------------------------------


@given(
    name=st.sampled_from(["uniform", "size", "availability"]),
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=20),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_samplers_draw_without_replacement(
    name: str, sizes: list[int], seed: int, data: st.DataObject
) -> None:
    m = len(sizes)
    count = data.draw(st.integers(1, m))
    stays = np.array(data.draw(st.lists(st.sampled_from([1.0, 1e9]), min_size=m, max_size=m)))
    clients = np.arange(m) * 3 + 1
    random = np.random.default_rng(seed)
    chosen = find("sampler", name)().choose(Pool(clients, np.array(sizes), stays), count, random)
    assert len(chosen) == count == len(set(chosen.tolist()))
    assert set(chosen.tolist()) <= set(clients.tolist())
    if name == "availability":
        brief = [c for c in clients[stays < 600].tolist() if c in chosen.tolist()]
        assert len(brief) == max(0, count - int((stays >= 600).sum()))


def test_samplers_draw_as_often_as_they_say() -> None:
    sizes, clients, draws = np.array([10, 20, 30, 40]), np.arange(4), 4000
    stays = np.array([np.inf, np.inf, np.inf, 1.0])
    expected = {
        ("uniform", 1): [1 / 4] * 4,
        ("uniform", 2): [1 / 2] * 4,
        ("size", 1): [0.1, 0.2, 0.3, 0.4],
        # Of two: P(i first) + sum over j of P(j first) s_i / (1 - s_j).
        ("size", 2): [
            s + sum(r * s / (1 - r) for j, r in enumerate([0.1, 0.2, 0.3, 0.4]) if j != i)
            for i, s in enumerate([0.1, 0.2, 0.3, 0.4])
        ],
        ("availability", 1): [1 / 3, 1 / 3, 1 / 3, 0],
        ("availability", 4): [1] * 4,
    }
    for (name, count), chances in expected.items():
        random, hits = np.random.default_rng(5), np.zeros(4)
        sampler = find("sampler", name)()
        for _ in range(draws):
            hits[sampler.choose(Pool(clients, sizes, stays), count, random)] += 1
        spread = np.sqrt(np.array(chances) * (1 - np.array(chances)) / draws)
        assert (np.abs(hits / draws - chances) <= 4 * spread + 1e-12).all(), (name, count)
