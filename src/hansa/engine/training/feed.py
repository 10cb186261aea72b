"""The mini-batches of a chunk of nodes, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Dataset
from hansa.engine.block import Block
from hansa.engine.training.augment import Augmentation, Augmenter
from hansa.engine.training.batches import Batching

if TYPE_CHECKING:
    from torch import Tensor

_AHEAD_BYTES = 4 << 20  # all batches of a chunk up to this size are gathered in one go


class Feed:
    """Draws what k nodes see in a round, and hands it out one step of all at a time.

    Args:
        chunk: positions of the nodes in the block.
        steps: int64 [k], how many each takes, in descending order.
        draw: names the nodes' streams.
        augment: changes what they see.
    """

    def __init__(
        self,
        dataset: Dataset,
        batching: Batching,
        block: Block,
        chunk: np.ndarray,
        steps: np.ndarray,
        draw: int,
        device: torch.device,
        augment: Sequence[Augmentation] = (),
    ) -> None:
        self.dataset = dataset
        self._augmenter = Augmenter(augment, dataset) if augment else None
        drawn, lengths, chances = [], [], []
        for i, count in zip(chunk.tolist(), steps.tolist(), strict=True):
            part, random = block.parts[i], block.streams.own.numpy("batches", block.ids[i], draw)
            batches, counts = batching.drawn(part, count, random)
            drawn.append(batches)
            if self._augmenter is not None:
                own = block.streams.own.numpy("augment", block.ids[i], draw)
                chances.append(self._augmenter.draw(drawn[-1].shape, own))
            if counts is not None:
                lengths.append(counts)
        self._index = torch.from_numpy(_stack(drawn)).to(device)
        self._chance = torch.from_numpy(_stack(chances)) if chances else None
        self._lengths = _lengths(lengths, self._index.shape)
        self._device = device
        self._ahead: tuple[Tensor, Tensor] | None = None
        nbytes = 4 * self._index.numel() * math.prod(dataset.spec.shape)
        if nbytes <= _AHEAD_BYTES and steps[0] == steps[-1]:
            self._ahead = dataset.gather(dataset.train, self._index)

    def batch(self, step: int, active: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs [a, B, ...] and targets [a, B] of the first ``active`` nodes at a step.

        And how many of each node's B examples count, int64 [a]; None: all.
        """
        width, lengths = self._index.shape[2], None
        if self._lengths is not None:
            counts = self._lengths[step, :active]
            width = int(counts.max())
            if counts.min() < width:
                lengths = torch.from_numpy(counts).to(self._device)
        if self._ahead is None:
            x, y = self.dataset.gather(self.dataset.train, self._index[step, :active, :width])
        else:
            x, y = (whole[step] for whole in self._ahead)
            if width < self._index.shape[2]:
                x, y = x[:, :width], y[:, :width]
        if self._augmenter is not None and self._chance is not None:
            x = self._augmenter.apply(x, self._chance[step, :active, :width])
        return x, y, lengths


def _stack(drawn: list[np.ndarray]) -> np.ndarray:
    """Each node's [steps, w, ...] -> all nodes' [most steps, k, widest, ...], filled up.

    The filling of a batch repeats its first entry; that of missing steps is never used.
    """
    if len(drawn) == 1:
        return drawn[0][:, None]
    shapes = {each.shape for each in drawn}
    if len(shapes) == 1:
        return np.stack(drawn, axis=1)
    most, widest = (max(shape[i] for shape in shapes) for i in (0, 1))
    stacked = np.zeros((most, len(drawn), widest, *drawn[0].shape[2:]), dtype=drawn[0].dtype)
    for k, each in enumerate(drawn):
        steps, width = each.shape[:2]
        stacked[:steps, k] = each[:, :1]
        stacked[:steps, k, :width] = each
    return stacked


def _lengths(lengths: list[np.ndarray], shape: torch.Size) -> np.ndarray | None:
    """Examples that count, int64 [most steps, k]; None where every batch is full."""
    if not lengths or all((each == shape[2]).all() for each in lengths):
        return None
    stacked = np.zeros(shape[:2], dtype=np.int64)
    for k, each in enumerate(lengths):
        stacked[: len(each), k] = each
    return stacked
