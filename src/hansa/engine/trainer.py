"""Local work and evaluation of a block of nodes, on all cores.

Nodes are cut into *chunks*: one node each when looped, as many as fit the cache when stacked. A
chunk takes all its steps of the round on one thread with one intra-op thread, and several chunks
run side by side. So both cores are busy with whole nodes and not with halves of small operations,
and what a node computes does not depend on how many threads or workers there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hansa.base.errors import RunError
from hansa.data import Dataset, Split
from hansa.engine.batches import draw_batches
from hansa.engine.gradients import (
    Looped,
    Passes,
    Stacked,
    cross_entropy,
    is_stochastic,
    no_grad_outputs,
    squared_error,
)
from hansa.engine.optim import clip_norm_
from hansa.engine.settings import TrainSettings
from hansa.models import ParameterLayout

if TYPE_CHECKING:
    from hansa.engine.block import Block

Strategy = Literal["looped", "stacked"]
T = TypeVar("T")
_CHUNK_BYTES = 2 << 20  # rows of a stacked chunk, so that they stay in cache over a round's steps
_CHUNK_BYTES_DEVICE = 2 << 30
_RESIDENT_BYTES = 512 << 20  # an evaluation set up to this size is decoded once


class Trainer:
    """Trains and evaluates rows of one model on one data set.

    Args:
        module: the model; it is copied, never changed.
        dataset: where batches come from.
        settings: local steps, optimizer and the like.
        rounds: length of the run, for the learning rate's schedule.
        strategy: how the nodes of a chunk are run.
        threads: chunks at a time; 0 takes torch's number of threads.
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
        self.device = torch.device(device)
        self.module = module.to(self.device)
        self.layout = ParameterLayout.of(module)
        self.dataset = dataset
        self.settings = settings
        self.rounds = rounds
        self.strategy = strategy
        self.stochastic = is_stochastic(module)
        self.loss = cross_entropy if dataset.spec.task == "classification" else squared_error
        if self.stochastic or self.device.type != "cpu":
            threads = 1
        self.threads = threads or torch.get_num_threads()
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._resident: dict[int, tuple[Tensor, Tensor]] = {}

    # -- local work ------------------------------------------------------------------------

    def train(
        self, block: Block, round: int, who: np.ndarray | None = None, steps: int | None = None
    ) -> None:
        """Local steps of the nodes at the block's positions ``who`` (default all), in place.

        Counts each node's steps and examples and leaves its mean loss in the block's report.
        """
        steps = self.settings.local_steps if steps is None else steps
        who = np.arange(len(block.ids)) if who is None else np.asarray(who)
        losses = np.full(len(block.ids), np.nan)
        if steps and len(who):
            self._prepare(block)
            chunks = self._chunks(who)
            found = self._map(lambda chunk: self._train_chunk(block, chunk, round, steps), chunks)
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

    def _train_chunk(self, block: Block, chunk: np.ndarray, round: int, steps: int) -> np.ndarray:
        try:
            return self._train_rows(block, chunk, round, steps)
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

    def _train_rows(self, block: Block, chunk: np.ndarray, round: int, steps: int) -> np.ndarray:
        passes, grads = self._passes(len(chunk))
        settings, optimizer, size = self.settings, self.settings.optimizer, self.layout.trainable
        drawn = np.stack(
            [
                draw_batches(
                    block.parts[i],
                    steps,
                    settings.batch_size,
                    block.streams.numpy("batches", block.ids[i], round),
                )
                for i in chunk
            ]
        )
        index = torch.from_numpy(drawn).to(self.device)
        if self.stochastic:
            torch.manual_seed(block.streams.integer("dropout", block.ids[chunk[0]], round))
        rows, write_back = _view(block.rows, chunk)
        slots = {}
        for slot in optimizer.slots:
            slots[slot], back = _view(block.state[f"optimizer.{slot}"], chunk)
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

    # -- evaluation ------------------------------------------------------------------------

    def evaluate(self, rows: Tensor, split: Split, batch_size: int) -> dict[str, np.ndarray]:
        """Loss and accuracy (or RMSE) of each row [k, D] on a whole split, float64 [k]."""
        x, y = self._resident_split(split)
        chunks = self._chunks(np.arange(len(rows)))
        found = list(
            self._map(lambda chunk: self._evaluate_rows(rows, chunk, x, y, batch_size), chunks)
        )
        loss, hits = (np.concatenate(part) for part in zip(*found, strict=True))
        if self.dataset.spec.task == "classification":
            return {"loss": loss, "accuracy": hits}
        return {"loss": loss, "rmse": np.sqrt(loss)}

    def _evaluate_rows(
        self, rows: Tensor, chunk: np.ndarray, x: Tensor, y: Tensor, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        passes, _ = self._passes(len(chunk))
        passes.attach(_view(rows, chunk)[0], None)
        k = len(chunk)
        loss, hits = np.zeros(k), np.zeros(k)
        for start in range(0, len(y), batch_size):
            inputs, targets = x[start : start + batch_size], y[start : start + batch_size]
            outputs = no_grad_outputs(passes, inputs.unsqueeze(0))
            for i in range(k):
                loss[i] += float(self.loss(outputs[i], targets).double().sum())
            if self.dataset.spec.task == "classification":
                hits += (outputs.argmax(-1) == targets).sum(1).cpu().numpy()
        return loss / len(y), hits / len(y)

    def _resident_split(self, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a whole split as the model takes them, decoded once."""
        if id(split) not in self._resident:
            x, y = self.dataset.gather(split, torch.arange(len(split), device=self.device))
            if x.numel() * x.element_size() > _RESIDENT_BYTES:
                return x, y
            self._resident[id(split)] = (x, y)
        return self._resident[id(split)]

    # -- chunks and threads ----------------------------------------------------------------

    def _chunks(self, who: np.ndarray) -> list[np.ndarray]:
        size = 1
        if self.strategy == "stacked":
            room = _CHUNK_BYTES if self.device.type == "cpu" else _CHUNK_BYTES_DEVICE
            size = max(8, room // max(self.layout.nbytes, 1))
        return [who[start : start + size] for start in range(0, len(who), size)]

    def _passes(self, k: int) -> tuple[Passes, Tensor]:
        """This thread's own passes and a gradient buffer [k, P]."""
        local = self._local
        if not hasattr(local, "passes"):
            kind = Looped if self.strategy == "looped" else Stacked
            local.passes = kind(self.module, self.layout, self.loss)
            local.passes.module.train()
            local.grads = torch.zeros(0, self.layout.trainable, device=self.device)
        if len(local.grads) < k:
            local.grads = torch.zeros(k, self.layout.trainable, device=self.device)
        return local.passes, local.grads[:k]

    def _map(self, work: Callable[[np.ndarray], T], chunks: list[np.ndarray]) -> Iterable[T]:
        if self.device.type != "cpu" or self.stochastic:
            return map(work, chunks)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self.threads, "hansa-train", initializer=torch.set_num_threads, initargs=(1,)
            )
        return self._pool.map(work, chunks)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _view(rows: Tensor, chunk: np.ndarray) -> tuple[Tensor, Callable[[], None]]:
    """Rows at these positions, as a view where they are adjacent, and what writes them back."""
    if chunk[-1] - chunk[0] + 1 == len(chunk):
        return rows[int(chunk[0]) : int(chunk[-1]) + 1], _nothing
    index = torch.from_numpy(chunk).to(rows.device)
    copied = rows[index]

    def write_back() -> None:
        rows[index] = copied

    return copied, write_back


def _nothing() -> None:
    """There is nothing to write back."""


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both
