"""What a query will cost, before anything runs: bytes to the byte, time from measured parts.

A plan is made of the same layout that sessions use, so that its bytes are those that are sent. Its
time adds up what :mod:`costs` measured; the link's is what its bandwidth and its latency make of
bytes and rounds. Of the schemes that hold a program, the one that answers first is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.client_steps import apply
from hansa.infer.private.compiling.certificate import (
    WANTED_FLOODING,
    choose_scheme,
    hidden_bits,
)
from hansa.infer.private.compiling.costs import (
    Costs,
    RowCosts,
    ShareCosts,
    costs_of,
    row_costs_of,
    share_costs_of,
)
from hansa.infer.private.linear.encrypted import ChannelLayers
from hansa.infer.private.linear.rows import RowLayers
from hansa.infer.private.program import Block, Program, Round
from hansa.infer.private.rlwe.profiles import PROFILES, profile
from hansa.infer.private.sessions.model import ServerModel, layers_of
from hansa.infer.private.sessions.scheme import Mode, Packing, Scheme

exchange = Lazy("hansa.infer.private.shares.exchange")
share_model = Lazy("hansa.infer.private.shares.share_model")

MEGABYTE = 1_000_000
BANDWIDTHS = (0.1, 1.0, 1.25, 10.0, 100.0, 300.0)
"""MB/s of the table of latencies."""
LATENCIES = (1.0, 10.0, 40.0, 100.0)
"""Milliseconds there and back of the table of latencies."""


@dataclass(frozen=True)
class PlannedStep:
    """A request and its reply.

    Attributes:
        round: from 1; a round of mode shares has two steps.
        up, down: bytes.
        server, client: seconds of one thread.
    """

    round: int
    blocks: tuple[str, ...]
    up: int
    down: int
    server: float
    client: float


@dataclass(frozen=True)
class Plan:
    """What a query costs.

    Attributes:
        rows: rows of one query.
        steps: in order.
        opening: bytes up and down, once a session.
        prepare: seconds of the server's weights, once a session (once for all, where nothing is
            shuffled), and of the opening at both sides.
        memory: bytes of the server's prepared weights, of one session.
    """

    scheme: Scheme
    rows: int
    steps: tuple[PlannedStep, ...]
    opening: tuple[int, int]
    prepare: float
    memory: int

    @property
    def up(self) -> int:
        """Bytes that a query sends."""
        return sum(step.up for step in self.steps)

    @property
    def down(self) -> int:
        """Bytes that a query is answered with."""
        return sum(step.down for step in self.steps)

    @property
    def seconds(self) -> float:
        """Of one thread at the server and one at the client, one after the other."""
        return sum(step.server + step.client for step in self.steps)

    def latency(self, bandwidth: float, round_trip: float) -> float:
        """Seconds that a query takes over a link.

        Args:
            bandwidth: MB/s (10^6 bytes), each way.
            round_trip: milliseconds there and back.
        """
        link = (self.up + self.down) / (bandwidth * MEGABYTE)
        return self.seconds + link + len(self.steps) * round_trip / 1000

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        latencies = [
            {"bandwidth": b, "round_trip": t, "seconds": round(self.latency(b, t), 4)}
            for b in BANDWIDTHS
            for t in LATENCIES
        ]
        return asdict(self) | {
            "up": self.up, "down": self.down, "seconds": self.seconds, "latencies": latencies,
        }  # fmt: skip


def plan(program: Program, scheme: Scheme, rows: int = 1, costs: Costs | None = None) -> Plan:
    """What a query of ``rows`` rows costs in a scheme.

    Args:
        costs: of the parts; None: this machine's.

    Raises:
        ConfigError: the scheme does not hold the program.
    """
    costs = costs or costs_of(profile(scheme.profile))
    if scheme.mode == "shares":
        return _of_shares(program, scheme, costs, share_costs_of(profile(scheme.profile)))
    model, ring = ServerModel(program, scheme), profile(scheme.profile)
    trees = row_costs_of(ring) if scheme.packing == "rows" else RowCosts(0, 0, 0)
    steps, weights, laid = [], 0, 0.0
    for at, one in enumerate(program.rounds):
        uploads = sum(model.layers.uploads[name].polynomials(rows) for name in one.uploads)
        downs = [model.layers.downloads[b.name] for b in one.blocks]
        replies = sum(down.polynomials(rows) for down in downs)
        sent = sum(int((down.positions(rows) >= 0).sum()) for down in downs)
        if isinstance(model.layers, ChannelLayers):
            began = time.process_time()
            products = [_products(model.layers, b) for b in one.blocks]
            laid += time.process_time() - began
            work = rows * costs.product * sum(times for times, _ in products)
            weights += sum(count for _, count in products)
        elif isinstance(model.layers, RowLayers):
            work = rows * sum(_of_rows(b, trees) for b in one.blocks)
        else:
            work = costs.multiply * sum(_multiplications(program, b) for b in one.blocks)
        server = costs.receive * uploads + work + costs.hide * replies + costs.step
        client = costs.encrypt * uploads + costs.decrypt * replies + costs.step
        steps.append(
            PlannedStep(
                at + 1,
                tuple(b.name for b in one.blocks),
                model.request_bytes(at, rows),
                model.reply_bytes(at, rows),
                server + costs.coefficient * sent,
                client + _client_steps(one, rows),
            )
        )
    prepare = laid + costs.weights * weights + costs.key + trees.keys
    memory = weights * ring.levels * ring.n * 8
    return Plan(scheme, rows, tuple(steps), (model.opening_bytes, 0), prepare, memory)


def _products(layers: ChannelLayers, block: Block) -> tuple[int, int]:
    """(products of a row of the batch, polynomials of weights)."""
    _, made = layers.polynomials(block, {}, None)
    used = np.asarray(made.any(2))
    kept = used.size if used.mean() >= _SPARSE else int(used.sum())
    landing = layers.layout.landings[block.name]
    return kept * landing.rows.tiles * landing.columns.tiles, kept


_SPARSE = 0.6


def _of_rows(block: Block, costs: RowCosts) -> float:
    """Seconds of a block whose numbers are ciphertexts of their own."""
    outputs = block.shape[0] * block.shape[1] * block.shape[2]
    taps = sum(term.weight[0].size for term in block.terms)  # some fewer at borders
    return outputs * (costs.row + costs.tap * taps)


def _multiplications(program: Program, block: Block) -> int:
    """Weights times the pixels that each is used at."""
    pixels = block.shape[1] * block.shape[2]
    return sum(term.weight.size * term.groups * pixels for term in block.terms)


def _client_steps(one: Round, rows: int) -> float:
    """Seconds of the client's steps on zeros: they do not depend on the numbers."""
    shapes = {block.name: block.shape for block in one.blocks}
    few = min(rows, 64)
    began = time.process_time()
    for made in one.activations:
        apply(made.steps, np.zeros((few, *shapes[made.block]), np.int64))
    return (time.process_time() - began) * rows / few


