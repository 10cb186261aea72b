"""QuickDrop's training: federated averaging that distils each client's data on the way.

Dhasade et al., Middleware 2024 (arXiv 2311.15603). At each local step a client takes a batch of
every class that it has; the classes' gradients g_c, weighed by their shares, are the step,
G = sum_c (n_c / n) g_c, and the same g_c move a few synthetic images of each class, whose gradient
is to point alike. So the images cost no pass over real data, and the model's course is the same
with and without them. They stay with their client; `hansa forget` unlearns with them.

The released code differs: it trains the model on the synthetic images alone (``variant:
synthetic``), sums the classes' gradients (``class_weights: sum``) and copies the images anew from
the data each round (``condensation.persist: false``).
"""

from __future__ import annotations

import copy
import threading
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine import Block, Script, Trainer
from hansa.engine.block import TRAIN_LOSS
from hansa.engine.history import UPDATES
from hansa.engine.shelf import Shelf
from hansa.engine.training.gradients import supports_stacking
from hansa.engine.training.optimizers import clip_norm_
from hansa.ensemble.condensation import PASSES, Cells, Condensation, matched_rows, output_layer
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.learn.federated.cells import Crew, Worked, value_range
from hansa.learn.federated.client_work import Work
from hansa.learn.federated.federated import Federated
from hansa.learn.federated.invitation import Terms
from hansa.learn.federated.mail import Mail

if TYPE_CHECKING:
    from torch import Tensor

_MOST_UPDATES = 1 << 29  # numbers that a server keeps, 2 GiB


