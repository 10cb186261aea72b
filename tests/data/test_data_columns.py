"""Labels, owners and the splits that a source makes itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import DataError
from hansa.data.columns import split_rows
from hansa.data.features import matrix
from hansa.data.labels import labels, numbered


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_every_value_is_split_alike_and_keeps_one(by: list[int], fraction: float) -> None:
    values = np.array(by)
    train, test = split_rows(fraction, "x", values)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(by)))
    assert (np.diff(train) > 0).all()
    for value in np.unique(values):
        total, held = (values == value).sum(), (values[test] == value).sum()
        assert held == min(int(np.floor(fraction * total + 0.5)), total - 1)


def test_splits_are_fixed_and_differ_by_purpose() -> None:
    by = np.zeros(100)
    assert np.array_equal(split_rows(0.5, "a", by)[0], split_rows(0.5, "a", by)[0])
    assert not np.array_equal(split_rows(0.5, "a", by)[0], split_rows(0.5, "b", by)[0])


@pytest.mark.parametrize(
    ("column", "codes", "names"),
    [
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        ([7, 3, 7], [1, 0, 1], ("3", "7")),
        ([True, False], [1, 0], ("False", "True")),
    ],
)
def test_labels_are_numbered(column: list, codes: list[int], names: tuple[str, ...]) -> None:
    found, known = labels(np.array(column), "here")
    assert found.tolist() == codes
    assert found.dtype == np.int64
    assert known == names


def test_float_labels_stay_values() -> None:
    found, names = labels(np.array([0.5, 2.0]), "here")
    assert found.dtype == np.float32
    assert names == ()


def test_what_cannot_be_used_is_explained() -> None:
    with pytest.raises(DataError, match=r"here: labels of shape \(2, 2\)"):
        labels(np.zeros((2, 2)), "here")
    with pytest.raises(DataError, match="here: 1 values are missing"):
        numbered(np.array(["a", None], object), "here")
    with pytest.raises(DataError, match="here: 1 values are missing"):
        numbered(np.array([1.0, np.nan]), "here")
    with pytest.raises(DataError, match="column 'a' has 1 rows with infinite"):
        matrix({"a": np.array([1.0, np.inf])}, "here", "refuse")
