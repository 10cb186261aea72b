"""Data sets written for torch, by import path."""

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Torch


class Items(torch.utils.data.Dataset):
    """Items made by a function of the row."""

    def __init__(self, make: Callable[[int], Any], rows: int = 10) -> None:
        self.make, self.rows = make, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Any:
        return self.make(row)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    found = types.ModuleType("my_items")
    monkeypatch.setitem(sys.modules, "my_items", found)
    return found


IMAGE = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (torch.arange(5.0), (5,)),
        (torch.from_numpy(IMAGE), (2, 3, 4)),
        (IMAGE, (2, 3, 4)),
        (torch.from_numpy(IMAGE[0]), (1, 3, 4)),
        (Image.fromarray(IMAGE[0]), (1, 3, 4)),
        (Image.fromarray(IMAGE[..., :3].copy()), (3, 2, 3)),
    ],
)
def test_items_keep_their_meaning(
    x: Any, shape: tuple[int, ...], module: types.ModuleType, streams: Streams
) -> None:
    module.Set = lambda: Items(lambda row: (x, row % 2))
    data = Torch(dataset="my_items:Set", normalize="none").load(streams)
    assert data.spec.shape == shape
    assert (len(data.train), len(data.test)) == (8, 2)
    first, _ = data.gather(data.train, torch.tensor([0]))
    expected = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))
    if isinstance(x, Image.Image) and expected.dim() == 3:
        expected = expected.permute(2, 0, 1)
    assert torch.equal(first[0].squeeze(), expected.squeeze().float())


def test_float_images_are_taken_as_0_to_1(module: types.ModuleType, streams: Streams) -> None:
    module.Set = lambda: Items(lambda row: (torch.full((1, 2, 2), row % 2 * 1.0), row % 2))
    x, y = (data := Torch(dataset="my_items:Set").load(streams)).gather(data.train, torch.arange(8))
    assert torch.equal(x[:, 0, 0, 0], y * 2.0 - 1)


def test_train_and_test_by_arguments(module: types.ModuleType, streams: Streams) -> None:
    module.Set = lambda train: Items(
        lambda row: (torch.ones(3) * row, torch.tensor(row % 3)), 9 if train else 4
    )
    source = Torch(
        dataset="my_items:Set", arguments={"train": True}, test_arguments={"train": False}
    )
    data = source.load(streams)
    assert (len(data.train), len(data.test)) == (9, 4)
    assert data.train.targets.tolist() == [0, 1, 2] * 3
    assert data.spec.outputs == 3
    assert Torch.resolve(source.dump()) == source


def test_float_targets_are_a_regression(module: types.ModuleType, streams: Streams) -> None:
    module.Set = lambda: Items(lambda row: (torch.ones(3) * row, row / 2))
    assert Torch(dataset="my_items:Set").load(streams).spec.task == "regression"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda row: (torch.zeros(2 + (row == 3)), 0), r"item 3 has shape \(3,\), item 0 \(2,\)"),
        (lambda row: torch.zeros(3), "item 0 is no pair"),
        (lambda row: ("text", 0), "item 0 is <U4"),
        (lambda row: (torch.zeros(2, 2, 2, 2), 0), "item 0 is float32 of shape"),
    ],
)
def test_bad_items_are_named(
    make: Callable[[int], Any], words: str, module: types.ModuleType, streams: Streams
) -> None:
    module.Set = lambda: Items(make)
    with pytest.raises(DataError, match=words):
        Torch(dataset="my_items:Set").load(streams)


def test_bad_paths_are_explained(module: types.ModuleType, streams: Streams) -> None:
    module.Set = lambda: Items(lambda row: (torch.zeros(2), 0))
    module.number = lambda: 3
    module.Empty = lambda: Items(lambda row: None, 0)
    for settings, field in (
        ({"dataset": "my_items:Absent"}, "dataset"),
        ({"dataset": "my_items:number"}, "dataset"),
        ({"dataset": "my_items:Set", "arguments": {"x": 1}}, "dataset"),
        ({"dataset": "my_items:Set", "test_dataset": "no_such_module:X"}, "test_dataset"),
    ):
        with pytest.raises(ConfigError) as caught:
            Torch(**settings).load(streams)
        assert caught.value.field == field
    with pytest.raises(DataError, match="is empty"):
        Torch(dataset="my_items:Empty").load(streams)
