"""Measuring models on a whole split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Split
from hansa.engine.bench import Bench, rows_at
from hansa.engine.gradients import no_grad_outputs, predicted

if TYPE_CHECKING:
    from torch import Tensor

_RESIDENT_BYTES = 512 << 20  # a split up to this size is decoded once


class Evaluator(Bench):
    """Loss and accuracy (or RMSE) of many rows."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._resident: dict[int, tuple[Tensor, Tensor]] = {}

    def evaluate(self, rows: Tensor, split: Split, batch_size: int) -> dict[str, np.ndarray]:
        """``loss`` and ``accuracy`` (or ``rmse``) of each row [k, D] on a split, float64 [k]."""
        if not len(rows):
            none = np.zeros(0)
            return {"loss": none, "accuracy" if self.classifies else "rmse": none}
        x, y = self._decoded(split)
        chunks = self.chunks(np.arange(len(rows)))
        found = self.map(lambda chunk: self._evaluate_rows(rows, chunk, x, y, batch_size), chunks)
        loss, hits = (np.concatenate(part) for part in zip(*found, strict=True))
        if self.classifies:
            return {"loss": loss, "accuracy": hits}
        return {"loss": loss, "rmse": np.sqrt(loss)}

    def losses(
        self, rows: Tensor, which: np.ndarray, parts: Sequence[np.ndarray], batch_size: int
    ) -> np.ndarray:
        """Mean loss of row ``which[i]`` on the training examples ``parts[i]``, float64 [m].

        NaN where a part is empty. Nodes at the same row are run through it together.
        """
        found = np.full(len(parts), np.nan)
        for row in np.unique(which):
            members = [i for i in np.flatnonzero(which == row).tolist() if len(parts[i])]
            if not members:
                continue
            index = torch.from_numpy(np.concatenate([parts[i] for i in members])).to(self.device)
            passes, _ = self.passes(1)
            passes.attach(rows_at(rows, np.array([row]))[0], None)
            each = []
            for batch in index.split(batch_size):
                x, y = self.dataset.gather(self.dataset.train, batch)
                outputs = no_grad_outputs(passes, x.unsqueeze(0))[0]
                each.append(self.loss(outputs, y).double().cpu())
            starts = np.cumsum([0, *(len(parts[i]) for i in members)])[:-1]
            sums = np.add.reduceat(torch.cat(each).numpy(), starts)
            found[members] = sums / [len(parts[i]) for i in members]
        return found

    def _evaluate_rows(
        self, rows: Tensor, chunk: np.ndarray, x: Tensor, y: Tensor, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        passes, _ = self.passes(len(chunk))
        passes.attach(rows_at(rows, chunk)[0], None)
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
