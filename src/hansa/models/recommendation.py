"""Models of ratings."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model

networks = Lazy("hansa.models.networks")  # they need torch


@register(
    "matrix_factorization",
    paper="Koren et al.",
    year=2009,
    url="https://doi.org/10.1109/MC.2009.263",
)
class MatrixFactorization(Model):
    """A rating as mean + user's bias + item's bias + product of their factors (Koren et al., 2009).

    217,015 parameters on MovieLens latest-small (610 users, 9,724 films). The mean is a parameter
    that is learned and averaged like the others, so no party has to pool its ratings to know it.
    Who has no ratings yet is given the mean and the bias of the other side.
    """

    factors: int = Field(20, ge=1, description="length of a user's and an item's vector")
    mean: float = Field(
        0.0, description="what the mean of all ratings starts from, such as the middle of the scale"
    )

    def build(self, spec: DataSpec) -> nn.Module:
        """Tables of factors and biases, and the mean."""
        self.takes(spec, "pairs")
        if len(spec.vocabulary) != 2:
            raise ConfigError(
                "",
                "matrix_factorization",
                "the data do not state how many users and items there are",
                "vocabulary: (users, items) in DataSpec",
            )
        return networks.Factors(*spec.vocabulary, self.factors, self.mean)
