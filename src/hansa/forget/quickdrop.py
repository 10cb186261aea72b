"""QuickDrop: ascent on the synthetic images of what is to go, recovery on those of the rest.

Dhasade et al., Middleware 2024 (arXiv 2311.15603). The images are some hundredth of the data, so
that a request takes that share of the gradients. The released code has one client reflect a step of
descent and overwrites the server's model; here every holder takes true ascent steps, which are
averaged, until the classes are guessed. The paper recovers for two rounds of ten steps; unlike
clients drift apart meanwhile, so the steps are dealt out over ten rounds of two here, and the
forgotten is looked at after each.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.forget.ascent import Ascent
from hansa.forget.case import Case
from hansa.forget.federation import Asking, Federation
from hansa.forget.method import Forgetting
from hansa.forget.portions import Held, StandIn
from hansa.forget.recovery import Recovery
from hansa.forget.stopping import Watch

if TYPE_CHECKING:
    from torch import Tensor


class AscendAndRecover(Forgetting):
    """Ascent on some data, then recovery on some other."""

    ascent: Ascent = Field(Ascent(), description="driving out what is to be forgotten")
    recovery: Recovery = Field(
        Recovery(rounds=10, steps=2, rechecks=10),
        description="bringing back the rest; as many steps as published: rounds: 2, steps: 10",
    )

    @abstractmethod
    def forgotten(self, federation: Federation) -> Asking[list[Held]]:
        """What is ascended on."""

    @abstractmethod
    def remaining(self, federation: Federation) -> Asking[list[Held]]:
        """What is recovered with."""

    @abstractmethod
    def remains(self, case: Case) -> bool:
        """Whether there is anything to recover with."""

    def term(self, federation: Federation) -> Asking[str]:
        """The name of what clients add to their gradients in the ascent; empty: nothing."""
        yield from ()
        return ""

    def check(self, case: Case) -> None:
        super().check(case)
        if not self.remains(case):
            problem = "nothing remains with which the model could be brought back"
            raise ConfigError("request", str(case.request), problem, "--method sga")

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        row = federation.row
        term = yield from self.term(federation)
        story: dict[str, Any] = {"holders": [], "ascent": {}}
        watches = []
        remaining = yield from self.remaining(federation)
        for part in federation.by_level():  # each with a stopping rule of its own
            holdings = yield from self.forgotten(part)
            if not holdings:
                continue  # those who hold it never took part in training
            level = next(iter(part.request.levels))
            goal = yield from self.ascent.goal(part, row, holdings)
            row, course = yield from self.ascent.run(part, row, holdings, term, goal, remaining)
            story["ascent"][level] = course
            story["holders"] = sorted({*story["holders"], *(h.client for h in holdings)})
            if goal.target is not None:
                watches.append(Watch(part, holdings, goal))
        story["model_after_ascent"] = row
        row, story["recovery"] = yield from self.recovery.run(
            federation, row, remaining, self.ascent, watches
        )
        return row, story


STAND_IN = (
    "a control: what takes the place of the synthetic images; random_real: as many original "
    "examples, noise: as many images of noise"
)


class Distilled(AscendAndRecover):
    """Ascent on the clients' synthetic images."""

    needs_images: ClassVar[bool] = True
    stand_in: StandIn = Field("none", description=STAND_IN)

    def forgotten(self, federation: Federation) -> Asking[list[Held]]:
        return (yield from federation.synthetic(True, self.stand_in))


@register("quickdrop", paper="Dhasade et al.", year=2024, url="https://arxiv.org/abs/2311.15603")
class QuickDrop(Distilled):
    """Ascent on the synthetic images of what is to go, recovery on the rest."""

    real_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of original examples among those of the recovery, drawn anew at every "
        "step; 0: the synthetic images alone, 0.5: as many of both (both published)",
    )

    def remaining(self, federation: Federation) -> Asking[list[Held]]:
        return (yield from federation.synthetic(False, self.stand_in, self.real_share))

    def remains(self, case: Case) -> bool:
        return case.images_remain()


@register("quickdrop_originals")
class OnOriginals(Distilled):
    """QuickDrop's ascent, and recovery on original examples that are drawn anew at every step."""

    examples: float = Field(
        1.5,
        gt=0,
        description="examples of all clients together in a step of the recovery, for each "
        "synthetic image that remains",
    )

    def remaining(self, federation: Federation) -> Asking[list[Held]]:
        images = yield from federation.synthetic(False)
        count = sum(int(one.counts.sum()) for one in images)
        return (yield from federation.sampled(round(self.examples * count)))

    def remains(self, case: Case) -> bool:
        return case.examples_remain()


@register("random_real")
class RandomReal(QuickDrop):
    """A control: as many random original examples in the place of the synthetic images.

    If it does as well, distilling has gained nothing.
    """

    stand_in: StandIn = Field("random_real", description=STAND_IN)


@register("noise")
class Noise(QuickDrop):
    """A control: noise in the place of the synthetic images.

    Ascent on noise that bears a class's label drives the class out as well, so that a low
    accuracy on what was forgotten proves nothing by itself.
    """

    stand_in: StandIn = Field("noise", description=STAND_IN)
