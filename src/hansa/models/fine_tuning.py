"""Fine-tuning of a pre-trained network: AdamW with warm-up over batches of like length.

One loop serves whole models and adapters: what is trained is what requires a gradient, and what
is minimised is the caller's. The same seed gives the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hansa.base.errors import Diverged
from hansa.base.lazy import nn, torch
from hansa.base.streams import Streams
from hansa.models.draws import drawing

if TYPE_CHECKING:
    from torch import Tensor

BUCKET = 16
"""Batches whose examples are sorted by length together: little padding, and a random order."""


class FineTuning(BaseModel):
    """How long and how fast to train."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: float = Field(1.0, gt=0, description="passes over the examples; parts of one count")
    steps: int | None = Field(None, ge=1, description="steps in all, in place of epochs")
    batch_size: int = Field(32, ge=1, description="examples a step")
    lr: float = Field(5e-5, gt=0, description="learning rate at its highest")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW (Loshchilov and Hutter 2019)")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps until it is highest")
    clip: float = Field(1.0, gt=0, description="largest norm of a gradient")
    bfloat16: bool = Field(False, description="compute in bfloat16; weights stay in fp32")
    seed: int = Field(0, ge=0, description="of the order of examples and of dropout")

    def steps_for(self, examples: int) -> int:
        """How many steps so many examples take."""
        return self.steps or max(1, math.ceil(self.epochs * examples / self.batch_size))


@dataclass(frozen=True)
class Tuned:
    """What training came to: the loss at every step."""

    losses: tuple[float, ...]


def fine_tune(
    module: nn.Module,
    loss: Callable[[list[int]], Tensor],
    lengths: Sequence[int],
    settings: FineTuning,
    told: Callable[[int, int, float], None] | None = None,
) -> Tuned:
    """Train in place whatever parameters of a module require a gradient.

    Args:
        module: is in training mode meanwhile, and as it was afterwards.
        loss: the mean loss of the examples with these places.
        lengths: of each example, in tokens; there are as many examples.
        settings: how.
        told: hears of each step: its number from 1, of how many, the loss.

    Raises:
        Diverged: the loss is not finite.
        ValueError: there are no examples, or nothing to train.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained or not lengths:
        raise ValueError("there is nothing to train, or nothing to train on")
    steps = settings.steps_for(len(lengths))
    rise = max(1, round(settings.warmup * steps))
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)

    def pace(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return (steps - step) / max(1, steps - rise)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, pace)
    losses, where = [], trained[0].device.type
    was_training = module.training
    module.train()
    try:
        with drawing(Streams(settings.seed).integer("fine-tuning")):  # dropout's
            batches = _batches(lengths, settings)
            for step in range(1, steps + 1):
                with torch.autocast(where, torch.bfloat16, enabled=settings.bfloat16):
                    value = loss(next(batches))
                if not torch.isfinite(value):
                    raise Diverged(f"the loss is not finite at step {step}; a lower lr may help")
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(trained, settings.clip)
                optimizer.step()
                schedule.step()
                losses.append(float(value.detach()))
                if told is not None:
                    told(step, steps, losses[-1])
    finally:
        module.train(was_training)
    return Tuned(tuple(losses))


def _batches(lengths: Sequence[int], settings: FineTuning) -> Iterator[list[int]]:
    """Places of examples without end; every epoch takes each example once."""
    long = np.asarray(lengths)
    for epoch in range(1 << 62):
        rng = Streams(settings.seed).numpy("fine-tuning.order", round=epoch)
        order = rng.permutation(len(long))
        width = BUCKET * settings.batch_size
        cuts = []
        for start in range(0, len(order), width):
            bucket = order[start : start + width]
            bucket = bucket[np.argsort(long[bucket], kind="stable")]
            cuts += [
                bucket[k : k + settings.batch_size].tolist()
                for k in range(0, len(bucket), settings.batch_size)
            ]
        yield from (cuts[k] for k in rng.permutation(len(cuts)))
