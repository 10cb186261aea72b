"""REX: decentralised recommenders that pass raw ratings on (Dhasade et al., 2022).

A round is an epoch of the paper: every node trains on ratings of its store, sends its neighbours
ratings from the whole store (its own and those that it was sent), or the rows of its model that it
holds, or both, and takes in what it was sent. Measured ``after_training``, as the paper does, or
after the exchange. A store keeps the first of equal (user, item); what is held back to test is in
no store and so in no message.

Random model walks (``rmw``) send to one neighbour, drawn anew each round, and an empty message to
each of the others; ``dpsgd`` sends the same to all. Where the authors' code differs from what it
says (a new item's bias halved, the same draws in every epoch), this does what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.codec import Codec, PairGaps, Sparse, SparseRows
from hansa.engine import Algorithm, Block, Network, Script, Send
from hansa.recommend import (
    outgoing,
    passing,
    remembering,
    reviewing,
    row_merging,
    stepping,
    storing,
    weighing,
    withdrawing,
)
from hansa.recommend.exposure import Exposure
from hansa.recommend.vetting import Guard
from hansa.recommend.weighing import Weighing

AVERAGED = 5.0
"""Items' learning rate beside users' where models are averaged, in which an item that few have
rated moves by their share alone."""


@register("rex", paper="Dhasade et al.", year=2022, url="https://arxiv.org/abs/2202.11655")
class Rex(Algorithm):
    """Local steps on a store of ratings that grows, by what neighbours send of theirs."""

    tolerates_loss: ClassVar[bool] = True
    attackable: ClassVar[str] = "algorithm.share: model, or guard against false ratings"
    lacks: ClassVar[Mapping[str, str]] = {
        **Algorithm.lacks,
        "aggregator": "merges tables of ratings and rows, which not everybody holds",
    }
    usual: ClassVar[dict[str, object]] = {
        "data": {"name": "movielens"},
        "model": {"name": "matrix_factorization", "start": 3.5, "mean": "fixed"},
        "train": {"optimizer": {"name": "sgd", "lr": 0.01, "weight_decay": 0.05}},
    }

    dissemination: Literal["rmw", "dpsgd"] = Field(
        "rmw", description="rmw: to one neighbour drawn at random; dpsgd: to all"
    )
    share: Literal["data", "model", "both", "auto"] = Field(
        "data",
        description="what is sent: ratings, the rows of the model, or both; auto: each node sends "
        "ratings, rows of items or its whole model, by what a byte of each was worth to it",
    )
    weighing: Weighing = Field(
        Weighing(), description="of share: auto: how a node finds out what a byte is worth"
    )
    ratings: int = Field(1000, ge=1, description="ratings to a message, drawn from the whole store")
    steps: int = Field(
        3000, ge=0, description="different ratings that a pass of local work trains on, at most"
    )
    passes: int = Field(1, ge=1, description="passes in a round, each with a draw of its own")
    item_rate: float | None = Field(
        None,
        gt=0,
        description="of matrix factorization: items' learning rate as a multiple of users', who "
        "are with one node; the paper: 1. none = 5 where models are averaged, else 1",
    )
    rating_codec: Codec = Field(
        PairGaps(), description="how ratings become bytes; table: as they were drawn"
    )
    exposure: Exposure = Field(
        Exposure(), description="how far ratings go: hops, expiry, budget, capacity"
    )
    reconcile: passing.Reconcile = Field(
        "none",
        description="against ratings sent to who has them: none; remembered: what neighbours are "
        "known to have; digest: nodes say what they have, and are sent what they lack",
    )
    digest_entries: int = Field(
        2000, ge=1, le=20_000, description="of reconcile: digest: ratings that one covers, about"
    )
    guard: Guard = Field(
        Guard(), description="against poison: limits to what a node takes in of one user"
    )
    withdraw: tuple[withdrawing.Withdrawal, ...] = Field(
        (), description="ratings that are taken back, and in which round"
    )
    withdrawals: int = Field(
        0,
        ge=0,
        le=1000,
        description="tombstones that a node has room for, if more may come than withdraw says: of "
        "other sites, or by hansa recommend withdraw. Costs nodes bits each",
    )
    row_codec: Codec = Field(Sparse(), description="how rows of the model become bytes")

    @property
    def unattackable(self) -> str:  # type: ignore[override]
        """Ratings travel in tables, which no attack on rows of numbers can forge."""
        return "" if self.share == "model" else "passes ratings on in tables, not rows of numbers"

    @property
    def must_tell(self) -> frozenset[str]:  # type: ignore[override]
        """Keys, where ratings may be taken back: it has to be known whose signature is whose."""
        return frozenset({"keys"} if self._withdrawals.room else ())

    @property
    def own_settings(self) -> frozenset[str]:  # type: ignore[override]
        """What is withdrawn, where all have made room for what others withdraw."""
        return frozenset({"withdraw"} if self.withdrawals else ())

    @property
    def _withdrawals(self) -> withdrawing.Withdrawals:
        room = max(self.withdrawals, len(self.withdraw))
        return withdrawing.Withdrawals(self.withdraw, room, always=self.withdrawals > 0)

    @property
    def _passing(self) -> passing.Passing:
        how = (
            self.rating_codec,
            self.exposure,
            self.reconcile,
            self.digest_entries,
            self.guard,
            self._withdrawals,
        )
        return passing.Passing(self.ratings, *how)

    def unprotected(self, way: str) -> str:
        return "is made for ratings, which users share as they are or train on in passes of its own"

    def check(self, network: Network) -> None:
        outgoing.check_codecs(self.rating_codec, self.row_codec, len(self.exposure.notes))
        if 0 < self.withdrawals < len(self.withdraw):
            problem = f"is no room for the {len(self.withdraw)} of withdraw"
            raise ConfigError("withdrawals", self.withdrawals, problem, "more, the same at all")
        if not network.changing and (pieces := network.graph(0).pieces) > 1:
            problem = f"is in {pieces} pieces: what one has never reaches the others"
            raise ConfigError("", None, problem, "a topology that is connected: small_world")
        if self.reconcile == "remembered":
            remembering.check(network)
        looked = range(8 if network.changing else 1)
        if all(network.graph(t).symmetric for t in looked):
            return
        problem = "needs a graph in which every node is heard by those it hears"
        fix = "a topology such as small_world"
        if self.share == "auto":
            raise ConfigError("share", self.share, problem, f"data, model or both, or {fix}")
        if self.dissemination == "dpsgd":
            raise ConfigError("dissemination", self.dissemination, problem, f"rmw, or {fix}")
        if self.reconcile == "digest":
            raise ConfigError("reconcile", self.reconcile, problem, f"remembered, or {fix}")

    def start(self, block: Block) -> None:
        stepping.check(block, averages=self.share != "data")
        self._passing.start(block, self.share == "auto")
        self._withdrawals.start(block)
        row_merging.start(block)
        if self.share == "auto":
            weighing.start(block, self.weighing)

    def local(self, block: Block, t: int) -> None:
        pools = weighing.trained(block)
        chosen = stepping.drawn(block, t, self.steps, self.passes, pools)
        row_merging.mark(block, *stepping.train(block, t, chosen, self._item_rate(block)))

    def _item_rate(self, block: Block) -> float | np.ndarray:
        if self.item_rate is not None:
            return self.item_rate
        if self.share == "auto":
            return np.where(weighing.lives_on_models(block), AVERAGED, 1.0)
        return 1.0 if self.share == "data" else AVERAGED

    def round(self, block: Block, t: int) -> Script:
        self.exposure.expire(block, t)
        self._withdrawals.begin(block, t)
        self.local(block, t)
        to = outgoing.Receivers.of(block, t, one=self.dissemination == "rmw")
        if self.share == "auto":
            yield from self._chosen(block, t, to)
        elif self.share != "data":
            yield from self._rows(block, to, row_merging.held_rows(block, to.speaks))
        if self.share in ("data", "both"):
            yield from self._withdrawals.spread(block, t, to)
            yield from self._passing.round(block, t, to)
        storing.report(block)

    def _rows(self, block: Block, to: outgoing.Receivers, rows: SparseRows) -> Script:
        inbox = yield Send(to.rows(rows), to.graph, self.row_codec, kind="rows", each=to.one)
        if to.one:
            row_merging.halve(block, inbox)
        else:
            row_merging.average(block, inbox, to.graph)

    def _chosen(self, block: Block, t: int, to: outgoing.Receivers) -> Script:
        """What each node has chosen to send, and from time to time what is it worth."""
        assert block.store is not None
        choice, due = weighing.choices(block).copy(), self.weighing.due(t)
        who = to.speaks & (choice != weighing.DATA)
        rows = row_merging.held_rows(block, who, items=choice == weighing.ITEMS)
        yield from self._rows(block, to, rows)
        if due:
            samples = yield from reviewing.sampled(block, t, to, self.weighing, self.row_codec)
        yield from self._withdrawals.spread(block, t, to)
        before = block.store.sizes
        # When they measure, all send ratings: what these are worth has to be seen.
        silent = (choice != weighing.DATA) & (not due)
        came = yield from self._passing.round(block, t, to, silent)
        if due:
            trial = reviewing.Trial(before, came, samples)
            rate = self._item_rate(block)
            how = (self.weighing, self.steps, rate, self.row_codec)
            yield from trial.weigh(block, t, to, *how)
        weighing.report(block)
