"""Missing values of a table filled with what the training examples say.

A number that is missing becomes the mean of its column over training examples alone (not those
for validation, test or the public set). Where the examples have owners, each owner fills with its
own training examples, as parties that do not pool would; a column that an owner has no value of
takes the mean over all, one that nobody has becomes 0. A missing category, a row of nan among
its 0/1 columns, becomes the shares of the categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.data.dataset import Split


@dataclass(frozen=True)
class Means:
    """Column means [F] over the training examples, and over those of each owner."""

    overall: np.ndarray
    own: dict[int, np.ndarray]

    @classmethod
    def of(cls, train: Split, others: np.ndarray | None = None) -> Means:
        """Of the values that there are.

        Args:
            others: means [F] over all parties, where these examples are one party's own: what
                stands in a column of which it has no value.
        """
        inputs = train.inputs.numpy()
        overall = _means(inputs, np.zeros(inputs.shape[1]) if others is None else others)
        owners = [] if train.groups is None else np.unique(train.groups).tolist()
        return cls(overall, {k: _means(inputs[train.groups == k], overall) for k in owners})

    def fill(self, part: Split) -> Split:
        """A split with every nan replaced; an owner without training examples takes the overall."""
        import torch

        values = part.inputs.numpy().copy()
        rows, columns = np.nonzero(np.isnan(values))
        values[rows, columns] = self.overall[columns]
        for owner, mean in self.own.items():
            mine = part.groups[rows] == owner if part.groups is not None else np.zeros(0, bool)
            values[rows[mine], columns[mine]] = mean[columns[mine]]
        return Split(torch.from_numpy(values), part.targets, part.groups)


def _means(inputs: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    present = ~np.isnan(inputs)
    count = present.sum(0)
    total = np.where(present, inputs, 0).sum(0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)
