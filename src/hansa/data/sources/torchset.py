"""Any torch.utils.data.Dataset, read once into arrays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import torch
from hansa.base.modules import load_object
from hansa.base.own_code import place_of, said
from hansa.base.paths import Arguments, ObjectPath
from hansa.data.columns import Reading, assemble
from hansa.data.raw import RawSplits
from hansa.data.source import DataSource


@register("torch")
class Torch(DataSource):
    """A map-style torch data set of items (x, y), given by its import path.

    x is a tensor or array of features [F], of an image [C, H, W] or [H, W], or a Pillow image;
    y is a whole number (a class) or a float (a regression). Every item is read once, so random
    augmentation in the data set is frozen.
    """

    dataset: ObjectPath = Field(
        ..., description="class or function that makes it: package.module:Name or file.py:Name"
    )
    arguments: Arguments = Field(
        default_factory=dict, description="arguments for the training set, such as train: true"
    )
    test_dataset: ObjectPath | None = Field(
        None, description="what makes the test set, if not the same as `dataset`"
    )
    test_arguments: Arguments | None = Field(
        None, description="arguments for the test set; none = hold out test_fraction"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="held out as the test set where none is given"
    )
    task: Literal["classification", "regression"] | None = Field(
        None,
        description="what y is: a class or an amount; not set: whole numbers are classes, "
        "fractions amounts, and what could be either is asked",
    )

    def read(self) -> RawSplits:
        inputs, targets = read_items("dataset", self.dataset, self.arguments)
        first_test_row = None
        if self.test_dataset is not None or self.test_arguments is not None:
            more = read_items(
                "test_dataset", self.test_dataset or self.dataset, self.test_arguments or {}
            )
            first_test_row = len(targets)
            if more[0].shape[1:] != inputs.shape[1:]:
                raise DataError(
                    f"{self.dataset}: training items have shape {inputs.shape[1:]}, test items "
                    f"{more[0].shape[1:]}"
                )
            inputs = np.concatenate([inputs, more[0]])
            targets = np.concatenate([targets, more[1]])
        return assemble(
            inputs,
            targets,
            None,
            where=self.dataset,
            first_test_row=first_test_row,
            reading=Reading(self.task, test_fraction=self.test_fraction),
        )


def read_items(field: str, path: str, arguments: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """All items as inputs (images [N, H, W, C] or features [N, F]) and labels [N].

    Raises:
        ConfigError: the path or the arguments are wrong.
        DataError: the items are not of one form. Names the item.
    """
    try:
        maker = load_object(path)
    except ConfigError as error:
        raise ConfigError(field, path, error.problem, error.fix) from None
    try:
        items = maker(**arguments)
    except Exception as error:
        place = f"{place_of(error)}: " if place_of(error) else ""
        fix = "check its arguments"
        raise ConfigError(field, path, f"cannot be made: {place}{said(error)}", fix) from error
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise ConfigError(field, path, "has no length or items", "use a map-style data set")
    inputs: list[np.ndarray] = []
    targets: list[Any] = []
    for row in range(len(items)):
        try:
            item = items[row]
        except Exception as error:
            place = f"{place_of(error)}: " if place_of(error) else ""
            problem = f"item {row} cannot be read: {place}{said(error)}"
            raise ConfigError(field, path, problem, "items are pairs (x, y)") from error
        try:
            x, y = item
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: item {row} is no pair (x, y): {error}") from error
        inputs.append(_input(x, f"{path}: item {row}"))
        targets.append(y.item() if isinstance(y, (torch.Tensor, np.generic)) else y)
        if inputs[-1].shape != inputs[0].shape:
            raise DataError(
                f"{path}: item {row} has shape {inputs[-1].shape}, item 0 {inputs[0].shape}"
            )
    if not inputs:
        raise DataError(f"{path} is empty")
    return np.stack(inputs), np.array(targets)


def _input(x: Any, where: str) -> np.ndarray:
    """One input as stored: an image as [H, W, C], features as [F]."""
    if isinstance(x, torch.Tensor):
        array, channels_first = x.detach().cpu().numpy(), True
    else:  # Pillow images become [H, W] or [H, W, C]; arrays follow torch's order
        array, channels_first = np.asarray(x), isinstance(x, np.ndarray)
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2, 3):
        raise DataError(
            f"{where} is {array.dtype} of shape {array.shape}; features [F] or an image "
            "[C, H, W] are needed"
        )
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and channels_first:
        array = array.transpose(1, 2, 0)
    return array
