"""One-shot distillation without data: inputs are made up so that the ensemble can teach on them.

DENSE (Zhang et al., NeurIPS 2022): in every epoch a generator, started anew, makes a batch of
inputs for random labels. It goes down on

    CE(teacher, label) + statistics of batch normalization - T^2 KL(teacher || student)

the last only where the two name different classes; the batch of its lowest loss joins a pool, and
the student learns on the whole pool what the teacher answers.

Co-Boosting (Dai et al., ICLR 2024) adds three things (``boost``): an example that the teacher finds
easy counts less, by 1 - p(label); the student and the teacher see inputs that were moved by the
sign of a random direction's gradient; and the teacher, a weighted mean of logits, moves its weights
by the sign of the gradient of its own error on the pool, within 0 and 1.

As in the released code: the noise is learned with the generator, whose gradient has norm 10 at
most. Not as there: the pool is neither cropped nor flipped, the student's gradient is not clipped,
the perturbation is measured in ranges of a pixel (there in units of model input), statistics count
in both methods (there a switch that is off), and Co-Boosting's adversarial term has DENSE's mask.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hansa.base.lazy import Lazy, nn, torch
from hansa.base.lazy import functional as F
from hansa.ensemble.distillation import Distillation, Progress, distill
from hansa.ensemble.ensemble import evaluating
from hansa.ensemble.generator import generator, restart
from hansa.ensemble.inputs import InputForm
from hansa.ensemble.mixture import Mixture, mixed, moved, perturbed

if TYPE_CHECKING:
    from torch import Tensor

networks = Lazy("hansa.ensemble.networks")  # they need torch

_CLIP = 10.0  # largest norm of the generator's gradient


class DataFree(BaseModel):
    """How a student is taught without data, by DENSE or Co-Boosting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(200, ge=1, description="batches of inputs that are made")
    batch_size: int = Field(128, ge=2, description="inputs of such a batch, and of a student's")
    steps: int = Field(30, ge=1, description="steps of the generator for a batch")
    latent: int = Field(256, ge=1, description="numbers of noise behind an input")
    width: int = Field(64, ge=1, description="channels (units, for tables) of the generator")
    generator_lr: float = Field(1e-3, gt=0, description="its Adam's step size")
    label: float = Field(1.0, ge=0, description="weight of the cross-entropy")
    statistics: float = Field(
        1.0, ge=0, description="weight of the distance to what batch normalization has seen"
    )
    adversarial: float = Field(1.0, ge=0, description="weight of what the student has yet to learn")
    adversarial_temperature: float = Field(3.0, gt=0, description="of that term's probabilities")
    passes: int = Field(1, ge=1, description="of the student over the pool after each batch")
    lr: float = Field(0.01, gt=0, description="student's SGD, on a cosine over the epochs")
    momentum: float = Field(0.9, ge=0, lt=1, description="student's")
    weight_decay: float = Field(1e-4, ge=0, description="student's L2 penalty")
    temperature: float = Field(4.0, gt=0, description="of the probabilities it learns")
    hardness: float = Field(1.0, ge=0, description="coboosting: power of 1 - p(label)")
    perturbation: float = Field(
        8 / 255, ge=0, description="coboosting: share of a pixel's range that inputs move by"
    )
    weight_step: float = Field(0.01, ge=0, description="coboosting: step of a member's weight")
    weight_shrink: float = Field(
        0.99, gt=0, le=1, description="coboosting: what that is multiplied by every epoch"
    )


@dataclass(frozen=True)
class Taught:
    """What a data-free lesson came to.

    Attributes:
        weights: of the members in the teacher's mean at the end, [n].
        pool: made-up inputs [m, ...], in the order in which they were made.
        history: mean loss of the student in each epoch.
    """

    weights: Tensor
    pool: Tensor
    history: list[float]


def label_loss(teacher: Tensor, labels: Tensor, hardness: float = 0.0) -> Tensor:
    """Mean cross-entropy of scores [b, C], each times (1 - p(label)) ** hardness."""
    losses = F.cross_entropy(teacher, labels, reduction="none")
    # p without a gradient: it says how much an example counts, and is no way to count less.
    return ((1 - torch.exp(-losses.detach())) ** hardness * losses).mean()


def adversarial_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """- T^2 KL(teacher || student), 0 where both name the same class; mean over [b, C]."""
    apart = student.argmax(-1) != teacher.argmax(-1)
    said, wanted = (torch.log_softmax(z / temperature, -1) for z in (student, teacher))
    kl = F.kl_div(said, wanted, reduction="none", log_target=True).sum(-1)
    return -(temperature**2) * (kl * apart).mean()


