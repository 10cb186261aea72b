"""The errors of a reply are known sums of the errors that the client drew."""

from __future__ import annotations

from typing import ClassVar

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
from hansa.infer.private.redteam.oracle import Oracle, Refused, nothing
from hansa.infer.private.redteam.solving import solve_rounded

_FLOODED: tuple[Expected, str] = (
    "chance", "flooding drowns honest errors, and rounding to 32 bits takes what is below"
)  # fmt: skip


@register("residual_leak")
class ResidualLeak(ExtractionAttack):
    """Least squares on what lies between decrypted numbers and ciphertexts, of one honest query.

    Without flooding the error of a reply is the layer applied to the errors that the client drew.
    """

    layers: ClassVar[tuple[str, ...]] = ("conv_3", "conv_16")
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: ("all", "the reply's errors are known sums of the client's own"),
        SHUFFLE: _FLOODED,
        BUDGET: _FLOODED,
        SHARES: ("chance", "a uniform mask covers the number and its error alike"),
    }

    def guess(self, oracle: Oracle) -> Guess:
        """The weights of the equations."""
        try:
            one = oracle.residual_equations()
        except Refused as why:
            return Guess(nothing(oracle), str(why))
        return Guess(one.weights(solve_rounded(one.matrix, one.right)))
