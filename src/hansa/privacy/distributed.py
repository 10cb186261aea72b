"""Privacy of whole nodes by noise in masked sums, a share by each sender: distributed privacy.

Under secure aggregation a receiver sees only a sum, so that it is enough if the *sum* has noise.
Each sender adds its share in the integers that are masked, and the shares add up: Skellam noise,
the difference of two Poisson numbers (Agarwal et al., 2021, "The Skellam mechanism"), whose sums
are Skellam again, exactly, and which no floating-point number takes part in. What is clipped is how
far a node is from what it last heard, which the others know.

The cost of a release is that of theorem 3.5 there: with sensitivities D1 and D2 of a sum and noise
of variance mu it is, at a whole order a,
a D2^2 / (2 mu) + min(((2a - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu)).
Here mu = (noise D2)^2, D1 <= D2^2 as all are whole numbers, and D2 is at least :data:`FINEST`,
which makes the second term a small one that is the same for all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.privacy import accounting
from hansa.privacy.privacy import Privacy

FINEST = 1024
"""How many steps of the fixed-point numbers a clip has at least."""


@lru_cache(maxsize=256)
def _noise(limit: float, delta: float, times: int) -> float:
    return accounting.up(accounting.least_noise(limit, delta, times, cost))


def cost(noise: float) -> np.ndarray:
    """What a release costs with a noise multiplier, [orders] of the accountant's."""
    if noise <= 0:
        return accounting.gaussian(0.0)
    # The bound is for whole orders, and divergences grow with the order.
    order = np.ceil(np.array(accounting.ORDERS))
    return order / (2 * noise**2) + (2 * order + 5) / (4 * noise**4 * FINEST**2)


@register("distributed", paper="Agarwal et al.", year=2021, url="https://arxiv.org/abs/2110.04995")
class DistributedPrivacy(Privacy):
    """Each sender adds its share of the noise to a masked sum, in whole numbers."""

    way: ClassVar[str] = "distributed"
    unit: ClassVar[str] = "what a node adds to sums, there or not"

    tolerated: int = Field(
        0,
        ge=0,
        description="senders of a sum whose shares of the noise may be missing, or known to its "
        "receiver; the others add more for them",
    )

    def multiplier(self, rate: float, times: int) -> float:
        if self.noise is not None:
            return self.noise
        assert self.epsilon is not None
        return _noise(self.epsilon, self.risk, max(times, 1))

    def cost(self, noise: float, rate: float = 1.0) -> np.ndarray:
        return cost(noise)
