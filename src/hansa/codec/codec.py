"""What every codec promises."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from torch import Tensor

from hansa.base.component import Component


class Codec(Component, kind="codec"):
    """Turns rows [m, K] into one payload each, and back.

    The laws that a test holds every codec to: ``size(rows)[k] == len(encode(rows)[k])`` and
    ``through(rows)[k] == decode(encode(rows)[k], K)``, to the bit.
    """

    @abstractmethod
    def encode(self, rows: Tensor) -> list[bytes | memoryview]:
        """One payload a row."""

    @abstractmethod
    def decode(self, payload: bytes | memoryview, elements: int) -> Tensor:
        """The row [elements] in a payload.

        Raises:
            WireError: the payload is not an encoding of that many elements.
        """

    @abstractmethod
    def size(self, rows: Tensor) -> np.ndarray:
        """Bytes of each row's payload, int64 [m], without building it where that can be told."""

    @abstractmethod
    def through(self, rows: Tensor) -> Tensor:
        """What receivers get: decode(encode(rows)). Returns ``rows`` itself when lossless."""
