"""Measuring models on a whole split."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Dataset, Split
from hansa.engine.bench import Bench, Strategy, rows_at
from hansa.engine.gradients import no_grad_outputs, predicted
from hansa.models.draws import drawing

if TYPE_CHECKING:
    from torch import Tensor, nn

_RESIDENT_BYTES = 512 << 20  # a split up to this size is decoded once


class Evaluator(Bench):
    """Loss and accuracy (or RMSE) of many rows.

    A model that draws random numbers when it is evaluated draws the same ones whenever and
    wherever that happens, so that what is compared is the models.

    Args:
        others: as for :class:`Bench`.
        seed: of what such models draw.
    """

    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        strategy: Strategy,
        device: str = "cpu",
        threads: int = 0,
        stochastic: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(module, dataset, strategy, device, threads, stochastic)
        self._seed = seed
        self._resident: dict[int, tuple[Tensor, Tensor]] = {}

    def evaluate(
        self,
        rows: Tensor,
        split: Split,
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> dict[str, np.ndarray]:
        """``loss`` and ``accuracy`` (or ``rmse``) of each row [k, D] on a split, float64 [k].

        Args:
            own: the rows' integer buffers, as in a block's state; None: as at the start.
        """
        if not len(rows):
            none = np.zeros(0)
            return {"loss": none, "accuracy" if self.classifies else "rmse": none}
        x, y = self._decoded(split)
        chunks = self.chunks(np.arange(len(rows)))

        def work(chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with self._chance():
                return self._evaluate_rows(rows, chunk, x, y, batch_size, own)

        found = self.map(work, chunks)
        loss, hits = (np.concatenate(part) for part in zip(*found, strict=True))
        if self.classifies:
            return {"loss": loss, "accuracy": hits}
        return {"loss": loss, "rmse": np.sqrt(loss)}

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
        found = np.full(len(parts), np.nan)
        for row, members in self._together(which, parts):
            index = torch.from_numpy(np.concatenate([parts[i] for i in members])).to(self.device)
            passes, _ = self.passes(1)
            passes.attach(rows_at(rows, np.array([row]))[0], None)
            self.put_integers(passes, own, row)
            each = []
            with self._chance():
                for batch in index.split(batch_size):
                    x, y = self.dataset.gather(self.dataset.train, batch)
                    outputs = no_grad_outputs(passes, x.unsqueeze(0))[0]
                    each.append(self.loss(outputs, y).double().cpu())
            starts = np.cumsum([0, *(len(parts[i]) for i in members)])[:-1]
            sums = np.add.reduceat(torch.cat(each).numpy(), starts)
            found[members] = sums / [len(parts[i]) for i in members]
        return found

    def _together(
        self, which: np.ndarray, parts: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, list[int]]]:
        """(row, those whose examples it sees one after the other): alone where chance plays."""
        for row in np.unique(which).tolist():
            members = [i for i in np.flatnonzero(which == row).tolist() if len(parts[i])]
            if self.stochastic:
                yield from ((row, [i]) for i in members)
            elif members:
                yield row, members

    def _chance(self) -> contextlib.AbstractContextManager[None]:
        return drawing(self._seed) if self.stochastic else contextlib.nullcontext()

    def _evaluate_rows(
        self,
        rows: Tensor,
        chunk: np.ndarray,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        own: Mapping[str, Tensor] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        passes, _ = self.passes(len(chunk))
        passes.attach(rows_at(rows, chunk)[0], None)
        self.put_integers(passes, own, int(chunk[0]))
        k = len(chunk)
        loss, hits = np.zeros(k), np.zeros(k)
        for start in range(0, len(y), batch_size):
            inputs, targets = x[start : start + batch_size], y[start : start + batch_size]
            outputs = no_grad_outputs(passes, inputs.unsqueeze(0))
            for i in range(k):
                loss[i] += float(self.loss(outputs[i], targets).double().sum())
            if self.classifies:
                hits += (predicted(outputs) == targets).sum(1).cpu().numpy()
        return loss / len(y), hits / len(y)

    def _decoded(self, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a whole split as the model takes them, kept if they fit."""
        if id(split) not in self._resident:
            x, y = self.dataset.gather(split, torch.arange(len(split), device=self.device))
            if x.numel() * x.element_size() > _RESIDENT_BYTES:
                return x, y
            self._resident[id(split)] = (x, y)
        return self._resident[id(split)]
