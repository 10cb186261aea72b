"""A platform as it should not be: noisy, silent, or other towards those whom it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.audit.black_box import NO, REFUSED, YES, Ask, BlackBox
from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams

if TYPE_CHECKING:
    from hansa.audit.population import Population


@register("disturbed")
class DisturbedBox(BlackBox):
    """Another box, disturbed: for studies of noise, of refusals and of manipulation.

    What becomes of an answer hangs on who asks about whom, so that asking again changes nothing.
    """

    of: BlackBox = Field(description="the box whose answers are disturbed")
    flip: float = Field(0.0, ge=0, le=1, description="chance that an answer is turned round")
    refuse: float = Field(0.0, ge=0, le=1, description="chance that a query is refused")
    known: tuple[str, ...] = Field(
        (), description="agents whom the platform knows as auditors, and shows another face"
    )
    favour: float = Field(
        0.5, ge=0, le=1, description="chance that a known auditor hears yes instead of no"
    )
    noise_seed: int = Field(1, description="names the random streams of the disturbance")

    @property
    def batch(self) -> int:
        """That of the box."""
        return self.of.batch

    @property
    def repeatable(self) -> bool:
        """As with the box."""
        return self.of.repeatable

    @property
    def pace(self) -> tuple[float, int] | None:
        """That of the box."""
        return self.of.pace

    @property
    def one_pace(self) -> bool:
        """That of the box."""
        return self.of.one_pace

    @property
    def patience(self) -> float:
        """That of the box."""
        return self.of.patience

    def opened(self, population: Population, agents: Sequence[str]) -> Ask:
        """Open the box.

        Raises:
            ConfigError: the box refuses, or an agent is unknown.
        """
        for name in self.known:
            if name not in agents:
                fix = f"one of {', '.join(agents)}"
                raise ConfigError("known", name, "there is no such agent", fix)
        try:
            inner = self.of.opened(population, agents)
        except ConfigError as error:
            raise error.under("of") from None
        streams = Streams(self.noise_seed)
        chances = {
            name: streams.numpy("audit.disturbed", node=k).random((3, population.rows))
            for k, name in enumerate(agents)
        }

        def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
            answers = np.array(inner(rows, agent, key), dtype=np.int8)
            flip, refuse, favour = chances[agent][:, rows]
            turned = (flip < self.flip) & (answers >= 0)
            answers[turned] = 1 - answers[turned]
            if agent in self.known:
                answers[(favour < self.favour) & (answers == NO)] = YES
            answers[refuse < self.refuse] = REFUSED
            return answers

        return ask
