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
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.forget.ascent import Ascent
from hansa.forget.federation import Federation
from hansa.forget.holdings import Holding, Synthetic
from hansa.forget.method import Forgetting
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
    def forgotten(self, federation: Federation) -> list[Holding]:
        """What is ascended on."""

    @abstractmethod
    def remaining(self, federation: Federation) -> list[Holding]:
        """What is recovered with."""

    def hook(self, federation: Federation) -> Any:
        """A term of the gradients of the ascent."""
        return None

    def check(self, federation: Federation) -> None:
        super().check(federation)
        if not self.remaining(federation):
            problem = "nothing remains with which the model could be brought back"
            raise ConfigError("request", str(federation.request), problem, "--method sga")

    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        row, hook = federation.row, self.hook(federation)
        story: dict[str, Any] = {"holders": [], "ascent": {}}
        watches, remaining = [], self.remaining(federation)
        for part in federation.by_level():  # each with a stopping rule of its own
            holdings = self.forgotten(part)
            if not holdings:
                continue  # those who hold it never took part in training
            level = next(iter(part.request.levels))
            goal = self.ascent.goal(part, row, holdings)
            row, course = self.ascent.run(part, row, holdings, hook, goal, remaining)
            story["ascent"][level] = course
            story["holders"] = sorted({*story["holders"], *(h.client for h in holdings)})
            if goal.target is not None:
                watches.append(Watch(part, holdings, goal))
        story["model_after_ascent"] = row
        row, story["recovery"] = self.recovery.run(federation, row, remaining, self.ascent, watches)
        return row, story


StandIn = Literal["none", "random_real", "noise"]
STAND_IN = (
    "a control: what takes the place of the synthetic images; random_real: as many original "
    "examples, noise: as many images of noise"
)


class Distilled(AscendAndRecover):
    """Ascent on the clients' synthetic images."""

    needs_images: ClassVar[bool] = True
    stand_in: StandIn = Field("none", description=STAND_IN)

    def images(self, federation: Federation, given: Synthetic) -> Synthetic:
        """What a client uses as its synthetic images."""
        if self.stand_in == "noise":
            return noise(federation, given)
        return given if self.stand_in == "none" else random_real(federation, given)

    def forgotten(self, federation: Federation) -> list[Holding]:
        return [self.images(federation, s) for s in federation.synthetic(forget=True)]


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

    def remaining(self, federation: Federation) -> list[Holding]:
        synthetic = federation.synthetic(forget=False)
        return federation.mixed([self.images(federation, s) for s in synthetic], self.real_share)


@register("quickdrop_originals")
class OnOriginals(Distilled):
    """QuickDrop's ascent, and recovery on original examples that are drawn anew at every step."""

    examples: float = Field(
        1.5,
        gt=0,
        description="examples of all clients together in a step of the recovery, for each "
        "synthetic image that remains",
    )

    def remaining(self, federation: Federation) -> list[Holding]:
        images = sum(len(held.y) for held in federation.synthetic(forget=False))
        return federation.sampled(round(self.examples * images))


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


def random_real(federation: Federation, given: Synthetic) -> Synthetic:
    """As many of a client's own examples of each class as it has synthetic images."""
    job = federation.job
    random = job.streams.numpy("forget.control", given.client)
    part = job.parts[given.client]
    labels = job.dataset.train.targets.cpu().numpy()[part]
    chosen = []
    for label, count in zip(*given.y.unique(return_counts=True), strict=True):
        members = part[labels == int(label)]
        chosen.append(torch.from_numpy(random.choice(members, int(count), replace=False)))
    index = torch.cat(chosen).to(given.y.device)
    return Synthetic(given.client, *job.dataset.gather(job.dataset.train, index))


def noise(federation: Federation, given: Synthetic) -> Synthetic:
    """As many images of standard normal numbers as a client has synthetic images."""
    random = federation.job.streams.numpy("forget.control", given.client)
    drawn = random.standard_normal(tuple(given.x.shape), dtype="float32")
    return Synthetic(given.client, torch.from_numpy(drawn).to(given.x.device), given.y)
