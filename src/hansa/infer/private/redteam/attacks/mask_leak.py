"""The masks of a reply are known sums of the masks that the client sent."""

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
from hansa.infer.private.redteam.solving import solve_modulo

_HIDDEN: tuple[Expected, str] = (
    "chance", "a fresh encryption of zero under the client's key is added to every reply"
)  # fmt: skip


@register("mask_leak")
class MaskLeak(ExtractionAttack):
    """Gaussian elimination modulo a prime on the reply's masks, of one honest query.

    Without re-randomisation the half ``a`` of a reply is the layer applied to the halves that the
    client drew itself. No published attack on Safhire that we know of uses it: they read decoded
    transcripts.
    """

    layers: ClassVar[tuple[str, ...]] = ("conv_3", "conv_16")
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: ("all", "the reply's masks are known sums of the client's own"),
        SHUFFLE: _HIDDEN,
        BUDGET: _HIDDEN,
        SHARES: _HIDDEN,
    }

    def guess(self, oracle: Oracle) -> Guess:
        """The weights of the equations."""
        try:
            one = oracle.mask_equations()
        except Refused as why:
            return Guess(nothing(oracle), str(why))
        return Guess(one.weights(solve_modulo(one.matrix, one.right, one.prime)))
