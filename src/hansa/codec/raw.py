"""Packets of bytes, as they are."""

from __future__ import annotations

import numpy as np

from hansa.base.component import register
from hansa.codec.codec import Codec
from hansa.codec.messages import Messages, Packets


@register("raw")
class Raw(Codec):
    """Bytes as they are, for protocols that make their own messages."""

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        return list(_packets(rows).packets)

    def decode(self, payload: bytes | memoryview, elements: int) -> Packets:
        return Packets((bytes(payload),))

    def size(self, rows: Messages) -> np.ndarray:
        return np.array([len(packet) for packet in _packets(rows).packets], dtype=np.int64)

    def through(self, rows: Messages) -> Packets:
        return _packets(rows)


def _packets(messages: Messages) -> Packets:
    if not isinstance(messages, Packets):
        raise TypeError(f"the raw codec is for packets, not for {type(messages).__name__}")
    return messages
