"""Privacy of single examples by noise in the gradients: DP-SGD (Abadi et al., 2016, algorithm 1).

At every local step each example of a node is drawn by itself with chance B / n (Poisson sampling,
which is really done, as the accounting takes it for granted), the gradient of each drawn example
is clipped, and Gaussian noise is added to their sum, which is divided by B whatever was drawn.
All that leaves a node follows from its steps, so that any algorithm is protected that looks at
examples in local steps alone. Each node has its own n, and so its own epsilon. How many examples
each has is taken to be known.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.privacy.privacy import Privacy

_GRID = 1.02


@register("example", paper="Abadi et al.", year=2016, url="https://arxiv.org/abs/1607.00133")
class ExamplePrivacy(Privacy):
    """Each example's gradient is clipped, and noise is added to their sum at every local step."""

    way: ClassVar[str] = "example"
    unit: ClassVar[str] = "one training example of a node, added or removed"

    sampling: Literal["poisson"] = Field(
        "poisson", description="each example is in a batch by itself, with chance batch_size / n"
    )

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"sampling": "poisson"}

    def rate(self, size: int, batch: int) -> float:
        """The chance of an example to be drawn at a step, of ``size``, for ``batch`` expected."""
        return min(1.0, batch / size)

    def counted(self, rate: float) -> float:
        """A rate as it is accounted: up to 2 % more, so that many nodes share a calculation."""
        return min(1.0, _GRID ** math.ceil(math.log(rate) / math.log(_GRID) - 1e-9))
