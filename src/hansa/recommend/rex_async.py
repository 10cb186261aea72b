"""REX without rounds: random walks of ratings and models, each node at its own pace.

A node that is due trains on ratings of its store, sends one neighbour drawn at random what it has,
and begins anew; it waits for nobody. Whoever is sent something takes it in at once, in between two
trainings of its own (gossip learning; Ormandi, Hegedus, Jelasity, 2013). No walk is kept track of:
each is begun anew by whoever wakes, so that what is sent to a node that is away is lost and nothing
else is. Messages to others who need not wait, which rounds need, there are none.

What a run file calls a round is as many wake-ups as nodes are present. Ratings go as far as
``exposure`` lets them, and neighbours may be remembered; digests ask and wait, and are for rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.codec import Codec, PairGaps, Sparse
from hansa.codec.pair_gaps import FORM
from hansa.engine import Asynchronous, Block, Network, Put, Script, Take
from hansa.engine.exchange.letter import Letter
from hansa.recommend import outgoing, remembering, row_merging, stepping, storing
from hansa.recommend.choosing import Wanted, drawn
from hansa.recommend.exposure import Exposure
from hansa.recommend.passing import opened
from hansa.recommend.vetting import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator

RATINGS, ROWS = "ratings", "rows"
WAKES = "rex.wakes"
COUNTED = ("ratings_received", "duplicates", "ratings_refused")


@register("rex_async", paper="Dhasade et al.", year=2022, url="https://arxiv.org/abs/2202.11655")
class RexAsync(Asynchronous):
    """REX whose nodes wait for nobody: a walk goes on from whoever wakes."""

    kinds: ClassVar[tuple[str, ...]] = (RATINGS, ROWS)
    hears: ClassVar[tuple[str, ...]] = (RATINGS, ROWS)
    attackable: ClassVar[str] = "algorithm.share: model, or guard against false ratings"
    lacks: ClassVar[Mapping[str, str]] = {
        **Asynchronous.lacks,
        "aggregator": "merges tables of ratings and rows, which not everybody holds",
    }
    usual: ClassVar[dict[str, object]] = {
        "data": {"name": "movielens"},
        "model": {"name": "matrix_factorization", "start": 3.5, "mean": "fixed"},
        "train": {"optimizer": {"name": "sgd", "lr": 0.015, "weight_decay": 0.05}},
        "clock": {"name": "modelled"},
    }

    share: Literal["data", "model", "both"] = Field(
        "data", description="what is sent: ratings, the rows of the model, or both"
    )
    ratings: int = Field(1000, ge=1, description="ratings to a message, drawn from the whole store")
    steps: int = Field(
        1000, ge=0, description="different ratings that a node trains on when it wakes, at most"
    )
    item_rate: float = Field(
        4.0, gt=0, description="of matrix factorization: items' learning rate beside users'"
    )
    reconcile: Literal["none", "remembered"] = Field(
        "none", description="remembered: a neighbour is not sent what it is known to have"
    )
    exposure: Exposure = Field(
        Exposure(), description="how far ratings go: hops, expiry, budget, capacity"
    )
    guard: Guard = Field(
        Guard(), description="against poison: limits to what a node takes in of one user"
    )
    rating_codec: Codec = Field(PairGaps(), description="how ratings become bytes")
    row_codec: Codec = Field(Sparse(), description="how rows of the model become bytes")

    @property
    def unattackable(self) -> str:  # type: ignore[override]
        """Ratings travel in tables, which no attack on rows of numbers can forge."""
        return "" if self.share == "model" else "passes ratings on in tables, not rows of numbers"

    def unprotected(self, way: str) -> str:
        return "is made for ratings, which users share as they are or train on in passes of its own"

    def check(self, network: Network) -> None:
        outgoing.check_codecs(self.rating_codec, self.row_codec, len(self.exposure.notes))
        if self.reconcile == "remembered":
            remembering.check(network)

    def start(self, block: Block) -> None:
        stepping.check(block)
        opened(block, self.exposure, self.reconcile == "remembered")
        row_merging.start(block)
        block.state[WAKES] = torch.zeros(len(block), dtype=torch.int64)
        for name in COUNTED:
            block.state[f"rex.{name}"] = torch.zeros(len(block), dtype=torch.int64)

    def due(self, node: Block, t: int) -> tuple[float, int]:
        assert node.clock is not None  # see prepare
        wakes = int(node.state[WAKES].item())
        samples = np.minimum(node.own_sizes, self.steps)
        return float(node.clock.finish(node, samples).item()), wakes

    def opening(self, block: Block, t: int) -> Iterator[tuple[int, Put]]:
        for name in COUNTED:
            block.state[f"rex.{name}"].zero_()
        self.exposure.expire(block, t)
        if self.reconcile == "remembered":
            remembering.forget(block, t)
        yield from ()

    def wake(self, node: Block, t: int) -> Script:
        wakes = int(node.state[WAKES].item())
        chosen = stepping.drawn(node, wakes, self.steps, 1)
        row_merging.mark(node, *stepping.train(node, t, chosen, self.item_rate))
        node.state[WAKES].add_(1)
        own = int(node.ids[0])
        hearing = node.graph(t).transpose().row(own)
        if not len(hearing):
            return
        walk = node.streams.own.numpy("rex walk", own, wakes)
        to = hearing[[walk.integers(len(hearing))]]
        if self.share != "data":
            yield Put(to, ROWS, row_merging.held_rows(node, np.ones(1, dtype=bool)), self.row_codec)
        if self.share != "model":
            links = [(0, int(to[0]))]
            wanted = [Wanted(0)]
            if self.reconcile == "remembered":
                wanted = remembering.wanted(node, links)
            tables, places = drawn(node, wakes, self.ratings, wanted, self.exposure, now=t)
            if self.reconcile == "remembered":
                remembering.sent(node, links, places, np.zeros(0, dtype=bool))
            yield Put(to, RATINGS, tables, self.rating_codec)

    def hear(self, node: Block, t: int, letter: Letter) -> Script:
        """Take in what came; who is away does not."""
        sender = np.array([letter.sender])
        if letter.kind == ROWS:
            inbox = yield Take(ROWS, self.row_codec, sender, elements=node.rows.shape[1])
            if node.present(t)[0]:
                row_merging.halve(node, inbox)
            return
        width = len(FORM) + len(self.exposure.notes)
        inbox = yield Take(RATINGS, self.rating_codec, sender, elements=width)
        if node.present(t)[0]:
            storing.take(node, inbox, t, self.exposure, self.guard)
            for name in COUNTED:
                if name in node.report:
                    node.state[f"rex.{name}"].add_(int(np.asarray(node.report.pop(name))[0]))

    def closing(self, block: Block, t: int) -> None:
        for name in COUNTED[: 3 if self.guard.watches else 2]:
            block.report[name] = block.state[f"rex.{name}"].numpy().astype(np.float64)
        block.report["wakes"] = block.state[WAKES].numpy().astype(np.float64)
        storing.report(block)
