"""What every codec promises."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec.messages import Messages, SparseRows, whole_rows, width


class Codec(Component, kind="codec"):
    """Turns messages, mostly rows [m, K], into one payload each, and back.

    The laws that a test holds every codec to: ``size(rows)[k] == len(encode(rows)[k])`` and
    ``through(rows)[k] == decode(encode(rows)[k], K)``, to the bit.
    """

    @abstractmethod
    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        """One payload a row."""

    @abstractmethod
    def decode(self, payload: bytes | memoryview, elements: int) -> Messages:
        """The message in a payload: a row [elements], or one part of a row.

        Raises:
            WireError: the payload is not an encoding of that many elements.
        """

    @abstractmethod
    def size(self, rows: Messages) -> np.ndarray:
        """Bytes of each row's payload, int64 [m], without building it where that can be told."""

    @abstractmethod
    def through(self, rows: Messages) -> Messages:
        """What receivers get: decode(encode(rows)). Returns ``rows`` itself when lossless."""

    def labelled(self, messages: Messages) -> Messages:
        """Messages that never were bytes, with the names that decoding gives a table's columns."""
        return messages


def values_through(codec: Codec, messages: SparseRows) -> SparseRows:
    """Parts of rows after their values went through a codec, each message's by itself."""
    changed = []
    for k in range(len(messages)):
        values = messages.row(k)[1].unsqueeze(0)
        after = whole_rows(codec.through(values))
        if after is values:
            return messages
        changed.append(after.reshape(-1))
    return messages.with_values(torch.cat(changed)) if changed else messages


def values_size(codec: Codec, messages: SparseRows) -> np.ndarray:
    """Bytes that each message's values take in a codec, int64 [n]."""
    each = [int(codec.size(messages.row(k)[1].unsqueeze(0))[0]) for k in range(len(messages))]
    return np.array(each, dtype=np.int64)


def check_codec(codec: Codec, example: Messages, field: str = "codec") -> None:
    """Refuse a codec that cannot carry messages such as ``example``, by trying it.

    Raises:
        ConfigError: naming the codec and those that fit.
    """
    try:
        codec.decode(codec.encode(example)[0], width(example))
    except TypeError as error:
        fix = "dense, uniform, qsgd, sign or lossless"
        if isinstance(example, SparseRows):
            name = "sparse" if example.seeds is None else "seeded"
            fix = f"{{name: {name}, values: dense}}, or values: {fix.removeprefix('dense, ')}"
        problem = f"cannot carry this algorithm's messages: {error}"
        raise ConfigError(field, codec.dump(), problem, fix) from None
