"""A query in the errors of encryptions of zero."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.infer.private.redteam.attacks.extraction import (
    BUDGET,
    SHARES,
    SHUFFLE,
    UNPROTECTED,
    Expected,
    ExtractionAttack,
    Guess,
)
from hansa.infer.private.redteam.impulses import tile_impulses
from hansa.infer.private.redteam.oracle import Oracle, Refused
from hansa.infer.private.redteam.solving import middle

_LARGEST_WEIGHT = 64
_ENOUGH = 64


@register("hidden_query")
class HiddenQuery(ExtractionAttack):
    """Impulses far below the plaintext, in the errors of ciphertexts that say zero.

    Every number decrypts to the bias, and the answer stands in the residuals: flooding is sized for
    honest errors, and a client's may be as large as it likes (microsoft/SEAL issue 89). One input
    channel is asked, 144 weights. Flooding is uniform, so that the middle of the range of readings
    finds a weight faster than their mean. An honest zero is asked first, for the biases.
    """

    queries: int = Field(1, ge=1, description="how often it is asked")
    flooding_bits: int | None = Field(None, ge=0, description="bits; none = the ceiling, as served")

    layers: ClassVar[tuple[str, ...]] = ("conv_16",)
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: ("all", "errors come back as they are"),
        SHUFFLE: ("part", "flooding to the ceiling leaves some bits a query, which repeats add up"),
        BUDGET: ("chance", "a convolution is not served: one query tells more than any budget"),
        SHARES: ("chance", "a uniform mask covers the number and its error alike"),
    }

    sure: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ("convolution",)

    @property
    def modes(self) -> tuple[str, ...]:
        if self.flooding_bits is not None:
            return (SHUFFLE,)
        return super().modes if self.queries == 1 else (SHUFFLE, SHARES)

    @property
    def flooding(self) -> int | None:
        return self.flooding_bits

    def expects(self, mode: str) -> tuple[Expected, str]:
        if mode == SHUFFLE and self.flooding_bits is not None:
            return (
                "all",
                "flooding below the ceiling leaves room above it for a client's own errors",
            )
        if mode == SHUFFLE and self.queries >= _ENOUGH:
            return "all", "repeats add up what a query leaves, though flooding is at the ceiling"
        return self.expected[mode]

    def guess(self, oracle: Oracle) -> Guess:
        """The first channel's weights."""
        one, note = tile_impulses(oracle.term, oracle.shape, 0), ""
        flood = 2.0**oracle.flooding_bits
        height = max(1, int((oracle.step / 2 - flood) / _LARGEST_WEIGHT))
        hidden, zero = one.image(oracle.shape), np.zeros(oracle.shape, np.int64)
        outs, _, high, wide = oracle.term.weight.shape
        readings: dict[tuple[int, int], list[np.ndarray]] = {}
        try:
            bias = oracle.ask(zero).numbers
            for _ in range(self.queries):
                seen = oracle.ask(zero, hidden, height)
                whole = (seen.numbers - bias) * oracle.step + seen.residuals
                for _, i, j, row, column in one.reads:
                    readings.setdefault((i, j), []).append(whole[:, row, column] / height)
        except Refused as why:
            note = str(why)
        # Where flooding is low, what is left is the rounding to words, whose error is normal.
        estimate = middle if flood > oracle.rounding else _mean
        weights = np.zeros((outs, 1, high, wide), np.int64)
        for (i, j), read in readings.items():
            weights[:, 0, i, j] = np.rint(np.clip(estimate(np.stack(read)), -128, 128))
        return Guess(weights, note)


def _mean(readings: np.ndarray) -> np.ndarray:
    return readings.mean(0)