def _of_shares(program: Program, scheme: Scheme, costs: Costs, circuits: ShareCosts) -> Plan:
    """Mode shares: ciphertexts of shares, then garbled circuits, in each round."""
    model, ring = share_model.ShareModel(program, scheme), profile(scheme.profile)
    asked, given = model.sizes.requests, model.sizes.replies
    steps, weights = [], 0
    for at, (one, turn) in enumerate(zip(program.rounds, model.turns, strict=True)):
        names = tuple(b.name for b in one.blocks)
        uploads = sum(model.layers.uploads[name].polynomials(1) for name in one.uploads)
        replies = sum(model.layers.downloads[b.name].polynomials(1) for b in one.blocks)
        products = [_products(model.layers, b) for b in one.blocks]
        weights += sum(count for _, count in products)
        server = costs.receive * uploads + costs.product * sum(times for times, _ in products)
        server += (costs.hide + costs.encrypt) * replies + costs.step
        client = costs.encrypt * uploads + costs.decrypt * replies + costs.step
        steps.append(PlannedStep(at + 1, names, asked[2 * at], given[2 * at], server, client))
        garbled = turn.tables_bytes
        steps.append(
            PlannedStep(
                at + 1, names, asked[2 * at + 1], given[2 * at + 1],
                garbled * circuits.server_byte + circuits.server_round,
                garbled * circuits.client_byte + circuits.client_round,
            )
        )  # fmt: skip
    up, down = exchange.opening_sizes(ring)
    prepare = costs.weights * weights + costs.key + circuits.opening
    memory = weights * ring.levels * ring.n * 8
    return Plan(scheme, 1, tuple(steps), (up, down), prepare, memory)


def choose(
    program: Program,
    mode: Mode = "shuffle",
    *,
    queries: int = 1,
    bandwidth: float = 10.0,
    round_trip: float = 20.0,
    profile_name: str | None = None,
    packing: Packing | None = None,
    insist: bool = False,
) -> tuple[Plan, list[tuple[str, str]]]:
    """(the plan that answers all queries first, why others were left).

    Args:
        queries: rows that are asked one after the other or, where that is faster, as a batch.
        bandwidth: MB/s each way.
        round_trip: milliseconds there and back.

    Raises:
        ConfigError: no scheme holds the program.
    """
    if not bandwidth > 0 or not round_trip >= 0 or queries < 1:
        value = (queries, bandwidth, round_trip)
        raise ConfigError("plan", value, "is no link or no query", "numbers above 0")
    names: Sequence[str] = (profile_name,) if profile_name else tuple(PROFILES)
    packings: tuple[Packing, ...] = (packing,) if packing else ("channel", "batch")
    if mode == "shares" or (queries == 1 and packing is None):
        packings = ("channel",)
    plans: list[tuple[float, Plan]] = []
    left: list[tuple[str, str]] = []
    refusal: ConfigError | None = None
    for name in names:
        for pack in packings:
            label = f"{name}, {pack}"
            try:
                made = _candidate(program, mode, name, pack, queries, insist)
            except ConfigError as error:
                if error.field == "mode":
                    raise
                refusal = refusal or error
                left.append((label, error.problem))
                continue
            if (
                mode != "shares"
                and not profile_name
                and ((hidden := hidden_bits(program, made.scheme)) < WANTED_FLOODING)
            ):
                left.append((label, f"flooding is {hidden:.0f} bits above errors, not 40"))
                refusal = refusal or ConfigError("profile", name, left[-1][1], "name it")
                continue
            times = -(-queries // made.rows)
            plans.append((times * made.latency(bandwidth, round_trip), made))
    if not plans:
        assert refusal is not None
        raise refusal
    best = min(plans, key=lambda one: one[0])
    left += [
        (f"{p.scheme.profile}, {p.scheme.packing}", f"takes {seconds:.3g} s, not {best[0]:.3g}")
        for seconds, p in plans
        if p is not best[1]
    ]
    return best[1], left


def _candidate(
    program: Program, mode: Mode, name: str, packing: Packing, queries: int, insist: bool
) -> Plan:
    rows = min(queries, profile(name).n) if packing == "batch" else 1
    scheme = choose_scheme(
        program, mode, profile_name=name, packing=packing, rows=rows, insist=insist
    )
    layers_of(program, scheme)
    return plan(program, replace(scheme, rows=rows), rows)
