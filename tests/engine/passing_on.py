"""A plugin of the tests: peers pass raw examples on, keep them, and train on all that they have."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.codec import Table, Tables
from hansa.engine import Algorithm, Block, Script, Send


@register("passing_on")
class PassingOn(Algorithm):
    """Every node sends some of its examples to its neighbours; nobody sends a model."""

    tolerates_loss: ClassVar[bool] = True

    count: int = Field(5, description="examples that a node sends in a round")
    unique: bool = Field(True, description="the same example is kept once")
    capacity: int | None = Field(None, description="gathered examples that a node keeps at most")
    when_full: Literal["refuse", "oldest", "random"] = Field(
        "refuse", description="what becomes of one more"
    )

    def start(self, block: Block) -> None:
        block.open_store(self.unique, self.capacity, self.when_full)

    def round(self, block: Block, t: int) -> Script:
        assert block.store is not None
        own, store = block.streams.own, block.store
        if self.count:
            tables = [
                store.drawn(i, self.count, own.numpy("pass on", i, t)) for i in block.ids.tolist()
            ]
            inbox = yield Send(Tables.of(tables), block.graph(t), Table(), kind="examples")
            block.report["taken"] = store.take(inbox).astype(np.float64)
        block.report["examples"] = store.sizes.astype(np.float64)
        block.train(t)
