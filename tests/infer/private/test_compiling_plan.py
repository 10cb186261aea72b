"""A plan's bytes are those that sessions send, and its table is what a link makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import ConfigError
from hansa.infer.private.compiling import costs, planner
from hansa.infer.private.compiling.costs import Costs, costs_of
from hansa.infer.private.compiling.planner import Plan, choose, plan
from hansa.infer.private.program import Program
from hansa.infer.private.rlwe.profiles import profile
from hansa.infer.private.sessions.sides import client_session, server_model, server_session

from .made_programs import lenet, mlp, resnet

SOME = Costs(1e-4, 5e-5, 1e-5, 2e-4, 4e-9, 5e-5, 2e-5, 1e-4, 9e-6)
"""Of no machine: where a test is not about times, none are measured."""


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "costs_of", lambda _: SOME)
    shares = costs.ShareCosts(1e-3, 1e-3, 5e-9, 5e-9, 0.2)
    monkeypatch.setattr(planner, "share_costs_of", lambda _: shares)
    rows = costs.RowCosts(4e-4, 1e-7, 1e-2)
    monkeypatch.setattr(planner, "row_costs_of", lambda _: rows)


def sent(made: Plan, program: Program) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """(bytes of the opening, bytes of each step) of a session that is held."""
    model = server_model(program, made.scheme)
    seed = bytes(32)
    server = server_session(model, seed, bytes([1]) * 32)
    client = client_session(model.outline, made.scheme, seed, bytes([2]) * 32)
    opening = _held(server, client.open(), -1)
    rows = np.random.default_rng(0).normal(size=(made.rows, *program.input_shape))
    up, down = sum(x for x, _ in opening), sum(y for _, y in opening)
    return (up, down), _held(server, client.ask(0, rows), 0)


def _held(server: Any, client: Any, query: int) -> list[tuple[int, int]]:
    told, request, step = [], next(client), 0
    while True:
        reply = server.answer(query, step, request)
        told.append((len(request), len(reply)))
        step += 1
        try:
            request = client.send(reply)
        except StopIteration:
            return told


def few_bits() -> Program:
    from torch import nn

    from hansa.infer.private.compiling.compiler import compile_network
    from hansa.infer.private.compiling.quantize import Bits

    layers = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    rows = np.random.default_rng(0).normal(size=(32, 12))
    return compile_network(layers, rows, Bits(6, 5)).program


@pytest.mark.parametrize(
    ("make", "mode", "queries", "wanted"),
    [
        (mlp, "shuffle", 1, {}),
        (lenet, "shuffle", 1, {}),
        (lambda: resnet(1), "shuffle", 1, {}),
        (mlp, "shuffle", 1, {"profile_name": "n8192"}),
        (few_bits, "shuffle", 300, {"packing": "batch", "profile_name": "n2048"}),
        (few_bits, "shares", 1, {}),
        (few_bits, "shuffle", 1, {"packing": "rows", "profile_name": "n4096"}),
    ],
)
def test_planned_bytes_are_sent_bytes(
    make: Callable[[], Program], mode: Any, queries: int, wanted: dict[str, Any]
) -> None:
    program = make()
    made, _ = choose(program, mode, queries=queries, **wanted)
    opening, steps = sent(made, program)
    assert opening == made.opening
    assert steps == [(step.up, step.down) for step in made.steps]
    assert (made.up, made.down) == (sum(x for x, _ in steps), sum(y for _, y in steps))


def test_a_batch_is_chosen_for_many_queries_and_none_for_one() -> None:
    program = few_bits()
    assert choose(program)[0].scheme.packing == "channel"
    made, left = choose(program, queries=2000)
    assert (made.scheme.packing, made.rows) == ("batch", 2000)
    assert any("channel" in one and "takes" in why for one, why in left)


def test_a_profile_that_hides_too_little_is_left_unless_it_is_named() -> None:
    program = few_bits()
    made, left = choose(program)
    assert made.scheme.profile != "n2048"
    assert any(one.startswith("n2048") for one, _ in left)
    assert choose(program, profile_name="n2048")[0].scheme.profile == "n2048"


def test_numbers_change_places_where_each_is_a_ciphertext() -> None:
    made, left = choose(few_bits(), packing="rows")
    assert (made.scheme.packing, made.scheme.hides) == ("rows", "element")
    assert any(one.startswith("n2048") for one, _ in left)
    assert made.opening[0] > 10 * choose(few_bits())[0].opening[0]


def test_latency_is_time_and_bytes_and_rounds() -> None:
    program = lenet()
    made, _ = choose(program)
    rounds, seconds = len(program.rounds), made.seconds
    link = (made.up + made.down) / 1.25e6
    assert made.latency(1.25, 40) == pytest.approx(seconds + link + rounds * 0.04)
    table = made.plain()["latencies"]
    assert len(table) == len(planner.BANDWIDTHS) * len(planner.LATENCIES)
    slow = {one["round_trip"]: one["seconds"] for one in table if one["bandwidth"] == 0.1}
    fast = {one["round_trip"]: one["seconds"] for one in table if one["bandwidth"] == 300}
    assert all(slow[trip] > fast[trip] for trip in slow)
    assert slow[100.0] > slow[1.0]


def test_more_weights_take_more_time_and_memory() -> None:
    small, _ = choose(resnet(1))
    large, _ = choose(resnet(2))
    assert large.memory > small.memory
    assert large.seconds > small.seconds


def test_what_no_scheme_holds_is_refused_by_name() -> None:
    program = mlp()
    block = program.rounds[0].blocks[0]
    huge = replace(block, low=-(1 << 40), high=1 << 40)
    turn = replace(program.rounds[0], blocks=(huge,))
    with pytest.raises(ConfigError, match="plain_bits"):
        choose(replace(program, rounds=(turn, *program.rounds[1:])))
    with pytest.raises(ConfigError, match="no link"):
        choose(program, bandwidth=0)
    with pytest.raises(ConfigError, match="equations"):
        choose(lenet(), "budget")


def test_costs_are_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path))
    ring = profile("n2048")
    made = costs_of(ring)
    assert all(value > 0 for value in vars(made).values())
    monkeypatch.setattr(costs, "measured", lambda _: pytest.fail("measured again"))
    assert costs_of(ring) == made
    costs.costs_file().write_text('{"version": 0}')
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        costs_of(ring)
    monkeypatch.undo()
    costs.costs_file().write_text("no JSON")
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path))
    assert costs_of(ring).product > 0


def test_a_plan_takes_costs_as_given() -> None:
    program = few_bits()
    made, _ = choose(program)
    twice = Costs(**{name: 2 * value for name, value in vars(SOME).items()})
    again = plan(program, made.scheme, costs=twice)
    assert 1.9 * sum(s.server for s in made.steps) == pytest.approx(
        0.95 * sum(s.server for s in again.steps), rel=0.01
    )
