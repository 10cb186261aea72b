"""An own formula, no published method: the leavers count less in some more rounds, or against.

All clients make a round of the run's local work, and the server's step is
sum_k w_k a_k delta_k / sum_k w_k a_k with a_k = ``down`` < 1 for leavers and ``up`` for the others.
A negative ``down`` moves the model away from the leavers. VeriFi (Gao et al.) has a method S2U by
the same thought; its formula was not at hand, and what this one gives says nothing about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.forget.case import Case
from hansa.forget.federation import Asking, Federation
from hansa.forget.method import Forgetting
from hansa.forget.original_training import OriginalTraining, uniform
from hansa.forget.request import Level

if TYPE_CHECKING:
    from torch import Tensor


@register("downweight")
class Downweight(Forgetting):
    """Our own formula, no baseline: rounds in which the leavers count less (or against)."""

    levels: ClassVar[tuple[Level, ...]] = ("client",)
    up: float = Field(1.0, ge=1, description="factor of those who stay")
    down: float = Field(0.0, lt=1, description="factor of those who leave")
    rounds: int = Field(2, ge=1, description="such rounds")

    def check(self, case: Case) -> None:
        super().check(case)
        if not case.plan.rate(case.done):
            problem = "goes on at the run's last learning rate, which is 0 by its train.schedule"
            raise ConfigError("method", "downweight", problem, "--method quickdrop or pgd")
        staying = case.remaining(case.job.parts)
        before = case.remaining(case.job.parts, case.past)
        alike, total = uniform(case.plan), 0.0
        for then, now in zip(before, staying, strict=True):
            mass = 1.0 if alike and len(then) else float(len(then))
            total += mass * (self.up if len(now) else self.down)
        if total <= 0:
            problem = "the leavers hold so much that nothing is left of the step"
            raise ConfigError("down", self.down, problem, "nearer to 0")

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        training = OriginalTraining(federation)
        leaving = yield from federation.real(forget=True)
        staying = yield from federation.real(forget=False)
        everyone = leaving + staying
        factors = [self.down] * len(leaving) + [self.up] * len(staying)
        weights = [a * mass for a, mass in zip(factors, training.masses(everyone), strict=True)]
        row = federation.row
        with federation.ledger.phase("downweighting"):
            for _ in range(self.rounds):
                models = yield from training.another_round(row, everyone)
                row = federation.average(models, weights)
        return row, {"weights": weights}
