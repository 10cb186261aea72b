"""When to stop: a loss that no longer falls.

CPFL's rule (de Vos et al., 2025): the validation loss is smoothed over the last rounds, and a run
ends when that mean has not improved for so many rounds in a row. The published code asks for any
improvement at all; a loss that creeps down for ever then never stops, so here one must be worth
``min_delta``. ``strict`` is the published rule.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from hansa.engine.settings import Settings


class Plateau(Settings):
    """Stop when the smoothed validation loss has not improved for a number of rounds."""

    window: int = Field(20, ge=1, description="rounds whose mean loss is compared")
    patience: int = Field(100, ge=1, description="rounds without improvement that end the run")
    min_delta: float = Field(
        0.002, ge=0, description="fall of the mean loss that counts as an improvement"
    )
    relative: bool = Field(False, description="min_delta is a share of the best loss so far")
    strict: bool = Field(
        False, description="any fall counts, as in the published code: ignores min_delta"
    )

    def improves(self, mean: float, best: float) -> bool:
        """Whether a smoothed loss is better than the best so far."""
        if math.isinf(best):
            return mean < best
        due = 0.0 if self.strict else self.min_delta * (abs(best) if self.relative else 1.0)
        return mean < best - due


@dataclass
class LossWatch:
    """How far a plateau has come: the losses in the window, the best mean, rounds waited.

    Fits one row of numbers [window + 3], so that it can be saved with the state of a node.
    """

    rule: Plateau
    losses: list[float]
    best: float = math.inf
    waited: int = 0
    stopped: bool = False

    @classmethod
    def start(cls, rule: Plateau) -> LossWatch:
        """Before the first loss."""
        return cls(rule, [])

    def see(self, loss: float) -> bool:
        """Take the loss of a round; returns whether its model is the best so far."""
        loss = math.inf if math.isnan(loss) else loss
        self.losses = [*self.losses, loss][-self.rule.window :]
        mean = statistics.mean(self.losses)  # exact: equal losses have that mean, to the bit
        better = self.rule.improves(mean, self.best)
        if better:
            self.best, self.waited = mean, 0
        else:
            self.waited += 1
        self.stopped = self.waited >= self.rule.patience
        return better

    def row(self) -> np.ndarray:
        """The state as float64 [window + 3]; NaN where the window is not yet full."""
        filled = self.losses + [math.nan] * (self.rule.window - len(self.losses))
        return np.array([self.best, self.waited, self.stopped, *filled])

    @classmethod
    def of(cls, rule: Plateau, row: np.ndarray) -> LossWatch:
        """From such a row."""
        losses = [float(v) for v in row[3:] if not math.isnan(v)]
        return cls(rule, losses, float(row[0]), int(row[1]), bool(row[2]))
