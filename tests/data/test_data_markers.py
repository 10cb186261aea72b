"""Markers: what is spoiled, for whom, and that nothing else changes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data import Backdoor, Canaries, Dataset, Marker, Split, plant

CLASSES = 4


def dataset(kind: str = "image", task: str = "classification", seed: int = 0) -> Dataset:
    """60 training and 20 test examples of 6x5 pixels in 2 channels, or of 7 columns."""
    random = torch.Generator().manual_seed(seed)
    shape = (6, 5, 2) if kind == "image" else (7,)

    def split(count: int) -> Split:
        inputs = torch.rand(count, *shape, generator=random)
        targets = torch.randint(CLASSES, (count,), generator=random)
        return Split(inputs, targets)

    form = (2, 6, 5) if kind == "image" else shape
    spec = DataSpec(kind, form, CLASSES if task == "classification" else 1, task)  # type: ignore[arg-type]
    return Dataset("some", spec, split(60), None, split(20))


PARTS = np.array_split(np.arange(60), 3)


@given(
    st.integers(0, 2**20),
    st.sampled_from(["image", "table"]),
    st.lists(
        st.one_of(
            st.builds(
                Backdoor,
                clients=st.lists(st.integers(0, 2), min_size=1).map(tuple),
                share=st.floats(0.01, 0.4),
            ),
            st.builds(
                Canaries,
                clients=st.lists(st.integers(0, 2), min_size=1).map(tuple),
                count=st.integers(1, 4),
            ),
        ),
        max_size=3,
    ),
)
def test_only_what_is_recorded_changes(seed: int, kind: str, markers: list[Marker]) -> None:
    data = dataset(kind)
    inputs, targets = data.train.inputs.clone(), data.train.targets.clone()
    found = plant(data, PARTS, markers, Streams(seed))
    again = plant(data, PARTS, markers, Streams(seed))
    assert torch.equal(data.train.inputs, inputs)  # what was given stays as it was
    assert torch.equal(found.train.inputs, again.train.inputs)
    assert torch.equal(found.train.targets, again.train.targets)
    assert found.test is data.test
    index = np.concatenate([np.zeros(0, np.int64), *(one.index for one in found.planted)])
    assert len(set(index.tolist())) == len(index)  # none is spoiled twice
    rest = np.setdiff1d(np.arange(60), index)
    assert torch.equal(found.train.inputs[rest], inputs[rest])
    assert torch.equal(found.train.targets[rest], targets[rest])
    for one in found.planted:
        assert one.client in one.marker.clients
        assert np.isin(one.index, PARTS[one.client]).all()
        assert (targets.numpy()[one.index] == one.before).all()
        assert (found.train.targets.numpy()[one.index] == one.labels).all()
        assert (one.before != one.labels).all()


def test_a_backdoor_is_a_chessboard_in_the_corner() -> None:
    data = dataset()
    marker = Backdoor(clients=(1,), share=0.5, target=2, size=2)
    found = plant(data, PARTS, [marker], Streams(1))
    others = int((data.train.targets[PARTS[1]] != 2).sum())
    (one,) = found.planted
    assert len(one.index) == round(others / 2)
    assert (one.labels == 2).all()
    high, low = float(data.train.inputs.max()), float(data.train.inputs.min())
    corner = found.train.inputs[one.index][:, 4:, 3:]
    for r in range(2):
        for c in range(2):
            assert (corner[:, r, c] == (high if r == c else low)).all()
    stamped = marker.stamp(found, data.test.inputs)
    assert torch.equal(stamped[:, :4], data.test.inputs[:, :4])
    assert (stamped[:, 4, 3] == high).all()
    record = one.dump()
    assert record["client"] == 1
    assert record["marker"] == {"name": "backdoor", "share": 0.5, "target": 2, "size": 2}
    assert record["marked"] == len(record["examples"]) == len(record["true_classes"])


def test_a_table_shows_it_in_its_last_columns() -> None:
    data = dataset("table")
    found = plant(data, PARTS, [Backdoor(clients=(0,), size=3)], Streams(1))
    shown = found.train.inputs[found.planted[0].index]
    x = data.train.inputs
    want = torch.stack([x[:, 4].max(), x[:, 5].min(), x[:, 6].max()])
    assert (shown[:, 4:] == want).all()


@pytest.mark.parametrize(
    ("markers", "field", "says"),
    [
        ([{"name": "backdoor", "clients": [3]}], "markers.0.clients", "they are 0 to 2"),
        ([{"name": "backdoor", "clients": [0], "size": 6}], "markers.0.size", "shorter side is 5"),
        ([{"name": "backdoor", "clients": [0], "target": 4}], "markers.0.target", "0 to 3"),
        ([{"name": "canaries", "clients": [0], "count": 21}], "markers.0.count", "only 20"),
        (
            [
                {"name": "backdoor", "clients": [0]},
                {"name": "backdoor", "clients": [1], "target": 1},
            ],
            "markers.1.target",
            "another backdoor",
        ),
    ],
)
def test_what_cannot_be_planted_is_named(
    markers: list[dict[str, Any]], field: str, says: str
) -> None:
    chosen = [Marker.resolve(marker) for marker in markers]
    with pytest.raises(ConfigError, match=says) as caught:
        plant(dataset(), PARTS, chosen, Streams(1))
    assert caught.value.field == field


def test_data_that_have_no_place_for_it() -> None:
    with pytest.raises(ConfigError, match="have none"):
        plant(dataset(task="regression"), PARTS, [Canaries(clients=(0,))], Streams(1))
    data = dataset("table")
    data.train.inputs[:, -1] = 1.0
    with pytest.raises(ConfigError, match="stands in 100 %"):
        plant(data, PARTS, [Backdoor(clients=(0,), size=1)], Streams(1))
    data = dataset()
    data.train.targets[PARTS[0]] = 0
    with pytest.raises(ConfigError, match="no example of another class"):
        plant(data, PARTS, [Backdoor(clients=(0,))], Streams(1))
