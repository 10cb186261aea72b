"""What every way of differential privacy has: a bound, noise, and what it may cost.

A contribution is clipped to an L2 norm, so that none changes a sum by more, and noise in proportion
to that bound hides what each has changed (Dwork et al., 2006; Abadi et al., 2016).
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.privacy import accounting

WAYS = {
    "example": "privacy: example, whose noise is in the gradients",
    "local": "privacy: local, which has each sender add noise",
    "central": "privacy: central, which has a server add noise",
    "distributed": "privacy: distributed, whose noise is in masked sums",
}
"""Where noise comes in, with words that name each."""


class Privacy(Component, kind="privacy"):
    """How much of what is released, and how much noise hides it."""

    way: ClassVar[str] = ""
    """Where noise comes in, of :data:`WAYS`."""
    unit: ClassVar[str] = ""
    """What two data sets differ in that nobody can tell apart."""
    sensitivity: ClassVar[float] = 1.0
    """How far that can move a release, in clips."""

    clip: float | None = Field(
        None, gt=0, description="largest L2 norm of what one contributes; the rest is cut off"
    )
    noise: float | None = Field(
        None,
        ge=0,
        description="multiplier: the noise's standard deviation, in clips; 0 = clipping alone",
    )
    epsilon: float | None = Field(
        None, gt=0, description="instead of noise: as much of it as this epsilon needs"
    )
    delta: float | None = Field(
        None, gt=0, lt=1, description="chance that the guarantee does not hold; well below 1 / n"
    )
    budget: float | None = Field(
        None, gt=0, description="epsilon that a run with a given noise ends before it passes"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.clip is None:
            problem = "noise without clipping hides nothing: one contribution has no bound"
            raise ConfigError("clip", None, problem, "clip: 1.0, the largest L2 norm of one")
        if self.noise is None and self.epsilon is None:
            fix = "noise: 1.0, or epsilon: 8 for as much noise as that needs"
            raise ConfigError("noise", None, "neither noise nor epsilon says how much", fix)
        if self.noise is not None and self.epsilon is not None:
            fix = "one of them; budget: ends a run with a given noise"
            raise ConfigError("epsilon", self.epsilon, "and noise say the same thing", fix)
        if self.delta is None:
            problem = "an epsilon means nothing without a delta"
            raise ConfigError("delta", None, problem, "delta: 1e-5, well below 1 / n")
        if self.budget is not None and self.epsilon is not None:
            problem = "is said by epsilon already, which no run passes"
            raise ConfigError("budget", self.budget, problem, "epsilon alone, or noise and budget")
        if self.budget is not None and not self.noise:
            raise ConfigError("budget", self.budget, "is passed at once without noise", "noise: 1")
        return self

    @property
    def bound(self) -> float:
        """The clip, in the units of what is clipped."""
        assert self.clip is not None  # it is refused otherwise
        return self.clip

    @property
    def risk(self) -> float:
        """The delta."""
        assert self.delta is not None  # it is refused otherwise
        return self.delta

    @property
    def limit(self) -> float | None:
        """The epsilon that a run may not pass; None: it may come to any."""
        return self.epsilon if self.budget is None else self.budget

    def multiplier(self, rate: float, times: int) -> float:
        """The noise multiplier of ``times`` releases, each of a part drawn with chance ``rate``.

        Raises:
            ConfigError: no noise is enough.
        """
        if self.noise is not None:
            return self.noise
        assert self.epsilon is not None
        found = accounting.calibrated(self.epsilon, self.risk, rate, max(times, 1))
        return found * self.sensitivity

    def cost(self, noise: float, rate: float = 1.0) -> np.ndarray:
        """What one release costs with a noise multiplier, [orders] of the accountant's."""
        return accounting.gaussian(noise / self.sensitivity, rate)

    def facts(self) -> dict[str, Any]:
        """What a summary says of it, besides what it came to."""
        said: dict[str, Any] = {"way": self.way, "unit": self.unit, "delta": self.delta}
        said |= {"clip": self.clip, "accountant": accounting.ACCOUNTANT}
        return said | ({} if self.limit is None else {"limit": self.limit})
