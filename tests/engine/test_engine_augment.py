"""Augmentation: what each change may do, and that its numbers are a node's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.engine import Crop, Cutout, Flip, Job, TrainSettings
from hansa.engine.training.augment import Augmentation

AUGMENT = [{"name": "crop", "padding": 1}, "flip", {"name": "cutout", "size": 2}]


def pictures(n: int, side: int = 6) -> torch.Tensor:
    """Images [n, 2, side, side + 1] of which no two pixels are alike, and none is 0."""
    return 1.0 + torch.arange(n * 2 * side * (side + 1)).reshape(n, 2, side, side + 1).float()


def chances(n: int, one: Augmentation, seed: int) -> torch.Tensor:
    found = np.random.default_rng(seed).random((n, one.numbers), dtype=np.float32)
    return torch.from_numpy(found)


@given(seed=st.integers(0, 2**32), padding=st.integers(1, 4))
def test_a_crop_is_a_window_of_the_padded_image(seed: int, padding: int) -> None:
    x, black = pictures(3), torch.tensor([-1.0, -2.0])
    one = Crop(padding=padding)
    chance = chances(3, one, seed)
    found = one.apply(x, chance, black)
    wide = black.reshape(1, 2, 1, 1).expand(3, 2, 6 + 2 * padding, 7 + 2 * padding).clone()
    wide[..., padding:-padding, padding:-padding] = x
    for k, (row, column) in enumerate((chance * (2 * padding + 1)).long().tolist()):
        window = wide[k, :, row : row + 6, column : column + 7]
        assert torch.equal(found[k], window)
        assert 0 <= row <= 2 * padding
    assert torch.equal(x, pictures(3))  # copies


def test_a_flip_mirrors_its_share() -> None:
    x = pictures(400, side=2)
    one = Flip(share=0.25)
    found = one.apply(x, chances(400, one, 1), torch.zeros(2))
    turned = (found == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(found[~turned], x[~turned])
    assert 70 < int(turned.sum()) < 130
    assert torch.equal(one.apply(x, torch.zeros(400, 1), torch.zeros(2)), x.flip(-1))


@given(seed=st.integers(0, 2**32), size=st.integers(1, 9))
def test_a_cutout_is_a_square_around_a_pixel(seed: int, size: int) -> None:
    x, one = pictures(2), Cutout(size=size)
    chance = chances(2, one, seed)
    found = one.apply(x, chance, torch.zeros(2))
    for k in range(2):
        row, column = int(chance[k, 0] * 6) - size // 2, int(chance[k, 1] * 7) - size // 2
        wanted = x[k].clone()
        wanted[:, max(row, 0) : row + size, max(column, 0) : column + size] = 0
        assert torch.equal(found[k], wanted)


@pytest.mark.parametrize("train", [{}, {"drop_last": False, "local_epochs": 1}], ids=str)
def test_blocks_and_strategies_see_the_same(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any],
    train: dict[str, Any],
) -> None:  # fmt: skip
    """In one block or two: each node has numbers of its own."""
    changes = {f"train.{name}": value for name, value in train.items()}
    settings = {"train.augment": AUGMENT, "data.partition": "quantity", **changes}
    whole, reports = host(make_job(settings))
    plain, _ = host(make_job({"data.partition": "quantity", **changes}))
    assert not torch.equal(whole.rows, plain.rows)
    again, _ = host(make_job(settings))
    assert torch.equal(whole.rows, again.rows)
    rows = host_apart(lambda: make_job(settings), 3)[0]
    assert torch.equal(whole.rows, rows)
    assert np.isfinite(reports[-1]["values"]["train_loss"]).all()


def test_tables_are_refused() -> None:
    table = DataSpec("table", (13,), 2, "classification")
    with pytest.raises(ConfigError, match="of kind table") as caught:
        TrainSettings(augment=(Crop(), Flip())).check_augment(table)
    assert caught.value.field == "augment.0"


def test_quickdrop_distils_examples_as_they_are(make_job: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError, match="as they are"):
        make_job({"algorithm": "quickdrop", "train.augment": ["flip"]})
