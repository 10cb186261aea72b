"""A public key that is no encryption of zero."""

from __future__ import annotations

from typing import ClassVar

from hansa.base.component import register
from hansa.infer.private.redteam.attacks.extraction import (
    BUDGET,
    SHARES,
    SHUFFLE,
    Expected,
    Guess,
)
from hansa.infer.private.redteam.attacks.mask_leak import MaskLeak
from hansa.infer.private.redteam.oracle import Oracle

_CHOSEN: tuple[Expected, str] = (
    "chance", "the key's mask comes from the server's seed: masks stay a ring-LWE sample"
)  # fmt: skip


@register("false_key")
class FalseKey(MaskLeak):
    """The client sends zeros as its public key, and looks at the reply's masks.

    Were the key's mask the client's to choose, zeros would leave the reply's masks bare but for one
    small error. The server draws the mask from a seed of its own.
    """

    layers: ClassVar[tuple[str, ...]] = ("conv_3", "conv_16")
    bare_key: ClassVar[bool] = True
    expected: ClassVar[dict[str, tuple[Expected, str]]] = dict.fromkeys(
        (SHUFFLE, BUDGET, SHARES), _CHOSEN
    )

    def guess(self, oracle: Oracle) -> Guess:
        """What elimination makes of the masks."""
        return super().guess(oracle)
