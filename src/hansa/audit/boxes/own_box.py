"""A platform that decides as a population's own outcomes say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.audit.black_box import Ask, BlackBox
from hansa.base.component import register
from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    from hansa.audit.population import Population


@register("own")
class OwnBox(BlackBox):
    """The outcomes that a data set holds, as if a platform had decided so: for studies."""

    def opened(self, population: Population, agents: Sequence[str]) -> Ask:
        """Take the population's outcomes.

        Raises:
            ConfigError: it has none.
        """
        answers = population.answers
        if answers is None:
            problem = "the population holds no outcomes of its own"
            raise ConfigError("name", "own", problem, "a box: table, callable or http")
        held = np.asarray(answers, dtype=np.int8)

        def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
            return held[rows]

        return ask
