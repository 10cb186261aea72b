"""Models of ratings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model

networks = Lazy("hansa.models.rating_networks")  # they need torch


class Recommender(Model):
    """A model of ratings, whose numbers go by user and by item (see ``RatingNetwork``)."""

    def known(self, spec: DataSpec) -> tuple[int, int]:
        """How many users and items there are.

        Raises:
            ConfigError: the data are no pairs of them, or do not say it.
        """
        self.takes(spec, "pairs")
        if len(spec.vocabulary) != 2:
            raise ConfigError(
                "",
                type(self).name,
                "the data do not state how many users and items there are",
                "vocabulary: (users, items) in DataSpec",
            )
        return spec.vocabulary[0], spec.vocabulary[1]


@register(
    "matrix_factorization",
    paper="Koren et al.",
    year=2009,
    url="https://doi.org/10.1109/MC.2009.263",
)
class MatrixFactorization(Recommender):
    """A rating as mean + user's bias + item's bias + product of their factors (Koren et al., 2009).

    217,015 parameters on MovieLens latest-small (610 users, 9,724 films). A mean that is learned is
    averaged like the others, so no party has to pool its ratings to know it. Who has no ratings
    yet is given the mean and the bias of the other side.
    """

    factors: int = Field(20, ge=1, description="length of a user's and an item's vector")
    biases: bool = Field(True, description="whether users and items have a bias each")
    mean: Literal["learned", "fixed", "none"] = Field(
        "learned", description="whether all ratings share a number, and whether it is trained"
    )
    start: float | None = Field(
        None, description="what that number is at first; none = the middle of the scale, or 0"
    )
    unit: float | None = Field(
        None,
        gt=0,
        description="stars to the model's unit, 0.5: it counts in half stars; none = so that a "
        "scale is 4.5 units wide, as from half a star to five, or 1",
    )
    init: Literal["small", "one_vector"] = Field(
        "small",
        description="small: users' factors and biases at 0, items' factors in U(-0.05, 0.05); "
        "one_vector: one vector in U(0, sqrt(9 / factors)) for all, biases at 1, as the code of "
        "Dhasade et al. (2022) starts, whose unit is half a star and whose mean is none",
    )

    def build(self, spec: DataSpec) -> nn.Module:
        """Tables of factors and biases, and the mean."""
        low, high = spec.scale or (0.0, 0.0)
        unit = self.unit or ((high - low) / 4.5 if high > low else 1.0)
        return networks.Factors(
            *self.known(spec), self.factors, self.biases, self.mean, middle(spec, self.start),
            unit, self.init,
        )  # fmt: skip


@register(
    "neural_recommender", paper="Dhasade et al.", year=2022, url="https://arxiv.org/abs/2202.11655"
)
class NeuralRecommender(Recommender):
    """A rating as what a multilayer perceptron makes of a user's and an item's embedding.

    215,001 parameters on MovieLens latest-small. The paper's own layers are not published in code;
    these are of that size (after He et al., 2017).
    """

    embedding: int = Field(20, ge=1, description="length of a user's and an item's embedding")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (50, 50, 40, 40), description="widths of the hidden layers"
    )
    start: float | None = Field(
        None,
        description="what is predicted at first, about; none = the middle of the scale, or 0",
    )

    def build(self, spec: DataSpec) -> nn.Module:
        """Two tables of embeddings, and linear layers with ReLU between them."""
        return networks.Embedded(
            *self.known(spec), self.embedding, self.hidden, middle(spec, self.start)
        )


def middle(spec: DataSpec, start: float | None) -> float:
    """What is set; else the middle of the scale of ratings, 0 where nobody says it."""
    return start if start is not None else sum(spec.scale) / 2
