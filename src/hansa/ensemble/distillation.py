"""Knowledge distillation: one student learns on unlabelled inputs what a teacher answers there.

L1 on raw scores with Adam 1e-3, batches of 512 and 100 epochs is FedKD's recipe (Gong et al.,
AAAI 2022), which CPFL (Dhasade et al. 2024) took over; KL with a temperature is Hinton et al.
(2015). Unlike CPFL's code, teacher and student always see the very same augmented inputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hansa.base.errors import Diverged
from hansa.base.lazy import functional as F
from hansa.base.lazy import nn, torch
from hansa.ensemble.ensemble import Scale, Teacher, in_batches, on_scale, slice_size
from hansa.ensemble.inputs import Examples

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, float], None]
"""Called after every epoch with how many are done and the epoch's mean loss."""


class Augment(Protocol):
    """What changes inputs at random, every epoch anew."""

    def __call__(self, x: Tensor, rng: np.random.Generator, /) -> Tensor:
        """Inputs [b, ...] -> other inputs of that shape."""
        ...


class Distillation(BaseModel):
    """How a student is taught."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["l1", "kl", "mse"] = Field(
        "l1",
        description="l1, mse: mean over batch and classes of |student - teacher| or its square; "
        "kl: divergence of the student's probabilities from the teacher's",
    )
    target: Scale = Field(
        "logits",
        description="logits: raw scores; log_probabilities: after a log-softmax of each model "
        "(as in CPFL, whose networks end in one)",
    )
    temperature: float = Field(1.0, gt=0, description="softens the probabilities of kl")
    epochs: int = Field(100, ge=1, description="passes over the inputs")
    batch_size: int = Field(512, ge=1, description="examples a step")
    lr: float = Field(1e-3, gt=0, description="Adam's step size")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's decay of the first moment")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's decay of the second moment")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")


def distill(
    student: nn.Module,
    inputs: Tensor | Examples,
    teacher: Teacher | Tensor,
    settings: Distillation,
    rng: np.random.Generator,
    *,
    augment: Augment | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train the student in place to answer as the teacher does.

    Args:
        student: its outputs are scores [b, C]; its device is where the work is done.
        inputs: [m, ...] model inputs, or what makes them.
        teacher: an ensemble or another function of inputs; or its answers [m, C], already on
            the scale of ``settings.target``. Without augmentation a function is asked only once
            for each example, in batches.
        rng: decides the batches, the augmentation and the student's dropout: the same state
            gives the same student.
        augment: changes each batch before teacher and student see it.
        optimizer: of the student, where a lesson goes on from another; none: a new Adam.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: there is no example, or fixed answers are to be used on changed inputs.
        Diverged: the loss is no longer finite.
    """
    examples = Examples.of(inputs)
    if examples.count == 0:
        raise ValueError("there is nothing to distil on")
    device = next(student.parameters()).device
    answers = _answers(examples, teacher, settings, device, augmented=augment is not None)
    optimizer = optimizer or torch.optim.Adam(
        [parameter for parameter in student.parameters() if parameter.requires_grad],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )

    sliced = not _couples_examples(student)

    def step(index: Tensor) -> Tensor:
        x = examples.take(index).to(device)
        if augment is not None:
            x = augment(x, rng)
        if answers is not None:
            answer = answers.index_select(0, index.to(device))
        else:
            assert not isinstance(teacher, torch.Tensor)
            answer = teacher(x, settings.target).detach()
        size = slice_size(student, x) if sliced else len(x)
        optimizer.zero_grad()
        summed = torch.zeros((), device=device)
        for inputs, wanted in zip(x.split(size), answer.split(size), strict=True):
            loss = distance(on_scale(student(inputs), settings.target), wanted, settings)
            (loss * (len(inputs) / len(x))).backward()
            summed += loss.detach() * len(inputs)
        optimizer.step()
        return summed

    history = []
    with _own_chance(student, device, rng):
        for epoch in range(1, settings.epochs + 1):
            order = torch.from_numpy(rng.permutation(examples.count))
            # Summed on the device: reading every step's loss would make it wait.
            total = torch.stack([step(index) for index in order.split(settings.batch_size)]).sum()
            history.append(float(total) / examples.count)
            if not math.isfinite(history[-1]):
                raise Diverged(
                    f"the student's loss is {history[-1]} in epoch {epoch}", phase="distillation"
                )
            if progress is not None:
                progress(epoch, history[-1])
    return history


def distance(student: Tensor, teacher: Tensor, settings: Distillation) -> Tensor:
    """The loss of the student's scores [b, C] against the teacher's, a scalar."""
    if settings.loss == "l1":
        return (student - teacher).abs().mean()
    if settings.loss == "mse":
        return (student - teacher).square().mean()
    hot = settings.temperature
    # Times hot^2, so that gradients are as large whatever the temperature (Hinton et al. 2015).
    return hot**2 * F.kl_div(
        torch.log_softmax(student / hot, -1),
        torch.log_softmax(teacher / hot, -1),
        reduction="batchmean",
        log_target=True,
    )


def _answers(
    examples: Examples,
    teacher: Teacher | Tensor,
    settings: Distillation,
    device: torch.device,
    augmented: bool,
) -> Tensor | None:
    """The teacher's answers to all examples [m, C]; None where they change with every epoch."""
    if isinstance(teacher, torch.Tensor):
        if augmented:
            raise ValueError("answers to the plain inputs are wrong for augmented ones")
        if len(teacher) != examples.count:
            raise ValueError(f"{len(teacher)} answers to {examples.count} inputs")
        return teacher.detach().to(device)
    if augmented:
        return None
    return in_batches(
        lambda x: teacher(x.to(device), settings.target).detach(), examples, settings.batch_size
    )


def _couples_examples(student: nn.Module) -> bool:
    """Whether an example's answer in training depends on the others in its batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in student.modules())


@contextlib.contextmanager
def _own_chance(
    student: nn.Module, device: torch.device, rng: np.random.Generator
) -> Iterator[None]:
    """Training mode, with dropout drawn from ``rng``; then all is as it was."""
    modes = [(part, part.training) for part in student.modules()]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(rng.integers(2**63)))
        student.train()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode
