"""Models of ratings."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.models.model import Model


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
        return Factors(*spec.vocabulary, self.factors)


class Factors(nn.Module):
    """int64 [..., 2] (user, item) -> [..., 1], the rating."""

    def __init__(self, users: int, items: int, factors: int) -> None:
        super().__init__()
        self.users = nn.Embedding(users, factors)
        self.items = nn.Embedding(items, factors)
        for table in (self.users, self.items):
            nn.init.uniform_(table.weight, -0.05, 0.05)

    def forward(self, x: Tensor) -> Tensor:
        """The predicted ratings."""
        product = self.users(x[..., 0]) * self.items(x[..., 1])
        return product.sum(-1, keepdim=True)
