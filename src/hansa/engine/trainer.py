"""Local work: the steps that the nodes of a block take between two exchanges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from hansa.base.errors import RunError
from hansa.data import Dataset
from hansa.engine.batches import draw_batches
from hansa.engine.bench import Strategy, rows_at
from hansa.engine.block import Block
from hansa.engine.evaluator import Evaluator
from hansa.engine.gradients import Passes
from hansa.engine.optim import clip_norm_
from hansa.engine.settings import TrainSettings


class Trainer(Evaluator):
    """Trains (and evaluates) rows of one model on one data set.

    Args:
        settings: local steps, optimizer and the like.
        rounds: length of the run, for the learning rate's schedule.
        others: as for :class:`Bench`.
    """

    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        settings: TrainSettings,
        rounds: int,
        strategy: Strategy,
        device: str = "cpu",
        threads: int = 0,
    ) -> None:
        super().__init__(module, dataset, strategy, device, threads)
        self.settings = settings
        self.rounds = rounds
        self.samples_per_round = settings.local_steps * settings.batch_size

    def train(
        self,
        block: Block,
        round: int,
        who: np.ndarray | None = None,
        steps: int | None = None,
        draw: int | None = None,
    ) -> None:
        """Local steps of the nodes at the block's positions ``who`` (default all), in place.

        The round says the learning rate, and names the streams of the batches unless ``draw``
        does, for nodes that work more than once a round.
        Counts each node's steps and examples and leaves its mean loss in the block's report.
        """
        steps = self.settings.local_steps if steps is None else steps
        draw = round if draw is None else draw
        who = np.arange(len(block.ids)) if who is None else np.asarray(who)
        losses = np.full(len(block.ids), np.nan)
        if steps and len(who):
            self._prepare(block)
            chunks = self.chunks(who)
            found = self.map(
                lambda chunk: self._train_chunk(block, chunk, round, steps, draw), chunks
            )
            # NaN marks nodes at rest, so a loss that is not a number is reported as infinite.
            losses[who] = np.nan_to_num(np.concatenate(list(found)), nan=np.inf, posinf=np.inf)
            block.state["steps"][who] += steps
            block.state["samples"][who] += steps * self.settings.batch_size
        block.report["train_loss"] = losses

    def learning_rate(self, round: int) -> float:
        """The learning rate of a round."""
        factor = self.settings.schedule.factor(round, self.rounds)
        return self.settings.optimizer.lr * factor

    def _prepare(self, block: Block) -> None:
        n, size = len(block.ids), self.layout.trainable
        for slot in self.settings.optimizer.slots:
            if f"optimizer.{slot}" not in block.state:
                block.state[f"optimizer.{slot}"] = torch.zeros(n, size, device=self.device)

    def _train_chunk(
        self, block: Block, chunk: np.ndarray, round: int, steps: int, draw: int
    ) -> np.ndarray:
        try:
            return self._train_rows(block, chunk, round, steps, draw)
        except RunError:
            raise
        except Exception as error:
            ids = block.ids[chunk]
            raise RunError(
                f"{type(error).__name__}: {error}"
                + (f" (in one of nodes {ids[0]}..{ids[-1]})" if len(ids) > 1 else ""),
                node=int(ids[0]) if len(ids) == 1 else None,
                round=round,
                phase="training",
            ) from error

    def _train_rows(
        self, block: Block, chunk: np.ndarray, round: int, steps: int, draw: int
    ) -> np.ndarray:
        passes, grads = self.passes(len(chunk))
        settings, optimizer, size = self.settings, self.settings.optimizer, self.layout.trainable
        drawn = np.stack(
            [
                draw_batches(
                    block.parts[i],
                    steps,
                    settings.batch_size,
                    block.streams.numpy("batches", block.ids[i], draw),
                )
                for i in chunk
            ]
        )
        index = torch.from_numpy(drawn).to(self.device)
        if self.stochastic:
            torch.manual_seed(block.streams.integer("dropout", block.ids[chunk[0]], draw))
        rows, write_back = rows_at(block.rows, chunk)
        slots = {}
        for slot in optimizer.slots:
            slots[slot], back = rows_at(block.state[f"optimizer.{slot}"], chunk)
            write_back = _both(write_back, back)
        count = block.state["steps"][chunk].clone()
        lr = self.learning_rate(round)
        self._load_integers(passes, block, chunk)
        passes.attach(rows, grads)
        total = torch.zeros(len(chunk), device=self.device)
        for step in range(steps):
            x, y = self.dataset.gather(self.dataset.train, index[:, step])
            total += passes.backward(x, y, grads)
            if settings.clip_norm is not None:
                clip_norm_(grads, settings.clip_norm)
            count += 1
            with torch.no_grad():
                optimizer.step_(rows[:, :size], grads, slots, count, lr)
        self._save_integers(passes, block, chunk)
        write_back()
        return (total / steps).cpu().numpy().astype(np.float64)

    def _load_integers(self, passes: Passes, block: Block, chunk: np.ndarray) -> None:
        if self.layout.integer_buffers:
            buffers = dict(passes.module.named_buffers())
            for entry in self.layout.integer_buffers:
                buffers[entry.name].copy_(block.state[f"buffer.{entry.name}"][chunk[0]])

    def _save_integers(self, passes: Passes, block: Block, chunk: np.ndarray) -> None:
        if self.layout.integer_buffers:
            buffers = dict(passes.module.named_buffers())
            for entry in self.layout.integer_buffers:
                block.state[f"buffer.{entry.name}"][chunk[0]] = buffers[entry.name]


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both
