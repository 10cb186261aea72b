"""A made population: attributes from given shares, answers from given rates."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from hansa.audit.population import Attribute, Population
from hansa.audit.population_source import PopulationSource
from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import stats
from hansa.base.streams import Streams

Share = Annotated[float, Field(gt=0, lt=1)]


@register("made")
class Made(PopulationSource):
    """Rows drawn from shares of groups, to try an audit on or to study strategies.

    The chance of a favourable answer is ``rate`` plus what each of a row's groups adds, cut to
    0..1. ``dependence`` ties the attributes together through one hidden cause (a Gaussian copula
    of one factor), so that the groups of different attributes overlap more than by chance.
    """

    rows: int = Field(10_000, ge=2, description="how many")
    attributes: dict[str, Share | dict[str, Share]] = Field(
        {"age": 0.43, "sex": 0.37, "origin": 0.66, "income": 0.85, "status": 0.82},
        min_length=1,
        description="by name the share of the second of two groups (yes, against no), or the "
        "share of each group by its name; they are scaled to add up to 1",
    )
    rate: float = Field(0.5, ge=0, le=1, description="chance of a favourable answer, to begin with")
    effects: dict[str, float | dict[str, float]] = Field(
        {},
        description="by attribute what the second group adds to that chance, or what each group "
        "adds by its name",
    )
    dependence: float = Field(
        0.0, ge=0, lt=1, description="correlation of the attributes through a hidden cause"
    )
    accuracy: float | None = Field(
        None,
        ge=0.5,
        le=1,
        description="chance that the true outcome is the answer given; none = no true outcomes",
    )
    seed: int = Field(0, description="of the draw; the same in every run, whatever its seed")

    def read(self) -> Population:
        streams = Streams(self.seed)
        hidden = streams.numpy("made.hidden").standard_normal(self.rows)
        chance = np.full(self.rows, self.rate)
        attributes = {}
        for place, (name, share) in enumerate(self.attributes.items()):
            shares = share if isinstance(share, dict) else {"no": 1 - share, "yes": share}
            if len(shares) < 2:
                raise ConfigError(f"attributes.{name}", share, "is one group", "give two at least")
            own = streams.numpy("made.attribute", place).standard_normal(self.rows)
            mixed = np.sqrt(self.dependence) * hidden + np.sqrt(1 - self.dependence) * own
            edges = np.cumsum(list(shares.values()))[:-1] / sum(shares.values())
            codes = np.searchsorted(stats.norm.ppf(edges), mixed).astype(np.int16)
            attributes[name] = Attribute(name, tuple(shares), codes)
            chance += self._effects(name, tuple(shares))[codes]
        if unknown := [name for name in self.effects if name not in attributes]:
            raise ConfigError(f"effects.{unknown[0]}", None, "is no attribute", "name one")
        answers = streams.numpy("made.answers").random(self.rows) < np.clip(chance, 0, 1)
        labels = None
        if self.accuracy is not None:
            wrong = streams.numpy("made.labels").random(self.rows) >= self.accuracy
            labels = (answers ^ wrong).astype(np.int8)
        return Population(attributes, answers.astype(np.int8), labels, name="made population")

    def _effects(self, name: str, values: tuple[str, ...]) -> np.ndarray:
        effect = self.effects.get(name, 0.0)
        if not isinstance(effect, dict):
            if len(values) > 2 and effect:
                raise ConfigError(
                    f"effects.{name}",
                    effect,
                    f"{name} has {len(values)} groups: which one adds it?",
                    f"{{{values[-1]}: {effect}}}",
                )
            return np.arange(len(values)) * effect
        if unknown := [value for value in effect if value not in values]:
            raise ConfigError(
                f"effects.{name}", unknown[0], "is no group", f"one of {', '.join(values)}"
            )
        return np.array([effect.get(value, 0.0) for value in values])
