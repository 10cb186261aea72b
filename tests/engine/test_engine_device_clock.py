"""One clock of devices: its table, held to a loop over nodes and messages, and what a run costs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine import Clock, DeviceClock, DevicesClock, Fleet, Job, ModelledClock, Phones
from hansa.engine.block import MODELLED

Make = Callable[..., Job]


class Told(DeviceClock):
    """A clock whose table is told."""

    fleet_: Fleet

    def deal(self, streams: Streams, clients: int, parameters: int) -> Fleet:
        return self.fleet_

    def fleet(self, block: Any) -> Fleet:
        return self.fleet_.with_servers(block.nodes - block.clients)


class Few(SimpleNamespace):
    """As much of a block as a clock looks at."""

    def __len__(self) -> int:
        return len(self.ids)


def few(clients: int, nodes: int) -> Any:
    state = {name: torch.zeros(nodes, dtype=torch.float64) for name in MODELLED}
    return Few(
        ids=np.arange(nodes), clients=clients, nodes=nodes, state=state, report={}, tables={}
    )


@st.composite
def exchanges(draw: st.DrawFn) -> Any:
    """(a fleet, servers, messages as pairs, bytes of each sender's message, examples)."""
    n, servers = draw(st.integers(2, 5)), draw(st.integers(0, 2))
    numbers = st.integers(1, 8).map(float)

    def column(values: st.SearchStrategy[float] = numbers) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)))

    late = st.sampled_from([0.0, 0.25, 0.5])
    fleet = Fleet(
        seconds=column(),
        watts=column(),
        up=column(),
        down=column(st.sampled_from([2.0, 4.0, np.inf])),
        leaving=column(late),
        coming=column(late),
        battery_wh=column(),
        server_leaving=draw(late),
    )
    total = n + servers
    pairs = sorted(
        draw(st.sets(st.tuples(st.integers(0, total - 1), st.integers(0, total - 1)), max_size=12))
    )
    pairs = [(r, s) for r, s in pairs if r != s]  # ordered by receiver
    sizes = draw(st.lists(st.integers(1, 9), min_size=total, max_size=total))
    samples = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) + [0] * servers
    return fleet, servers, pairs, sizes, samples


