"""The models of a block on all cores: chunks of nodes, threads, and each thread's own passes.

Nodes are cut into *chunks*: one node each when looped, as many as fit the cache when stacked. A
chunk is worked on by one thread with one intra-op thread, and several chunks run side by side. So
all cores are busy with whole nodes and not with halves of small operations, and what a node
computes does not depend on how many threads or workers there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from hansa.base.lazy import torch
from hansa.base.losses import LOSSES
from hansa.base.threads import lanes
from hansa.data import Dataset
from hansa.engine.training.gradients import Looped, Passes, Stacked, is_stochastic
from hansa.models import ParameterLayout, frozen_digest
from hansa.models.draws import Chance

if TYPE_CHECKING:
    from torch import Tensor, nn

Strategy = Literal["looped", "stacked"]
S = TypeVar("S")
T = TypeVar("T")
_CHUNK_BYTES = 2 << 20  # rows of a stacked chunk, so that they stay in cache over a round's steps
_CHUNK_BYTES_DEVICE = 2 << 30
_ALIGNED = 64  # bytes: where torch has its own tensors begin


class Bench:
    """One model and one data set, ready to be run on the rows of many nodes.

    Args:
        module: the model; it is copied, never changed.
        dataset: where examples come from.
        strategy: how the nodes of a chunk are run.
        device: where rows and examples are.
        threads: chunks at a time; 0 takes as many as there are lanes.
        chance: what draws random numbers in passes of the model; None: as its layers tell.
    """

    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        strategy: Strategy,
        device: str = "cpu",
        threads: int = 0,
        chance: Chance | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.module = module.to(self.device)
        self.layout = ParameterLayout.of(module)
        self.dataset = dataset
        self.strategy = strategy
        if chance is None:
            chance = "any" if is_stochastic(module) else ""
        self.chance: Chance = chance
        self.loss = LOSSES[dataset.spec.task]
        self.threads = 1 if self.device.type != "cpu" else threads or lanes()
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    @cached_property
    def frozen(self) -> str:
        """The digest of the model's frozen parameters; empty where there are none."""
        return frozen_digest(self.module)

    def chunks(self, who: np.ndarray) -> list[np.ndarray]:
        """Positions cut into pieces that are worked on at a time."""
        size = 1
        if self.strategy == "stacked":
            room = _CHUNK_BYTES if self.device.type == "cpu" else _CHUNK_BYTES_DEVICE
            size = max(8, room // max(self.layout.nbytes, 1))
        return [who[start : start + size] for start in range(0, len(who), size)]

    def passes(self, k: int) -> tuple[Passes, Tensor]:
        """This thread's own passes, and a gradient buffer [k, P]."""
        local = self._local
        if not hasattr(local, "passes"):
            kind = Looped if self.strategy == "looped" else Stacked
            local.passes = kind(self.module, self.layout, self.loss)
            local.passes.module.train()
            if self.device.type == "cpu":
                local.passes.expect(self.chance)
            local.grads = torch.zeros(0, self.layout.trainable, device=self.device)
        if len(local.grads) < k:
            local.grads = torch.zeros(k, self.layout.trainable, device=self.device)
        return local.passes, local.grads[:k]

    def put_integers(self, passes: Passes, own: Mapping[str, Tensor] | None, at: int) -> None:
        """Set the integer buffers to those ``at`` a position of a block's state; None: as at first.

        They are no part of a row, and a chunk is one node where there are any.
        """
        for entry in self.layout.integer_buffers:
            target = passes.module.get_buffer(entry.name)
            if own is None:
                target.copy_(self.module.get_buffer(entry.name))
            else:
                target.copy_(own[f"buffer.{entry.name}"][at])

    def map(self, work: Callable[[S], T], chunks: Sequence[S]) -> Iterable[T]:
        """The results of ``work`` on each chunk, in order.

        One of the threads itself does all of them, one after the other.
        """
        if self.device.type != "cpu" or hasattr(self._local, "at_work"):
            return map(work, chunks)
        if len(chunks) == 1 and torch.get_num_threads() == 1:
            return [work(chunks[0])]  # as one of the threads would do it, without waiting for it
        return self._threads().map(work, chunks)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "hansa-bench", initializer=self._begin)
        return self._pool

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have one of the threads do something soon; without threads it is done here and now."""
        if self.device.type == "cpu" and not hasattr(self._local, "at_work"):
            return self._threads().submit(work, *arguments)
        done: Future[T] = Future()
        done.set_result(work(*arguments))
        return done

    def _begin(self) -> None:
        """What each of the threads does first."""
        torch.set_num_threads(1)
        self._local.at_work = True

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def rows_at(rows: Tensor, chunk: np.ndarray) -> tuple[Tensor, Callable[[], object]]:
    """Rows at these positions, as a view where they are adjacent, and what writes them back.

    A single row that does not begin where torch would have it begin is copied: kernels may add in
    another order where numbers begin at another alignment, and what a looped node computes must
    not depend on its place among the rows.
    """
    if len(chunk) == 1:
        view = rows[int(chunk[0]) : int(chunk[0]) + 1]
        if view.data_ptr() % _ALIGNED == 0:
            return view, _nothing
        copy = view.clone()
        return copy, partial(view.copy_, copy)
    if len(chunk) and (np.diff(chunk) == 1).all():
        return rows[int(chunk[0]) : int(chunk[-1]) + 1], _nothing
    index = torch.from_numpy(chunk).to(rows.device)
    copied = rows[index]

    def write_back() -> None:
        rows[index] = copied

    return copied, write_back


def aligned_rows(count: int, size: int, device: torch.device) -> Tensor:
    """Room [count, size], not set to anything, for rows each of which begins as a tensor does."""
    step = _ALIGNED // 4
    return torch.empty(count, -(-size // step) * step, device=device)[:, :size]


def _nothing() -> None:
    """There is nothing to write back."""
