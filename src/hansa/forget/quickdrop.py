"""QuickDrop: ascent on the synthetic images of what is to go, recovery on the rest.

Dhasade et al., Middleware 2024 (arXiv 2311.15603). The images are some hundredth of the data, so
that a request takes that share of the gradients. The released code has one client reflect a step of
descent and overwrites the server's model; here every holder takes true ascent steps, which are
averaged, until the classes' cross-entropy is that of guessing. It recovers on all synthetic images
for ten steps between two averages. Unlike clients drift apart meanwhile, and the images stay the
same: the default here takes real examples in their place, half as many again, drawn anew at each of
two steps and from clients by their size, and looks at the forgotten after each round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.forget.federation import Federation
from hansa.forget.holdings import Holding, Synthetic
from hansa.forget.method import Ascent, Forgetting, Recovery
from hansa.forget.stopping import Watch

if TYPE_CHECKING:
    from torch import Tensor


class AscendAndRecover(Forgetting):
    """Ascent on some data, then recovery on some other."""

    ascent: Ascent = Field(Ascent(), description="driving out what is to be forgotten")
    recovery: Recovery = Field(Recovery(), description="bringing back the rest")

    def forgotten(self, federation: Federation) -> list[Holding]:
        """What is ascended on."""
        raise NotImplementedError

    def remaining(self, federation: Federation) -> list[Holding]:
        """What is recovered with."""
        raise NotImplementedError

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
        watches = []
        for part in federation.by_level():  # each with a stopping rule of its own
            holdings = self.forgotten(part)
            if not holdings:
                continue  # those who hold it never took part in training
            level = next(iter(part.request.levels))
            goal = self.ascent.goal(part, row, holdings)
            row, told = self.ascent.run(part, row, holdings, hook, goal)
            story["ascent"][level] = told
            story["holders"] = sorted({*story["holders"], *(h.client for h in holdings)})
            if goal.target is not None:
                watches.append(Watch(part, holdings, goal))
        story["model_after_ascent"] = row
        row, story["recovery"] = self.recovery.run(
            federation, row, self.remaining(federation), self.ascent, watches
        )
        return row, story


@register("quickdrop")
class QuickDrop(AscendAndRecover):
    """Ascent on the synthetic images of what is to go, recovery on the rest."""

    needs_images: ClassVar[bool] = True
    real_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of original examples among those of the recovery, drawn anew at every "
        "step; 0: the synthetic images alone, 0.5: as many of both (both published)",
    )
    examples: float = Field(
        1.5,
        gt=0,
        description="with real_share: 1, examples of all clients together in a step of the "
        "recovery, for each synthetic image that remains",
    )
    recovery: Recovery = Field(
        Recovery(rounds=10, steps=2, rechecks=10),
        description="bringing back the rest; published: rounds: 2, steps: 10, rechecks: 0",
    )

    def images(self, federation: Federation, given: Synthetic) -> Synthetic:
        """What a client uses as its synthetic images; controls put others in their place."""
        return given

    def forgotten(self, federation: Federation) -> list[Holding]:
        return [self.images(federation, s) for s in federation.synthetic(forget=True)]

    def remaining(self, federation: Federation) -> list[Holding]:
        given = federation.synthetic(forget=False)
        if self.real_share == 1:
            return federation.sampled(round(self.examples * sum(len(s.y) for s in given)))
        return federation.mixed([self.images(federation, s) for s in given], self.real_share)


@register("random_real")
class RandomReal(QuickDrop):
    """A control: as many random original examples in the place of the synthetic images.

    If it does as well, distilling has gained nothing.
    """

    def images(self, federation: Federation, given: Synthetic) -> Synthetic:
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


@register("noise")
class Noise(QuickDrop):
    """A control: noise in the place of the synthetic images.

    Ascent on noise that bears a class's label drives the class out as well, so that a low
    accuracy on what was forgotten proves nothing by itself.
    """

    def images(self, federation: Federation, given: Synthetic) -> Synthetic:
        random = federation.job.streams.numpy("forget.control", given.client)
        drawn = random.standard_normal(tuple(given.x.shape), dtype="float32")
        return Synthetic(given.client, torch.from_numpy(drawn).to(given.x.device), given.y)