class Statistics:
    """How far batches are from what batch normalization has seen in training.

    For every such layer of the members |mean - running mean| + |variance - running variance|, L2
    norms over channels, summed, over the number of members (DeepInversion, Yin et al., 2020).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        self.members, self._found = len(members), list[torch.Tensor]()
        self._hooks = [
            part.register_forward_pre_hook(self._look)
            for member in members
            for part in member.modules()
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None
        ]

    def _look(self, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        x = given[0].transpose(0, 1).flatten(1)  # [channels, all the rest]
        means = torch.linalg.vector_norm(x.mean(1) - layer.running_mean)
        variances = torch.linalg.vector_norm(x.var(1, unbiased=False) - layer.running_var)
        self._found.append(means + variances)

    def take(self) -> Tensor | float:
        """The distance over all forward passes since the last call; 0 without such layers."""
        total = torch.stack(self._found).sum() / self.members if self._found else 0.0
        self._found.clear()
        return total

    def close(self) -> None:
        """Look no more."""
        for hook in self._hooks:
            hook.remove()


def data_free(
    student: nn.Module,
    members: Sequence[nn.Module],
    form: InputForm,
    outputs: int,
    settings: DataFree,
    rng: np.random.Generator,
    *,
    boost: bool = False,
    progress: Progress | None = None,
) -> Taught:
    """Train the student in place to answer as the members do together, on inputs made up.

    Args:
        student: its outputs are scores [b, outputs]; its device is where the work is done.
        members: differentiable models of the same outputs; they are not changed.
        form: of the inputs.
        outputs: C, or 1 for two classes told apart by one score.
        rng: decides everything random: the same state gives the same student.
        boost: Co-Boosting rather than DENSE.

    Raises:
        Diverged: the student's loss is no longer finite.
    """
    device = next(student.parameters()).device
    if outputs == 1:
        student, members = (
            networks.TwoScores(student),
            [networks.TwoScores(member) for member in members],
        )
    teacher = Mixture(members, device)
    chance = torch.Generator().manual_seed(int(rng.integers(2**63)))
    maker = _Maker(teacher, student, form, max(outputs, 2), settings, chance, boost)
    reach = settings.perturbation * form.span.to(device)
    optimizer = torch.optim.SGD(
        student.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    course = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    lesson = Distillation(
        loss="kl",
        temperature=settings.temperature,
        epochs=settings.passes,
        batch_size=settings.batch_size,
    )
    inputs, scores, labels = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
    history = list[float]()
    for epoch in range(settings.epochs):
        made, wanted = maker.batch()
        if boost:  # one step for each batch that was there before, as in the released code
            step = settings.weight_step * settings.weight_shrink**epoch
            for k in torch.randperm(len(inputs), generator=chance).tolist():
                teacher.weights = moved(teacher.weights, scores[k], labels[k], step)
        inputs.append(made)
        labels.append(wanted)
        with torch.no_grad():  # members never change: each is asked once about each input
            scores.append(teacher.scores(made))
        pool = torch.cat(inputs)
        if boost:
            losses = distill(
                student, pool, teacher, lesson, rng, optimizer=optimizer,
                augment=lambda x, rng: perturbed(x, teacher, reach, rng),
            )  # fmt: skip
        else:
            answers = mixed(torch.cat(scores, 1), teacher.weights)
            losses = distill(student, pool, answers, lesson, rng, optimizer=optimizer)
        course.step()
        history.append(losses[-1])
        if progress is not None:
            progress(epoch + 1, losses[-1])
    maker.statistics.close()
    return Taught(teacher.weights, torch.cat(inputs), history)


class _Maker:
    """Batches of inputs for random labels."""

    def __init__(
        self,
        teacher: Mixture,
        student: nn.Module,
        form: InputForm,
        classes: int,
        settings: DataFree,
        chance: torch.Generator,
        boost: bool,
    ) -> None:
        self.teacher, self.student, self.settings = teacher, student, settings
        self.classes, self.chance, self.boost = classes, chance, boost
        self.statistics = Statistics(teacher.members)
        with torch.random.fork_rng(devices=[]):  # its first numbers are thrown away
            self.generator = generator(form, settings.latent, settings.width)

    def batch(self) -> tuple[Tensor, Tensor]:
        """(inputs [b, ...], labels [b]): those of the step with the lowest loss."""
        settings, device = self.settings, self.teacher.weights.device
        restart(self.generator, self.chance)
        network = copy.deepcopy(self.generator).to(device).train()
        noise = torch.randn(settings.batch_size, settings.latent, generator=self.chance).to(device)
        labels = torch.randint(self.classes, (settings.batch_size,), generator=self.chance).to(
            device
        )
        noise.requires_grad_()
        numbers = list(network.parameters())
        optimizer = torch.optim.Adam(
            [*numbers, noise], lr=settings.generator_lr, betas=(0.5, 0.999), fused=True
        )
        best, made = math.inf, None
        with evaluating(self.student):
            for _ in range(settings.steps):
                x = network(noise)
                if x.ndim == 4:  # twice as fast through convolutions
                    x = x.contiguous(memory_format=torch.channels_last)
                self.statistics.take()
                loss = self.loss(x, labels)
                if made is None or float(loss.detach()) < best:
                    best, made = float(loss.detach()), x.detach()
                optimizer.zero_grad()
                loss.backward(inputs=[*numbers, noise])
                nn.utils.clip_grad_norm_(numbers, _CLIP)
                optimizer.step()
        self.statistics.take()
        assert made is not None  # there is at least one step
        return made, labels

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """What the generator goes down on."""
        settings = self.settings
        answer = mixed(self.teacher.scores(x), self.teacher.weights)
        total = settings.label * label_loss(
            answer, labels, settings.hardness if self.boost else 0.0
        )
        total = total + settings.statistics * self.statistics.take()
        if settings.adversarial:
            apart = adversarial_loss(self.student(x), answer, settings.adversarial_temperature)
            total = total + settings.adversarial * apart
        return total
