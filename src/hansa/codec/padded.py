"""Payloads of a few lengths: who only sees how long a message is learns little or nothing.

An empty message is as long as a full one, and where all messages of an exchange fit into one block
all are of one length: on links that carry something in every round, as those of random walks do,
neither length nor time tells what is said. The links encrypt what a payload is filled up with.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.codec import varints
from hansa.codec.codec import Codec
from hansa.codec.dense import Dense
from hansa.codec.messages import Messages


@register("padded")
class Padded(Codec):
    """Another codec's payloads, each filled up with zeros to whole blocks of bytes."""

    codec: Codec = Field(Dense(), description="the codec whose payloads are filled up")
    block: int = Field(
        4096, ge=1, le=1 << 30, description="bytes; every payload is so long, or a multiple of it"
    )

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        return [self._filled(payload) for payload in self.codec.encode(rows)]

    def decode(self, payload: bytes | memoryview, elements: int) -> Messages:
        view = memoryview(payload).cast("B")
        if not len(view) or len(view) % self.block:
            raise WireError(f"{len(view)} bytes where blocks of {self.block} were due")
        length, begin = varints.first(view)
        end = begin + length
        if self._whole(end) != len(view) or bytes(view[end:]).strip(b"\0"):
            raise WireError("a payload that is not filled up with zeros to the next block")
        return self.codec.decode(view[begin:end], elements)

    def size(self, rows: Messages) -> np.ndarray:
        inner = self.codec.size(rows)
        ends = inner + varints.lengths(inner.astype(np.uint64))
        return -(-ends // self.block) * self.block

    def through(self, rows: Messages) -> Messages:
        return self.codec.through(rows)

    def labelled(self, messages: Messages) -> Messages:
        return self.codec.labelled(messages)

    def _whole(self, length: int) -> int:
        return -(-length // self.block) * self.block

    def _filled(self, payload: bytes | memoryview) -> bytes:
        head = varints.one(memoryview(payload).nbytes)
        whole = head + bytes(payload)
        return whole.ljust(self._whole(len(whole)), b"\0")