@given(exchanges(), st.sampled_from([(0.0, 0.0), (0.5, 0.25)]))
def test_a_round_is_that_of_a_loop_over_nodes_and_messages(
    case: Any, radio: tuple[float, float]
) -> None:
    fleet, servers, pairs, sizes, samples = case
    clients = len(fleet.seconds)
    n = clients + servers
    clock = Told(fleet_=fleet, send_joules_per_byte=radio[0], receive_joules_per_byte=radio[1])
    block = few(clients, n)
    clock.compute(block, np.array(samples))
    senders = np.array([s for _, s in pairs], dtype=np.int64)
    receivers = np.array([r for r, _ in pairs], dtype=np.int64)
    nbytes = np.array([sizes[s] for s in senders], dtype=np.int64)
    due = clock.transfer(block, senders, receivers, nbytes)
    heard = np.bincount(receivers, weights=nbytes, minlength=n)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(receivers, minlength=n))])
    clock.receive(block, heard, indptr, due)

    time, busy, joules = [0.0] * n, [0.0] * n, [0.0] * n
    for i in range(clients):
        time[i] = samples[i] * fleet.seconds[i]
        joules[i] = time[i] * fleet.watts[i]
    arrival = {}
    for i in range(n):
        mine = [pair for pair in pairs if pair[1] == i]
        load = sum(sizes[i] for _ in mine)
        if i < clients:
            out = time[i] + load / fleet.up[i] + fleet.leaving[i]
            if mine:
                busy[i] += load / fleet.up[i] + fleet.leaving[i]
            joules[i] += load * radio[0]
        else:
            out = time[i] + fleet.server_leaving
        arrival |= dict.fromkeys(mine, out)
    after = list(time)
    for i in range(n):
        mine = [pair for pair in pairs if pair[0] == i]
        load = sum(sizes[s] for _, s in mine)
        coming = fleet.coming[i] if i < clients else 0.0
        ready = max([time[i], *(arrival[pair] + coming for pair in mine)])
        own = load / fleet.down[i] if i < clients else 0.0
        after[i] = ready + own
        busy[i] += min(ready - time[i], coming) + own
        joules[i] += load * radio[1] if i < clients else 0.0
    np.testing.assert_allclose(block.state["modelled_time"], after, rtol=1e-12)
    np.testing.assert_allclose(block.state["transfer_time"], busy, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(block.state["energy"], joules, rtol=1e-12)
    np.testing.assert_array_equal(
        block.state["energy"], block.state["training_energy"] + block.state["radio_energy"]
    )


@given(exchanges())
def test_the_way_to_a_server_and_back_is_what_up_and_down_say(case: Any) -> None:
    """Messages of one client and one server take, on a clock at 0, exactly what was foretold."""
    fleet, _, _, sizes, _ = case
    clients, clock = len(fleet.seconds), Told(fleet_=fleet)
    load = np.array(sizes[:clients], dtype=np.int64)
    everyone = np.arange(clients)
    for i in everyone.tolist():
        one = np.array([i])
        block = few(clients, clients + 1)
        up = clock.transfer(block, one, np.array([clients]), load[one])
        assert up[0] == clock.up_seconds(block, everyone, load)[i]
        block = few(clients, clients + 1)
        due = clock.transfer(block, np.array([clients]), one, load[one])
        indptr = np.concatenate([np.zeros(i + 1), np.ones(clients + 1 - i)]).astype(np.int64)
        heard = np.zeros(clients + 1)
        heard[i] = load[i]
        clock.receive(block, heard, indptr, due)
        taken = float(block.state["modelled_time"][i])
        assert taken == pytest.approx(clock.down_seconds(block, everyone, load)[i], rel=1e-12)


def test_a_part_of_a_fleet_is_its_lines() -> None:
    fleet = Fleet.flat(np.arange(4.0), np.arange(4.0) + 1, np.full(4, 3.0), 10.0, 0.5)
    whole = fleet.with_servers(2)
    assert fleet.with_servers(0) is fleet
    assert whole.take(np.arange(6)) is whole
    assert whole.take(np.array([4, 1])).seconds.tolist() == [0, 1]
    assert whole.take(np.array([5, 0])).up.tolist() == [np.inf, 10]
    assert whole.leaving.tolist() == [0.5] * 6
    assert whole.coming.tolist() == [0] * 6


def test_there_is_one_way_to_count_time_and_energy() -> None:
    """Clocks of devices differ in their table and their checks, not in what happens."""
    counted = {"compute", "finish", "send", "transfer", "receive", "pace", "up_seconds"}
    counted |= {"down_seconds", "awake", "available", "leaves", "returns"}
    made = [cls for name, cls in catalogue("clock").items() if name != "wall"]
    assert {Phones, ModelledClock, DevicesClock} <= set(made)
    for cls in made:
        if cls.__module__.startswith("hansa."):
            assert issubclass(cls, DeviceClock)
            assert not counted & set(vars(cls)), cls
            assert [base for base in cls.__mro__ if issubclass(base, Clock)] == [
                cls, DeviceClock, Clock,
            ]  # fmt: skip


# -- what one clock had, all have


@pytest.mark.parametrize("name", ["devices", "modelled", "phones"])
def test_every_clock_has_batteries_hours_and_contention(
    make_job: Make, host: Callable[..., Any], name: str
) -> None:
    settings = {
        "name": name,
        "battery_share": 0.9,
        "contention": "fair",
        "availability": {"name": "periods", "there": 30.0, "away": 30.0},
    }
    block, reports = host(make_job({"algorithm": "fedavg", "clock": settings}))
    assert (block.state["battery_rounds"][:8] > 0).all()
    assert (block.state["battery_left"][:8] > 0).all()
    invited = [(~np.isnan(r["log"]["client_outcome"][:8])).sum() for r in reports]
    assert min(invited) < 8  # some were away


def test_a_battery_of_the_modelled_clock_runs_out(make_job: Make, host: Callable[..., Any]) -> None:
    each = 16 * 0.01 * 5.0  # J a round: 16 examples
    settings = {"name": "modelled", "sample_seconds": 0.01, "battery_wh": 0.01}
    share = 2.5 * each / 36
    block, _ = host(make_job({"clock": {**settings, "battery_share": share}}))
    assert block.state["battery_rounds"].tolist() == [2] * 8
    assert block.state["training_rounds"].tolist() == [2] * 8
    with pytest.raises(ConfigError, match="does not last one round"):
        make_job({"clock": {**settings, "battery_share": 0.9 * each / 36}})
