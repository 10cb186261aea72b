"""Attacks of nodes that tell each other what they should send before any of them sends.

In the papers attackers often know all honest rows. Here nobody sees what others send each other or
a server, so that colluders take their own rows, which they have trained as honest nodes do, for a
sample of the honest ones. That is what Baruch et al. assume, too.
"""

from __future__ import annotations

from abc import abstractmethod
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.ensemble.attacks import Attack, Scene

if TYPE_CHECKING:
    from torch import Tensor


class _Colluding(Attack):
    colluding: ClassVar[bool] = True

    def forge(self, rows: Tensor, scene: Scene) -> Tensor:
        assert scene.honest is not None  # they collude
        return self.together(scene.honest, scene).to(rows).expand_as(rows)

    @abstractmethod
    def together(self, honest: Tensor, scene: Scene) -> Tensor:
        """The row [K] that all send, from what they should have sent, [c, K]."""


@register(
    "a_little_is_enough", paper="Baruch et al.", year=2019, url="https://arxiv.org/abs/1902.06156"
)
class ALittleIsEnough(_Colluding):
    """The mean of what attackers should send less z standard deviations of each number.

    Few enough to hide among the honest ones' spread (ALIE; Baruch et al., 2019). A single attacker
    knows no spread and sends its own.
    """

    z: float | None = Field(
        None,
        gt=0,
        description="how many deviations; so many that the nodes that make a majority with the "
        "attackers are further off, if not given",
    )

    def together(self, honest: Tensor, scene: Scene) -> Tensor:
        """mean - z · deviation."""
        z = largest_hidden_z(scene.parties, len(scene.attackers)) if self.z is None else self.z
        return honest.mean(0) - z * honest.std(0, correction=0)


def largest_hidden_z(nodes: int, attackers: int) -> float:
    """z of Baruch et al., algorithm 3: s honest nodes, enough for a majority with the attackers,
    are expected to be more than z deviations off. Not below 0; at least one node."""
    honest = nodes - attackers
    supporters = max(1, nodes // 2 + 1 - attackers)
    share = (honest - supporters) / honest
    return max(0.0, NormalDist().inv_cdf(share)) if share > 0 else 0.0


@register("inner_product", paper="Xie et al.", year=2019, url="https://arxiv.org/abs/1903.03936")
class InnerProduct(_Colluding):
    """All attackers send the opposite of the mean of theirs (Xie et al., 2019)."""

    scale: float = Field(1.0, gt=0, description="how many times as large")

    def together(self, honest: Tensor, scene: Scene) -> Tensor:
        """-scale · mean."""
        return -self.scale * honest.mean(0)


@register("mimic", paper="Karimireddy et al.", year=2022, url="https://arxiv.org/abs/2006.09365")
class Mimic(_Colluding):
    """All attackers send what one of them should: nothing is false, but one voice counts too often.

    In the paper they copy an honest node that is far from the others, always the same. As none
    sees honest rows, they copy the first of their own that sends in the exchange: what that does
    depends on how far its examples are from the others'.
    """

    def together(self, honest: Tensor, scene: Scene) -> Tensor:
        """The first one's."""
        return honest[0]
