"""Privacy of whole clients by noise that a server adds: DP-FedAvg (McMahan et al., 2018).

The server clips each client's update, divides their sum by the number that it expects whatever
came, and adds Gaussian noise to it. It is trusted; who sees its models is not. With
``sampler: poisson`` each client is drawn by itself, and a round costs the less the rarer that is;
how other samplers draw is not taken into account. With ``quantile`` the clip follows that quantile
of the updates' norms (Andrew et al., 2021, algorithm 1): the share of clients below it is noised
too, which the whole's noise multiplier has in it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.privacy.privacy import Privacy


@register("central", paper="McMahan et al.", year=2018, url="https://arxiv.org/abs/1710.06963")
class CentralPrivacy(Privacy):
    """A server clips its clients' updates and adds noise to their sum."""

    way: ClassVar[str] = "central"
    unit: ClassVar[str] = "a client with all its examples, added or removed"

    quantile: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="let the clip follow this quantile of the updates' norms, from clip on",
    )
    clip_rate: float = Field(0.2, gt=0, description="of quantile: how fast the clip follows")
    count_noise: float | None = Field(
        None,
        gt=0,
        description="of quantile: standard deviation of the noise in the number of clients below "
        "the clip; none = a twentieth of the clients of a round",
    )

    @model_validator(mode="after")
    def _adapts(self) -> Self:
        if self.count_noise is not None and self.quantile is None:
            problem = "is noise in a count that is only made where the clip follows a quantile"
            raise ConfigError("count_noise", self.count_noise, problem, "quantile: 0.5")
        return self

    def spread(self, expected: float) -> float:
        """The standard deviation of the noise in the count, for so many clients expected."""
        return expected / 20 if self.count_noise is None else self.count_noise

    def in_sum(self, noise: float, expected: float) -> float:
        """The multiplier of the sum's own noise, where both together are to have ``noise``.

        Raises:
            ConfigError: the count's noise is too small for that.
        """
        if self.quantile is None or noise == 0:
            return noise
        spread = self.spread(expected)
        left = noise**-2 - (2 * spread) ** -2
        if left <= 0:
            problem = f"is too little beside a noise multiplier of {noise:.3g}"
            fix = f"more than {noise / 2:.3g}, or more clients a round, or no quantile"
            raise ConfigError("count_noise", spread, problem, fix)
        return float(left**-0.5)

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({"quantile": self.quantile} if self.quantile else {})
