"""Digits in several views: who has what, and that the pixels are the digits' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data import DataSource, Digits


def views(**more):
    return DataSource.resolve({"name": "digits_views", **more})


def test_each_view_has_all_test_images_and_what_it_sees_are_the_digits() -> None:
    plain, seen = Digits().read(), views(views=["rot180", "invert", "loops"]).read()
    count = len(plain.test.targets)
    assert seen.group_names == ("rot180", "invert", "loops")
    assert np.array_equal(np.bincount(seen.test.groups), [count] * 3)
    turned, inverted, loops = (seen.test.inputs[seen.test.groups == g] for g in range(3))
    assert np.array_equal(turned, plain.test.inputs[:, ::-1, ::-1])
    assert np.array_equal(inverted, 16.0 - plain.test.inputs)
    assert np.array_equal(loops, plain.test.inputs)
    assert set(seen.test.targets[seen.test.groups == 2].tolist()) == {0, 1, 2}


def test_apart_nobody_has_the_image_of_another() -> None:
    plain = Digits().read()
    seen = views(views=["mirror", "invert"], apart=True).read()
    assert len(seen.train.targets) == len(plain.train.targets)
    mirrored = seen.train.inputs[seen.train.groups == 0]
    assert np.array_equal(mirrored[:, :, ::-1], plain.train.inputs[::2])


def test_a_node_has_a_view() -> None:
    source = views(partition={"name": "natural", "choose": "first"})
    data = source.load(Streams(1))
    parts = source.divide(data, 8, Streams(1))
    assert [set(data.train.groups[part].tolist()) for part in parts] == [{g} for g in range(8)]
    low, high = (
        float(x) for x in (data.gather(data.test, torch.arange(len(data.test)))[0].aminmax())
    )
    assert (low, high) == (-1.0, 1.0)


def test_a_view_that_there_is_not_and_one_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="is no view"):
        views(views=["mirror", "upside"])
    with pytest.raises(ConfigError, match="names one twice"):
        views(views=["mirror", "mirror"])
