"""A data set in memory: once for all nodes, as stored, turned into model input on the way out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.component import Component
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.data.features import Feature

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """The examples of one split, as they are stored.

    Attributes:
        inputs: [N, ...]: images uint8 or float32 [N, H, W, C] (channels last), tables float32
            [N, F], tokens uint8 or int64 [N, T], pairs int64 [N, 2].
        targets: [N] int64 classes, or float32 values.
        groups: [N] int64, the natural owner (writer, role, user) of each example, or None.
    """

    inputs: Tensor
    targets: Tensor
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return self.targets.shape[0]

    def unlabelled(self) -> Split:
        """The same inputs with targets that are all 0, and no owners."""
        return Split(self.inputs, torch.zeros_like(self.targets))

    def take(self, index: np.ndarray) -> Split:
        """A copy of the examples at ``index`` (int64)."""
        groups = None if self.groups is None else self.groups[index]
        return Split(*self.at(torch.from_numpy(index).to(self.inputs.device)), groups)

    def at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of inputs and targets at ``index``, int64 [k] on their device.

        Raises:
            IndexError: an index is negative or past the end.
        """
        return self.inputs.index_select(0, index), self.targets.index_select(0, index)


@dataclass(frozen=True)
class Planted:
    """What a marker has spoiled at one client.

    Attributes:
        marker: its settings.
        index: int64 [k], positions in the training set.
        before: int64 [k], the true classes.
        labels: int64 [k], the classes that they bear now.
    """

    marker: Component
    client: int
    index: np.ndarray
    before: np.ndarray
    labels: np.ndarray

    def dump(self) -> dict[str, Any]:
        """Plain data, for the run folder."""
        settings = {k: v for k, v in self.marker.dump().items() if k != "clients"}
        rows = {"examples": self.index, "true_classes": self.before, "classes": self.labels}
        lists = {name: array.tolist() for name, array in rows.items()}
        return {"client": self.client, "marked": len(self.index), "marker": settings, **lists}


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test examples with all that is known of them.

    Attributes:
        spec: the form of one example as the model receives it.
        validation: held-out examples for choosing between models, disjoint from the other two.
        scale, shift: float32 scalars or one value per channel (feature); the model receives
            ``stored * scale + shift``. None where ids or stored values are used as they are.
        public: examples that belong to no node and that all may see, their targets all 0, so
            that nobody learns from a label; disjoint from the other three.
        features: of a table, how each column was read (see
            :func:`hansa.data.features.matrix`); empty where they have no names.
        fill: what stands for a missing value of each of a table's numbers [F]; None where rows
            with missing values are refused or dropped.
        class_names: one per class, empty where they are unknown or the task is a regression.
        group_names: one per group id, empty where there are no groups.
        item_names: of pairs, one per item, empty where they have no names.
        notes: what a person should know of how the data were read.
        planted: training examples that were spoiled on purpose, see :mod:`hansa.data.markers`.
        known_limits: :attr:`limits` where the training examples that they are of are elsewhere.
    """

    name: str
    spec: DataSpec
    train: Split
    validation: Split | None
    test: Split
    scale: Tensor | None = None
    shift: Tensor | None = None
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    item_names: tuple[str, ...] = ()
    public: Split | None = None
    planted: tuple[Planted, ...] = ()
    notes: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    fill: np.ndarray | None = None
    known_limits: tuple[Tensor, Tensor] | None = None

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each channel or feature [C] of the training examples of all.

        As they are stored. A property of the sensor (a pixel goes from black to white), not of
        anybody's examples, and so known to every party of a run.
        """
        if self.known_limits is not None:
            return self.known_limits
        stored, device = self.train.inputs, self.train.inputs.device
        if not len(stored):
            return (torch.zeros(0, dtype=stored.dtype, device=device),) * 2
        last = stored.shape[-1] if stored.ndim > 1 else 1
        # First over the examples, whose numbers are adjacent: a few channels are slow to go over.
        low, high = (of(0).reshape(-1, last) for of in (stored.amin, stored.amax))
        return low.amin(0), high.amax(0)

    def to(self, device: torch.device) -> Dataset:
        """The same data set with its tensors on a device."""
        if device.type == self.train.inputs.device.type:
            return self

        def moved(split: Split) -> Split:
            return replace(split, inputs=split.inputs.to(device), targets=split.targets.to(device))

        return replace(
            self,
            train=moved(self.train),
            validation=None if self.validation is None else moved(self.validation),
            public=None if self.public is None else moved(self.public),
            test=moved(self.test),
            scale=None if self.scale is None else self.scale.to(device),
            shift=None if self.shift is None else self.shift.to(device),
            known_limits=None
            if self.known_limits is None
            else (self.known_limits[0].to(device), self.known_limits[1].to(device)),
        )

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift for the numbers of one example in a line: no broadcast over channels."""
        assert self.scale is not None
        assert self.shift is not None
        if self.scale.ndim == 0:
            return self.scale, self.shift
        repeats = prod(self.train.inputs.shape[1:]) // len(self.scale)
        return self.scale.repeat(repeats), self.shift.repeat(repeats)

    def gather(self, split: Split, index: Tensor) -> tuple[Tensor, Tensor]:
        """The model's view of some examples; this runs at every training step.

        Args:
            split: one of this data set's splits.
            index: int64 of any shape [...], on any device.

        Returns:
            x [..., *spec.shape] float32 (int64 for tokens and pairs) and y [...]. Images are
            stored channels last, so x is a permuted view that is channels-last in memory.

        Raises:
            IndexError: an index is negative or past the end of the split.
        """
        flat = (index if index.dim() == 1 else index.reshape(-1)).to(split.inputs.device)
        x, y = split.at(flat)
        if self.spec.kind in ("tokens", "pairs"):
            x = x.long()
        else:
            x = x.float()
            if self.scale is not None and self.shift is not None:
                scale, shift = self._affine
                x.view(len(x), -1).mul_(scale).add_(shift)  # x is index_select's own copy
        if self.spec.kind == "image":
            x = x.permute(0, 3, 1, 2)
        if index.dim() != 1:
            x = x.unflatten(0, index.shape) if index.dim() else x.squeeze(0)
            y = y.reshape(index.shape)
        return x, y
