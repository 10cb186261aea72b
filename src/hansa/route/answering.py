"""What can be asked of a model with adapters mixed in: a query, its mixture, the answer.

A mixture is one weighted sum of adapters, the same for all layers and tokens of one query (output
space, LORAUTER): ``y = W x + sum_a w_a B_a (A_a x)``. Every query of a batch has its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hansa.route.slab import AdapterSlab


Sees = Literal["text", "text_and_candidates"]
"""What a router sees of a query: what its answers may be says much of its task."""


@dataclass(frozen=True)
class Query:
    """What is asked.

    Attributes:
        text: the input.
        candidates: answers to choose from; none: the answer is free text.
    """

    text: str
    candidates: tuple[str, ...] = ()

    def seen(self, sees: Sees = "text") -> str:
        """The text by which it is routed."""
        if sees == "text" or not self.candidates:
            return self.text
        return f"{self.text} {', '.join(self.candidates)}"


@dataclass(frozen=True)
class Mixture:
    """A weighted sum of adapters; empty: the base alone.

    Attributes:
        adapters: indices in the slab. One that stands twice counts with the sum of its weights.
        weights: one for each. Any finite numbers: routing gives some that sum to 1.

    Raises:
        ConfigError: the two differ in length, an index is negative, or a weight is not finite.
    """

    adapters: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.adapters) != len(self.weights):
            problem = f"are {len(self.weights)}, and the adapters are {len(self.adapters)}"
            raise ConfigError("weights", list(self.weights), problem, "one for each adapter")
        for weight in self.weights:
            if not math.isfinite(weight):
                raise ConfigError("weights", weight, "is not finite", "a number")
        for adapter in self.adapters:
            if adapter < 0:
                raise ConfigError("adapters", adapter, "is no index", "0 or more")

    def folded(self) -> Mixture:
        """The same mixture in one form: by index, each adapter once, none of weight 0."""
        sums: dict[int, float] = {}
        for adapter, weight in zip(self.adapters, self.weights, strict=True):
            sums[adapter] = sums.get(adapter, 0.0) + weight
        kept = sorted((adapter, weight) for adapter, weight in sums.items() if weight != 0)
        return Mixture(tuple(a for a, _ in kept), tuple(w for _, w in kept))


BASE = Mixture()
"""The base alone."""


class AnsweringModel(ABC):
    """A model that answers queries, each with its own mixture of the adapters in a slab.

    Attributes:
        module: the base. In eval mode, and never changed.
        slab: the adapters.
    """

    module: nn.Module
    slab: AdapterSlab

    @abstractmethod
    def answers(self, queries: Sequence[Query], mixtures: Sequence[Mixture]) -> list[str]:
        """Answers, row by row with its own mixture, in one batch.

        Raises:
            ConfigError: there are not as many mixtures as queries, a mixture names an adapter that
                the slab does not hold, or a query does not suit the model.
        """

    def embeddings(self, texts: Sequence[str], mixtures: Sequence[Mixture]) -> Tensor:
        """Embeddings [n, d] of texts, each under its own mixture.

        Raises:
            ConfigError: the model has none.
        """
        fix = "a model that embeds, such as a sentence encoder"
        raise ConfigError("model", type(self).__name__, "has no embeddings", fix)

    def checked(self, count: int, mixtures: Sequence[Mixture]) -> list[Mixture]:
        """The mixtures of so many queries, folded.

        Raises:
            ConfigError: they are not as many, or one names an adapter that the slab does not hold.
        """
        if len(mixtures) != count:
            problem = f"are {len(mixtures)}, and the queries are {count}"
            raise ConfigError("mixtures", None, problem, "one mixture for each query")
        folded = [mixture.folded() for mixture in mixtures]
        for mixture in folded:
            self.slab.check(mixture.adapters)
        return folded
