"""Liars of different kinds at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.infer.robust.attacks.black_box import LogitFlip
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene
from hansa.infer.robust.attacks.white_box import SecondClass

if TYPE_CHECKING:
    from torch import Tensor


@register("mixed")
class Mixed(InferenceAttack):
    """The k-th liar uses the k-th of several attacks, and then from the first again."""

    attacks: tuple[InferenceAttack, ...] = Field(
        (LogitFlip(), SecondClass()), min_length=1, description="which"
    )

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """Each attack is asked as if all liars used it."""
        rows = scene.own(probabilities).clone()
        for k, attack in enumerate(self.attacks):
            whole = attack.forge(probabilities, scene)
            rows[:, k :: len(self.attacks)] = scene.own(whole)[:, k :: len(self.attacks)]
        return scene.send(probabilities, rows)
