"""The cells of a crew of clients: each client's examples of one class, and its images of it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Dataset
from hansa.engine import Block, Trainer
from hansa.engine.shelf import Shelf
from hansa.engine.training.gradients import has_convolution
from hansa.ensemble.condensation import Cells, Condensation, Gradients, image_step_
from hansa.ensemble.synthetic import SyntheticLayout

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_BYTES = 512 << 10
_CHUNK_BYTES_DEVICE = 2 << 30
"""Models of the cells that are worked on at a time: where a model is larger, one by one."""
_APART_PIXELS = 1 << 14
"""Real batches of more pixels than this are convolved one by one on a CPU."""

Batch: TypeAlias = "tuple[torch.Tensor, torch.Tensor, torch.Tensor]"
"""Inputs [c, b, ...], targets [c, b] and weights [c, b], 0 for filling."""


@dataclass(frozen=True)
class Cell:
    """Position of a client in its crew, a class, and the client's examples of it."""

    client: int
    label: int
    members: np.ndarray


@dataclass(frozen=True)
class Worked:
    """What one pass over a chunk of cells gave.

    Attributes:
        grads, losses: of the real examples of each cell.
        distances: by client [k], of the images' gradients before they moved.
        seconds: [2], of the real passes and of what distilling took besides.
    """

    chunk: np.ndarray
    grads: Gradients
    losses: Tensor
    distances: np.ndarray
    seconds: np.ndarray


