"""What a client can do to a layer: send what it chooses, and look at all that it gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from hansa.infer.private.program import Term


class Refused(Exception):
    """The server does not answer any more: a budget is spent, or the layer is not served so."""


class Untried(Exception):
    """The attack says nothing of such a layer: it is too large for it, or of another form."""


@dataclass(frozen=True)
class Seen:
    """What a client makes of one reply.

    Attributes:
        numbers: int64 [O, H', W'], the accumulators that it decrypts.
        residuals: float64 [O, H', W'], what lies between the accumulators and the ciphertexts, in
            units of the modulus q.
    """

    numbers: np.ndarray
    residuals: np.ndarray


@dataclass(frozen=True)
class Equations:
    """What is linear in a layer's weights, for those who know the left side.

    Attributes:
        matrix: [m, U], of numbers that the client has made or been sent.
        right: [m, R], of the reply's R polynomials.
        shape: of the weights.
        at: int64 [U, R], which of the weights an unknown is: its number from 1 on, in the order
            of the flat array; negative where it is the weight's negative, 0 where it is none.
        prime: equations hold modulo it; 0 if they are of integers.
    """

    matrix: np.ndarray
    right: np.ndarray
    shape: tuple[int, ...]
    at: np.ndarray
    prime: int = 0

    def weights(self, unknowns: np.ndarray | None) -> np.ndarray:
        """The weights int64 [O, C, kh, kw] of solved unknowns [U, R]; zeros of none."""
        flat = np.zeros(int(np.prod(self.shape)), np.int64)
        if unknowns is not None:
            held = self.at != 0
            flat[np.abs(self.at[held]) - 1] = (unknowns * np.sign(self.at))[held]
        return flat.reshape(self.shape)


class Oracle(ABC):
    """A session with a server, seen by a client that breaks every rule but those of the wire.

    Attributes:
        mode: what protects the server's weights.
        term: of the layer under attack: its shapes; the weights are the server's and zero here.
        shape: (channels, height, width) of its input.
        step: by how much a residual grows with a number of an accumulator: the modulus over 2 to
            the bits of the plaintext.
        flooding_bits: that the server says it floods with.
        rounding: how large a residual gets by the rounding of replies to words.
        queries: that the client has sent so far, over all sessions.
    """

    mode: str
    term: Term
    shape: tuple[int, int, int]
    step: float
    flooding_bits: int
    rounding: float
    queries: int = 0

    @abstractmethod
    def ask(self, numbers: np.ndarray, noise: np.ndarray | None = None, height: int = 1) -> Seen:
        """Send numbers of the layer's input int64 [C, H, W] and see the reply.

        Args:
            noise: int64 [C, H, W], what stands in the ciphertexts' errors, in units of ``height``;
                None: honest errors.

        Raises:
            Refused: the server does not answer.
        """

    @abstractmethod
    def mask_equations(self) -> Equations:
        """Of one honest query: the reply's masks in those that the client sent.

        Raises:
            Refused: the server does not answer.
        """

    @abstractmethod
    def residual_equations(self) -> Equations:
        """Of one honest query: the reply's residuals in the errors that the client drew.

        Raises:
            Refused: the server does not answer.
        """

    @abstractmethod
    def another(self) -> Self:
        """A session after this one: other keys, another shuffle, the same client."""


def nothing(oracle: Oracle) -> np.ndarray:
    """The guess of those who were told nothing: zeros in the weights' shape."""
    return np.zeros(oracle.term.weight.shape, np.int64)
