"""Push gossip: nodes at their own pace send their model to one neighbour and never wait."""

from typing import ClassVar

import torch

from hansa import Asynchronous, Block, Put, Script, Take, register
from hansa.codec import whole_rows


@register("push_gossip")
class PushGossip(Asynchronous):
    """Train, average with whatever has come, and push the model to one neighbour."""

    kinds: ClassVar[tuple[str, ...]] = ("model",)

    def start(self, block: Block) -> None:
        block.state["push.wakes"] = torch.zeros(len(block), dtype=torch.int64)

    def wake(self, node: Block, t: int) -> Script:
        me, wakes = int(node.ids[0]), node.state["push.wakes"]
        turn = int(wakes[0])
        wakes += 1
        node.train(t, draw=turn)
        came = yield Take("model")  # what has come by now; it does not wait
        for model in whole_rows(came.received):
            node.rows[0] = (node.rows[0] + model) / 2
        others = node.graph(t).row(me)
        if len(others):
            to = node.streams.own.numpy("push", me, turn).choice(others, 1)
            yield Put(to, "model", node.rows)