class Crew:
    """The clients of a block at work, cell by cell.

    Args:
        layout: where the run's clients keep their images.
        batches: int64 [clients of the run, C], examples of a class in a step.

    Attributes:
        batch_sizes: those of this crew, int64 [k, C].
        images_in: how many of its images are distilled, int64 [k, C].
    """

    def __init__(
        self, block: Block, layout: SyntheticLayout, batches: np.ndarray, trainer: Trainer
    ) -> None:
        self.block, self.layout, self.trainer = block, layout, trainer
        self.batch_sizes = batches[block.ids]
        targets = trainer.dataset.train.targets.cpu().numpy()
        self.cells = [
            Cell(i, int(label), part[targets[part] == label])
            for i, part in enumerate(block.parts)
            for label in np.unique(targets[part])
        ]
        # Of a single example the image would be a copy, and it is all there is to match.
        lone = np.array([len(cell.members) == 1 for cell in self.cells], dtype=bool)
        self.images_in = layout.counts[block.ids].copy()
        for cell in (cell for cell, alone in zip(self.cells, lone, strict=True) if alone):
            self.images_in[cell.client, cell.label] = 0
        self._rows: Tensor | None = None
        self._velocity: Tensor | None = None
        self._bounds: tuple[Tensor, Tensor] | None = None

    # -- real examples

    def draws(self, steps: np.ndarray, t: int) -> list[np.ndarray]:
        """For each cell the examples of every step, int64 [steps, b], none twice in a step."""
        draws, random = [], {}
        for cell in self.cells:
            if cell.client not in random:
                node = int(self.block.ids[cell.client])
                random[cell.client] = self.block.streams.own.numpy("quickdrop.batches", node, t)
            size = int(self.batch_sizes[cell.client, cell.label])
            drawn = [
                random[cell.client].choice(cell.members, size, replace=False)
                for _ in range(int(steps[cell.client]))
            ]
            draws.append(np.stack(drawn) if drawn else np.zeros((0, size), dtype=np.int64))
        return draws

    def chunks(self, active: np.ndarray) -> list[np.ndarray]:
        """The cells of these clients, those of alike sizes together, a few at a time."""
        chosen = np.isin([cell.client for cell in self.cells], active)
        sizes = np.array([len(cell.members) for cell in self.cells])
        order = np.flatnonzero(chosen)
        order = order[np.argsort(sizes[order], kind="stable")]  # little filling, images too
        room = _CHUNK_BYTES if self.trainer.device.type == "cpu" else _CHUNK_BYTES_DEVICE
        each = max(1, room // max(1, self.trainer.layout.nbytes))
        return [order[first : first + each] for first in range(0, len(order), each)]

    def batch(self, chunk: np.ndarray, draws: list[np.ndarray], step: int) -> Batch:
        """The real examples of some cells at a step."""
        picked = [draws[k][step] for k in chunk.tolist()]
        width = max(map(len, picked))
        index, weight = np.zeros((len(chunk), width), dtype=np.int64), np.zeros((len(chunk), width))
        for line, share, members in zip(index, weight, picked, strict=True):
            line[:] = members[0]
            line[: len(members)] = members
            share[: len(members)] = 1 / len(members)
        device = self.trainer.device
        x, y = self.trainer.dataset.gather(
            self.trainer.dataset.train, torch.from_numpy(index).to(device)
        )
        return x.contiguous(), y, torch.from_numpy(weight).float().to(device)

    # -- gradients

    def _apart(self, x: Tensor) -> bool:
        """Whether real examples [c, b, ...] are better worked on cell by cell."""
        if x.device.type != "cpu" or x.ndim != 5 or not has_convolution(self.trainer.module):
            return False
        return x.shape[1] * x.shape[3] * x.shape[4] > _APART_PIXELS

    def work_on(
        self,
        cells: Cells,
        chunk: np.ndarray,
        draws: list[np.ndarray],
        step: int,
        how: Condensation | None,
    ) -> Worked:
        """The gradients of some cells at a step; with ``how``, their images are moved by them.

        Other threads may work on other cells at the same time.
        """
        began = perf_counter()
        state = self.state(chunk)
        batch = self.batch(chunk, draws, step)
        gradients, losses, target = cells.real(state, *batch, apart=self._apart(batch[0]))
        between = perf_counter()
        distances = np.zeros(len(self.block))
        if how is not None:
            distances = self.match(cells, chunk, state, target, how)
        seconds = np.array([between - began, perf_counter() - between])
        return Worked(chunk, gradients, losses, distances, seconds)

    def clients(self, chunk: np.ndarray) -> Tensor:
        """int64 [c]: the client of each cell."""
        return torch.tensor([self.cells[k].client for k in chunk.tolist()])

    def state(self, chunk: np.ndarray) -> Gradients:
        """The model of each cell, parameter by parameter [c, ...]."""
        rows = self.block.rows[self.clients(chunk).to(self.block.rows.device)]
        return self.trainer.layout.views(rows)

    def add(self, grads: Tensor, chunk: np.ndarray, found: Gradients, weights: str) -> None:
        """Add the cells' gradients to those of their clients, grads [k, P]."""
        share = torch.ones(len(chunk))
        if weights == "examples":
            part = [len(self.block.parts[self.cells[k].client]) for k in chunk.tolist()]
            members = [len(self.cells[k].members) for k in chunk.tolist()]
            share = torch.tensor(members) / torch.tensor(part)
        self._add(grads, chunk, found, share)

    def _add(self, grads: Tensor, chunk: np.ndarray, found: Gradients, share: Tensor) -> None:
        names = [entry.name for entry in self.trainer.layout.entries if entry.trainable]
        flat = torch.cat([found[name].flatten(1) for name in names], dim=1)
        flat = flat * share.to(flat).unsqueeze(1)
        grads.index_add_(0, self.clients(chunk).to(grads.device), flat)

    def total(self, chunk: np.ndarray, losses: Tensor) -> np.ndarray:
        """Each client's mean loss over its examples, as far as these cells go, float64 [k]."""
        client_losses = np.zeros(len(self.block))
        for k, loss in zip(chunk.tolist(), losses.detach().cpu().tolist(), strict=True):
            cell = self.cells[k]
            client_losses[cell.client] += (
                loss * len(cell.members) / len(self.block.parts[cell.client])
            )
        return client_losses

    # -- synthetic images

    def open_images(
        self, shelf: Shelf, how: Condensation, bounds: tuple[Tensor, Tensor], t: int
    ) -> None:
        """Take the clients' images off the shelf, or make their first ones."""
        block = self.block
        rows = shelf.take(block.ids, self.layout.width)
        for k, node in enumerate(block.ids.tolist()):
            if node not in shelf or not how.persist:
                random = block.streams.own.numpy("quickdrop.images", node, 0 if how.persist else t)
                self._begin(rows[k], k, how, random)
        self._rows = rows.to(self.trainer.device)
        self._velocity = torch.zeros_like(self._rows)
        self._bounds = bounds

    def _begin(self, row: Tensor, k: int, how: Condensation, random: np.random.Generator) -> None:
        client = int(self.block.ids[k])
        for cell in (cell for cell in self.cells if cell.client == k):
            place = self.layout.places(client, cell.label)
            images = self.layout.images(row, client)[place]
            if how.initial == "noise":
                drawn = random.standard_normal(tuple(images.shape), dtype=np.float32)
                images.copy_(torch.from_numpy(drawn))
                continue
            chosen = random.choice(cell.members, len(images), replace=False)
            dataset = self.trainer.dataset
            images.copy_(dataset.gather(dataset.train, torch.from_numpy(chosen))[0])

    def close_images(self, shelf: Shelf) -> None:
        """Put the images back."""
        assert self._rows is not None  # open_images was called
        shelf.put(self.block.ids, self._rows)

    def match(
        self,
        cells: Cells,
        chunk: np.ndarray,
        state: Gradients,
        target: Gradients,
        how: Condensation,
    ) -> np.ndarray:
        """Move the images of some cells once; what their distances were, by client [k]."""
        moved = [p for p, k in enumerate(chunk.tolist()) if self._moves(k)]
        client_distances = np.zeros(len(self.block))
        if not moved:
            return client_distances
        if len(moved) < len(chunk):
            at = torch.tensor(moved).to(self.trainer.device)
            state = {name: value[at] for name, value in state.items()}
            target = {name: value[at] for name, value in target.items()}
        who = chunk[moved]
        images, y, weight = self._images(who)
        grads, distances = cells.mismatch(images, state, y, weight, target)
        for p, k in enumerate(who.tolist()):
            views = [self._view(rows, k) for rows in (self._rows, self._velocity)]
            image_step_(views[0], grads[p, : len(views[0])], views[1], how, self._bounds)
            client_distances[self.cells[k].client] += float(distances[p])
        return client_distances

    def add_synthetic(self, grads: Tensor, chunk: np.ndarray, cells: Cells) -> None:
        """Add the gradients of the clients' mean loss on their images."""
        images, y, weight = self._images(chunk)
        gradients, _ = cells.gradients(self.state(chunk), images, y, weight)
        counts = self.layout.counts[self.block.ids]
        share = [
            counts[self.cells[k].client, self.cells[k].label] / counts[self.cells[k].client].sum()
            for k in chunk.tolist()
        ]
        self._add(grads, chunk, gradients, torch.tensor(share))

    def _moves(self, k: int) -> bool:
        return bool(self.images_in[self.cells[k].client, self.cells[k].label])

    def _view(self, rows: Tensor | None, k: int) -> Tensor:
        """A cell's images [m, ...] in its client's row."""
        assert rows is not None  # open_images was called
        cell = self.cells[k]
        client = int(self.block.ids[cell.client])
        row = self.layout.images(rows[cell.client], client)
        return row[self.layout.places(client, cell.label)]

    def _images(self, chunk: np.ndarray) -> Batch:
        """The images of cells as a batch."""
        views = [self._view(self._rows, k) for k in chunk.tolist()]
        width = max(map(len, views))
        images = views[0].new_zeros(len(views), width, *self.layout.shape)
        weight = views[0].new_zeros(len(views), width)
        for place, share, view in zip(images, weight, views, strict=True):
            place[: len(view)] = view
            share[: len(view)] = 1 / len(view)
        labels = torch.tensor([self.cells[k].label for k in chunk.tolist()])
        y = labels.unsqueeze(1).expand(-1, width).to(images.device)
        return images, y, weight


def value_range(dataset: Dataset, facts: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each channel or feature as the model sees it, to broadcast."""
    if "quickdrop.range" not in facts:
        low, high = (values.float() for values in dataset.limits)
        if dataset.scale is not None and dataset.shift is not None:
            low, high = (v * dataset.scale + dataset.shift for v in (low, high))
        shape = (-1, 1, 1) if dataset.spec.kind == "image" else (-1,)
        facts["quickdrop.range"] = (low.view(shape), high.view(shape))
    return facts["quickdrop.range"]
