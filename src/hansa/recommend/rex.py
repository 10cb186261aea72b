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

from typing import ClassVar, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.codec import Codec, PairGaps, Sparse
from hansa.engine import Algorithm, Block, Network, Script, Send
from hansa.recommend import (
    outgoing,
    passing,
    remembering,
    row_merging,
    stepping,
    storing,
    withdrawing,
)
from hansa.recommend.exposure import Exposure
from hansa.recommend.vetting import Guard


@register("rex", paper="Dhasade et al.", year=2022, url="https://arxiv.org/abs/2202.11655")
class Rex(Algorithm):
    """Local steps on a store of ratings that grows, by what neighbours send of theirs."""

    tolerates_loss: ClassVar[bool] = True
    usual: ClassVar[dict[str, object]] = {
        "data": {"name": "movielens"},
        "model": {"name": "matrix_factorization", "start": 3.5, "mean": "fixed"},
        "train": {"optimizer": {"name": "sgd", "lr": 0.01, "weight_decay": 0.05}},
    }

    dissemination: Literal["rmw", "dpsgd"] = Field(
        "rmw", description="rmw: to one neighbour drawn at random; dpsgd: to all"
    )
    share: Literal["data", "model", "both"] = Field(
        "data", description="what is sent: ratings, the rows of the model, or both"
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
        "are with one node; the paper: 1. none = 8 where models are averaged, else 1",
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
    row_codec: Codec = Field(Sparse(), description="how rows of the model become bytes")

    @property
    def _passing(self) -> passing.Passing:
        how = (
            self.rating_codec,
            self.exposure,
            self.reconcile,
            self.digest_entries,
            self.guard,
            self.withdraw,
        )
        return passing.Passing(self.ratings, *how)

    def unprotected(self, way: str) -> str:
        return "is made for ratings, which users share as they are or train on in passes of its own"

    def check(self, network: Network) -> None:
        outgoing.check_codecs(self.rating_codec, self.row_codec, len(self.exposure.notes))
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
        if self.dissemination == "dpsgd":
            raise ConfigError("dissemination", self.dissemination, problem, f"rmw, or {fix}")
        if self.reconcile == "digest":
            raise ConfigError("reconcile", self.reconcile, problem, f"remembered, or {fix}")

    def start(self, block: Block) -> None:
        stepping.check(block)
        self._passing.start(block)
        withdrawing.start(block, self.withdraw)
        row_merging.start(block)

    def local(self, block: Block, t: int) -> None:
        rate = self.item_rate or (1.0 if self.share == "data" else 8.0)
        chosen = stepping.drawn(block, t, self.steps, self.passes)
        row_merging.mark(block, *stepping.train(block, t, chosen, rate))

    def round(self, block: Block, t: int) -> Script:
        self.exposure.expire(block, t)
        withdrawing.begin(block, t, self.withdraw)
        self.local(block, t)
        to = outgoing.Receivers.of(block, t, one=self.dissemination == "rmw")
        if self.share != "data":
            rows = to.rows(row_merging.held_rows(block, to.speaks))
            inbox = yield Send(rows, to.graph, self.row_codec, kind="rows", each=to.one)
            if to.one:
                row_merging.halve(block, inbox)
            else:
                row_merging.average(block, inbox, to.graph)
        if self.share != "model":
            yield from withdrawing.spread(block, t, to, self.withdraw)
            yield from self._passing.round(block, t, to)
        storing.report(block)
