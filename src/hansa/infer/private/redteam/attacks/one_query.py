"""Impulses in all channels of one input show a whole convolution."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

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
from hansa.infer.private.redteam.impulses import plan_impulses, read_impulses
from hansa.infer.private.redteam.oracle import Oracle, Refused

_CHOSEN: tuple[Expected, str] = (
    "all", "a client that may choose what it uploads has the layer, up to the order of channels"
)  # fmt: skip


@register("one_query")
class OneQuery(ExtractionAttack):
    """One input whose impulses are a kernel apart, and as many more as channels need.

    A convolution tells more equations in one query than it has weights: counting queries guards
    nothing. The answer to zero is asked first, for the biases.
    """

    layers: ClassVar[tuple[str, ...]] = ("conv_16", "conv_32", "conv_64")
    takes: ClassVar[tuple[str, ...]] = ("convolution",)
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: _CHOSEN,
        SHUFFLE: _CHOSEN,
        BUDGET: ("part", "what the budget lets pass: nothing where one query tells more than that"),
        SHARES: ("chance", "the client decrypts uniform numbers"),
    }

    def guess(self, oracle: Oracle) -> Guess:
        """The weights that outputs show, of the inputs that were answered."""
        inputs, replies, note = plan_impulses(oracle.term, oracle.shape), [], ""
        try:
            zero = oracle.ask(np.zeros(oracle.shape, np.int64)).numbers
            for one in inputs:
                replies.append(oracle.ask(one.image(oracle.shape)).numbers - zero)
        except Refused as why:
            note = str(why)
        shape = oracle.term.weight.shape
        return Guess(read_impulses(inputs[: len(replies)], replies, shape), note)
