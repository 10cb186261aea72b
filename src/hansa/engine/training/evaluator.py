"""Measuring models on a whole split."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial, reduce
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Dataset, Split
from hansa.engine.training.bench import Bench, Strategy, rows_at
from hansa.engine.training.gradients import Passes, no_grad_outputs
from hansa.engine.training.precision import Precision
from hansa.metrics import Metric, MetricSet
from hansa.models.draws import Chance, drawing, generators

if TYPE_CHECKING:
    from torch import Tensor, nn

_RESIDENT_BYTES = 512 << 20  # a split up to this size is decoded once
_LEAST = 8  # examples at a time
_LAYER_BYTES = 8 << 20  # numbers between two layers that stay in cache
_SHARED_BYTES = 8 << 20  # where workers share a machine, and so the split as it is stored


class Evaluator(Bench):
    """The figures of many rows.

    A model that draws random numbers when it is evaluated draws the same ones whenever and
    wherever that happens, so that what is compared is the models.

    Models stay as they are, also those that would change when they are evaluated.

    Args:
        others: as for :class:`Bench`.
        seed: of what such models draw.
        restless: whether evaluation changes the model's numbers, which then are set anew for
            every batch.
        metrics: what is measured; none: the usual.
        alone: whether the machine is this process's own; else a large split is decoded anew, a
            few batches at a time, whenever it is needed.
        precision: what models are evaluated in.
        widest: numbers of an example in the widest layer, by which a batch is worked on in pieces;
            0: it must not be.
    """

    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        strategy: Strategy,
        device: str = "cpu",
        threads: int = 0,
        chance: Chance | None = None,
        seed: int = 0,
        restless: bool = False,
        metrics: Sequence[Metric] = (),
        alone: bool = True,
        precision: Precision = "float32",
        widest: int = 0,
    ) -> None:
        super().__init__(module, dataset, strategy, device, threads, chance)
        self.precision: Precision = precision
        self.metrics = MetricSet(metrics, dataset.spec)
        self._seed = seed
        self._restless = restless
        self._draws: bool | None = None
        self._resident: dict[int, tuple[Tensor, Tensor]] = {}
        self._room = _RESIDENT_BYTES if alone else _SHARED_BYTES
        self._widest = widest

    def evaluate(
        self,
        rows: Tensor,
        split: Split,
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> dict[str, np.ndarray]:
        """Every figure of each row [k, D] on a split, by name, float64 [k].

        Args:
            own: the rows' integer buffers, as in a block's state; None: as at the start.
        """
        if not len(rows):
            return {name: np.zeros(0) for name in self.metrics.names}
        chunks, starts = self.chunks(np.arange(len(rows))), np.arange(0, len(split), batch_size)
        kept = self._kept(split)
        chance = self._may_draw and self._plays(
            rows[:1], *self._examples(split, kept, 0, batch_size), own
        )
        # Few models are measured on several parts of the split at a time.
        several = 1 if chance else min(-(-self.threads // len(chunks)), len(starts))
        sums: list[np.ndarray | None] = [None] * len(chunks)
        each = max(several, self._room // max(1, batch_size * self._decoded_bytes(split)))
        if kept is not None or chance or self._restless:
            each = len(starts)
        for first in range(0, len(starts), each):
            group = starts[first : first + each]
            begin = int(group[0])
            x, y = self._examples(split, kept, begin, int(group[-1]) + batch_size)
            parts = np.array_split(group - begin, min(several, len(group)))
            work = partial(self._sums_of, rows, x, y, batch_size, own, chance)
            pieces = iter(self.map(work, [(chunk, part) for chunk in chunks for part in parts]))
            for k in range(len(chunks)):
                # From the first batch to the last, however they were shared out.
                batches = [one for _ in parts for one in next(pieces)]
                before = sums[k]
                sums[k] = reduce(np.add, batches if before is None else [before, *batches])
            del x, y, work, pieces  # before the next are decoded
        whole = [row for of_chunk in sums if of_chunk is not None for row in of_chunk]
        values = [self.metrics.values(row, len(split)) for row in whole]
        return {name: np.array([each[name] for each in values]) for name in values[0]}

    def _sums_of(
        self,
        rows: Tensor,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        own: Mapping[str, Tensor] | None,
        chance: bool,
        piece: tuple[np.ndarray, np.ndarray],
    ) -> list[np.ndarray]:
        """The metrics' sums of a chunk's rows on the batches that begin at some places."""
        with drawing(self._seed) if chance else contextlib.nullcontext():
            return list(self._evaluate_rows(rows, *piece, x, y, batch_size, own))

    def evaluate_parts(
        self,
        rows: Tensor,
        which: np.ndarray,
        parts: Sequence[np.ndarray],
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> dict[str, np.ndarray]:
        """Every figure of row ``which[i]`` on the training examples ``parts[i]``, float64 [m].

        Args:
            own: as for :meth:`evaluate`, by row.
        """
        by_name = {name: np.full(len(parts), np.nan) for name in self.metrics.names}
        for members, batches in self._on_parts(rows, which, parts, batch_size, own):
            outputs, y = (torch.cat(each) for each in zip(*batches, strict=True))
            lengths = [len(parts[i]) for i in members]
            pairs = zip(members, outputs.split(lengths), y.split(lengths), strict=True)
            for i, said, targets in pairs:
                for name, value in self.metrics.of(said, targets).items():
                    by_name[name][i] = value
        return by_name

    def losses(
        self,
        rows: Tensor,
        which: np.ndarray,
        parts: Sequence[np.ndarray],
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> np.ndarray:
        """Mean loss of row ``which[i]`` on the training examples ``parts[i]``, float64 [m].

        NaN where a part is empty. Nodes at the same row are run through it together.

        Args:
            own: as for :meth:`evaluate`, by row.
        """
        losses = np.full(len(parts), np.nan)
        for members, batches in self._on_parts(rows, which, parts, batch_size, own):
            each = torch.cat([self.loss(outputs, y).double().cpu() for outputs, y in batches])
            starts = np.cumsum([0, *(len(parts[i]) for i in members)])[:-1]
            sums = np.add.reduceat(each.numpy(), starts)
            losses[members] = sums / [len(parts[i]) for i in members]
        return losses

    def _on_parts(
        self,
        rows: Tensor,
        which: np.ndarray,
        parts: Sequence[np.ndarray],
        batch_size: int,
        own: Mapping[str, Tensor] | None,
    ) -> Iterator[tuple[list[int], list[tuple[Tensor, Tensor]]]]:
        """(members at one row, outputs and targets of all their examples in batches)."""
        for row, members in self._together(which, parts):
            index = torch.from_numpy(np.concatenate([parts[i] for i in members])).to(self.device)
            passes, _ = self.passes(1)
            self._show(passes, rows, np.array([row]), own)
            batches: list[tuple[Tensor, Tensor]] = []
            with self._chance():
                for batch in index.split(batch_size):
                    if self._restless and batches:
                        self._show(passes, rows, np.array([row]), own)
                    x, y = self.dataset.gather(self.dataset.train, batch)
                    batches.append((self._outputs(passes, x)[0], y))
            yield members, batches

    def _together(
        self, which: np.ndarray, parts: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, list[int]]]:
        """(row, those whose examples it sees one after the other): alone where that would show."""
        for row in np.unique(which).tolist():
            members = [i for i in np.flatnonzero(which == row).tolist() if len(parts[i])]
            if self.chance or self._restless:
                yield from ((row, [i]) for i in members)
            elif members:
                yield row, members

    def _plays(self, rows: Tensor, x: Tensor, y: Tensor, own: Mapping[str, Tensor] | None) -> bool:
        """Whether the model draws when it is evaluated, and not for training alone."""
        if self._draws is None:
            first = np.zeros(1, dtype=np.int64)
            with drawing(self._seed):
                before = generators(self.device.type)
                list(self._evaluate_rows(rows, first, first, x, y, len(y), own))
                self._draws = generators(self.device.type) != before
        return bool(self._draws)

    def _chance(self) -> contextlib.AbstractContextManager[None]:
        return drawing(self._seed) if self._may_draw else contextlib.nullcontext()

    @property
    def _may_draw(self) -> bool:
        """Whether the model may draw when it is evaluated: dropout layers alone do not."""
        return self.chance in ("forward", "any")

    def _evaluate_rows(
        self,
        rows: Tensor,
        chunk: np.ndarray,
        starts: np.ndarray,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        own: Mapping[str, Tensor] | None,
    ) -> Iterator[np.ndarray]:
        """The metrics' sums [k, S] of each batch that begins at one of ``starts``."""
        passes, _ = self.passes(len(chunk))
        self._show(passes, rows, chunk, own)
        for b, start in enumerate(starts.tolist()):
            if self._restless and b:
                self._show(passes, rows, chunk, own)
            inputs, targets = x[start : start + batch_size], y[start : start + batch_size]
            outputs = self._outputs(passes, inputs)
            yield self.metrics.sums_of_each(outputs, targets).cpu().numpy()

    def _outputs(self, passes: Passes, x: Tensor) -> Tensor:
        """Outputs [k, B, ...] of x [B, ...], so many examples at a time that they stay in cache.

        A stacked batch is small, and a GPU wants a large one.
        """
        if not self._widest or self.strategy == "stacked" or self.device.type != "cpu":
            return no_grad_outputs(passes, x.unsqueeze(0))
        width = self._widest * (2 if self.precision == "bfloat16" else 4)
        size = max(_LEAST, _LAYER_BYTES // width)
        each = [no_grad_outputs(passes, piece.unsqueeze(0)) for piece in x.split(size)]
        return each[0] if len(each) == 1 else torch.cat(each, dim=1)

    def _show(
        self, passes: Passes, rows: Tensor, chunk: np.ndarray, own: Mapping[str, Tensor] | None
    ) -> None:
        """Attach these rows, of which none is changed: a single one may be a user's own model."""
        some = rows[torch.from_numpy(chunk)] if len(chunk) == 1 else rows_at(rows, chunk)[0]
        passes.attach(some, None)
        passes.compute_in(self.precision)
        self.put_integers(passes, own, int(chunk[0]))

    def _decoded_bytes(self, split: Split) -> int:
        """Bytes of an example as the model takes it."""
        whole = self.dataset.spec.kind in ("tokens", "pairs")  # numbers
        return prod(split.inputs.shape[1:]) * (8 if whole else 4)

    def kept_bytes(self, split: Split) -> int:
        """Bytes that the decoded examples of a split take while it is measured."""
        return min(len(split) * self._decoded_bytes(split), self._room)

    def _kept(self, split: Split) -> tuple[Tensor, Tensor] | None:
        """Inputs and targets of a whole split as the model takes them, if there is room."""
        if len(split) * self._decoded_bytes(split) > self._room:
            return None
        if id(split) not in self._resident:
            self._resident[id(split)] = self._examples(split, None, 0, len(split))
        return self._resident[id(split)]

    def _examples(
        self, split: Split, kept: tuple[Tensor, Tensor] | None, first: int, end: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of some examples of a split, as the model takes them."""
        if kept is not None:
            return kept[0][first:end], kept[1][first:end]
        index = torch.arange(first, min(end, len(split)), device=self.device)
        return self.dataset.gather(split, index)
