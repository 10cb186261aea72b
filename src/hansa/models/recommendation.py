"""Models of ratings."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model

networks = Lazy("hansa.models.networks")  # they need torch


@register("matrix_factorization")
class MatrixFactorization(Model):
    """A rating as the dot product of a user's and an item's factors (Koren et al., 2009).

    206,680 parameters on MovieLens latest-small (610 users, 9,724 films).
    """

    factors: int = Field(20, ge=1, description="length of a user's and an item's vector")

    def build(self, spec: DataSpec) -> nn.Module:
        """Two tables, drawn from U(-0.05, 0.05)."""
        self.takes(spec, "pairs")
        if len(spec.vocabulary) != 2:
            raise ConfigError(
                "",
                "matrix_factorization",
                "the data do not state how many users and items there are",
                "vocabulary: (users, items) in DataSpec",
            )
        return networks.Factors(*spec.vocabulary, self.factors)