@register("quickdrop", paper="Dhasade et al.", year=2024, url="https://arxiv.org/abs/2311.15603")
class QuickDrop(Federated):
    """FedAvg on batches of every class, which distils the clients' data as it goes."""

    apart: ClassVar[bool] = False
    must_tell: ClassVar[frozenset[str]] = frozenset({"sizes", "labels"})
    uses_limits: ClassVar[bool] = True

    distil: bool = Field(True, description="make synthetic images; the model is the same without")
    condensation: Condensation = Field(Condensation(), description="how they are made")
    variant: Literal["reuse", "synthetic"] = Field(
        "reuse",
        description="what the model learns from: the real examples, whose gradients the images "
        "re-use; or the images alone, as in the released code",
    )
    class_weights: Literal["examples", "sum"] = Field(
        "examples", description="weight of a class's mean gradient: its share of the data, or 1"
    )
    keep_updates: int = Field(
        0,
        ge=0,
        description="rounds between two of which the server keeps all clients' updates, for "
        "`hansa forget --method federaser`; 0 = none",
    )

    def unprotected(self, way: str) -> str:
        return "makes images of its examples by their gradients, which nothing noises"

    def start(self, block: Block) -> None:
        super().start(block)
        trainer = cast(Trainer, block.trainer)
        kind = trainer.dataset.spec.kind
        if trainer.dataset.spec.task != "classification" or kind not in ("image", "table"):
            problem = f"distils images or tables with classes, not {kind}"
            raise ConfigError("", None, problem, "another algorithm, such as fedavg")
        if trainer.chance or not supports_stacking(trainer.module):
            problem = "cannot match gradients through dropout or running statistics"
            fix = (
                "a model without them, such as mlp or convnet (GroupNorm or LayerNorm will do); or "
                "fedavg, whose runs hansa forget serves with --method sga or retrain"
            )
            raise ConfigError("", None, problem, fix)
        if self.condensation.match != "gradients" and output_layer(trainer.module) is None:
            problem = "needs a linear output layer, and this model has none"
            fix = "match: gradients"
            raise ConfigError("condensation.match", self.condensation.match, problem, fix)
        if trainer.settings.augment:
            problem = "distils examples as they are, and trains on the same"
            raise ConfigError("", None, problem, "train.augment: []")
        if trainer.settings.precision != "float32":
            problem = "matches gradients by their own gradients, in float32 alone"
            raise ConfigError("", None, problem, "train.precision: float32")
        if trainer.settings.optimizer.finishes:
            problem = "computes every gradient, so that there is nothing to guess"
            raise ConfigError("", None, problem, "train.optimizer: sgd")
        if self.variant == "synthetic" and not self.distil:
            fix = "distil: true, or variant: reuse"
            raise ConfigError("variant", self.variant, "learns from what is distilled", fix)
        if self.keep_updates:
            slots = -(-block.rounds // self.keep_updates)
            shape = (len(block.residents), slots, block.clients, trainer.layout.trainable)
            if prod(shape) > _MOST_UPDATES:
                problem = f"would keep {4 * prod(shape) / 2**30:.1f} GiB of updates"
                raise ConfigError("keep_updates", self.keep_updates, problem, "a larger number")
            block.kept[UPDATES] = torch.zeros(shape)

    def round(self, block: Block, t: int) -> Script:
        block.facts["quickdrop.round"] = t
        return (yield from super().round(block, t))

    def gather(self, block: Block, row: int, mail: Mail, *weights: Any) -> None:
        super().gather(block, row, mail, *weights)
        slot, rest = divmod(block.facts["quickdrop.round"], self.keep_updates or 1)
        if self.keep_updates and not rest:
            senders, updates, _ = mail.messages(int(block.residents[row]))
            kept = block.kept[UPDATES][row, slot]
            for sender, update in zip(senders.tolist(), updates, strict=True):
                kept[sender] = update[: kept.shape[1]]

    def images(self, block: Block) -> SyntheticLayout:
        """Where the clients' images lie."""
        if "quickdrop.images" not in block.facts:
            labels = block.roster.labels
            assert labels is not None  # there are classes, says start
            shape = cast(Trainer, block.trainer).dataset.spec.shape
            layout = SyntheticLayout.of(labels, self.condensation.scale, shape)
            block.facts["quickdrop.images"] = layout
        return block.facts["quickdrop.images"]

    def batches(self, block: Block, batch_size: int) -> np.ndarray:
        """Real examples of each class in a step of each client: int64 [clients, C]."""
        labels = block.roster.labels
        assert labels is not None
        return np.minimum(labels, np.maximum(batch_size, self.images(block).counts))

    def terms(self, block: Block, row: int, chosen: np.ndarray, wanted: int) -> Terms:
        """With what a step of all classes, and the images, cost beside a step of one batch."""
        terms = super().terms(block, row, chosen, wanted)
        trainer = cast(Trainer, block.trainer)
        batching, steps = trainer.settings.batching, np.ones(len(chosen), dtype=np.int64)
        planned = batching.samples(block.sizes[chosen], steps)
        done = self.batches(block, batching.batch_size)[chosen].sum(1)
        if self.distil:
            done = done + self.condensation.passes * self.images(block).counts[chosen].sum(1)
        effort = done / np.maximum(planned, 1)
        return Terms(**{**vars(terms), "effort": effort})

    def local_work(self, work: Work) -> None:
        block = work.crew
        trainer = cast(Trainer, block.trainer)
        settings, layout = trainer.settings, self.images(block)
        crew = Crew(block, layout, self.batches(block, settings.batch_size), trainer)
        how = self.condensation
        cells = Cells(copy.deepcopy(trainer.module), trainer.loss)
        if self.distil:
            shelf = block.shelves.setdefault(SHELF, Shelf())
            bounds = value_range(trainer.dataset, block.facts)
            crew.open_images(shelf, how, bounds, work.t)
        steps, lr = work.invited.steps.copy(), trainer.learning_rate(work.t)
        steps[block.sizes[block.ids] == 0] = 0
        optimizer, size = settings.optimizer, work.parameters
        for slot in optimizer.slots:
            if f"optimizer.{slot}" not in block.state:
                start = torch.zeros(len(block), size, device=trainer.device)
                block.state[f"optimizer.{slot}"] = start
        losses, distances = np.zeros(len(block)), np.full(len(block), np.nan)
        draws, seconds = crew.draws(steps, work.t), np.zeros(2)
        moved = np.zeros_like(steps)
        local = threading.local()  # a module is bound to one cell's numbers at a time

        asked = settings.asked(block.sizes[block.ids])
        most = int(settings.asked(block.sizes[: block.clients]).max())

        def moves(step: int) -> bool:
            return self.distil and how.moves(work.t, most, step)

        def work_on(chunk: np.ndarray, step: int) -> Worked:
            if not hasattr(local, "cells"):
                module = copy.deepcopy(trainer.module)
                local.cells = Cells(module, trainer.loss, how.distance, how.match)
            return crew.work_on(local.cells, chunk, draws, step, how if moves(step) else None)

        for step in range(int(steps.max(initial=0))):
            active = np.flatnonzero(steps > step)
            grads = torch.zeros(len(block), size, device=trainer.device)
            mismatch = np.zeros(len(block))
            results = trainer.map(partial(work_on, step=step), crew.chunks(active))
            for done in results:  # in order, whoever finished first
                crew.add(grads, done.chunk, done.grads, self.class_weights)
                losses += crew.total(done.chunk, done.losses)
                mismatch += done.distances
                seconds += done.seconds
            if self.variant == "reuse":
                self._optimize(work, active, grads, lr)
            else:
                for again in range(int(asked[active].max())):
                    some = active[asked[active] > again]
                    grads.zero_()
                    for chunk in crew.chunks(some):
                        crew.add_synthetic(grads, chunk, cells)
                    self._optimize(work, some, grads, lr)
            if moves(step):
                distances[active] = mismatch[active]
                moved[active] += 1
        if self.distil:
            crew.close_images(shelf)
        self._report(work, crew, steps, moved, losses, distances, (seconds[0], seconds[1]))

    def _optimize(self, work: Work, active: np.ndarray, grads: Tensor, lr: float) -> None:
        """One step of the run file's optimizer by the clients at ``active``."""
        block, size = work.crew, work.parameters
        settings = cast(Trainer, block.trainer).settings
        at = torch.from_numpy(active)
        rows, steps = block.rows[at, :size], block.state["steps"]
        slots = {s: block.state[f"optimizer.{s}"][at] for s in settings.optimizer.slots}
        some = grads[at]
        if settings.clip_norm is not None:
            clip_norm_(some, settings.clip_norm)
        steps[at] += 1
        settings.optimizer.step_(rows, some, slots, steps[at], lr)
        block.rows[at, :size] = rows
        for name, value in slots.items():
            block.state[f"optimizer.{name}"][at] = value

    def _report(
        self,
        work: Work,
        crew: Crew,
        steps: np.ndarray,
        moved: np.ndarray,
        losses: np.ndarray,
        distances: np.ndarray,
        seconds: tuple[float, float],
    ) -> None:
        """Counters, losses, and what distilling cost beside training."""
        block = work.crew
        worked = steps > 0
        mean = np.divide(losses, steps, out=np.full(len(block), np.nan), where=worked)
        block.report[TRAIN_LOSS] = np.where(
            worked, np.nan_to_num(mean, nan=np.inf, posinf=np.inf), np.nan
        )
        real = steps * crew.batch_sizes.sum(1)
        made = moved * crew.images_in.sum(1)
        whole = real + PASSES[self.condensation.match] * made
        block.state["samples"] += torch.from_numpy(np.rint(whole).astype(np.int64))
        if not self.distil:
            return
        rows = matched_rows(cast(Trainer, block.trainer).module, self.condensation.match)
        cells = np.maximum((crew.images_in > 0).sum(1), 1)
        base, more = seconds
        factor = (base + more) / base if base else np.nan
        predicted = np.divide(whole, real, out=np.full(len(block), np.nan), where=real > 0)
        block.report |= {
            "synthetic_samples": np.where(worked, made.astype(np.float64), np.nan),
            "distillation_distance": distances / cells / rows,
            "distillation_time_factor": np.where(worked, factor, np.nan),
            "distillation_work_factor": predicted,
        }
