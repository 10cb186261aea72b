"""Amounts of bytes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.byte_size import byte_size
from hansa.base.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "amount"),
    [("3.2GiB", 3435973836), ("20 MB", 20_000_000), ("4096", 4096), (".5kb", 500), (7, 7),
     ("1 KiB", 1024), ("2b", 2)],
)  # fmt: skip
def test_amounts(text, amount):
    assert byte_size(text) == amount


@given(st.integers(1, 2**60))
def test_whole_numbers_are_themselves(amount):
    assert byte_size(amount) in (amount, int(float(amount)))  # exact up to a double's digits


@pytest.mark.parametrize("text", ["", "much", "3 GiBs", "-1", "0.2", True, None, "1e3"])
def test_others_are_refused_by_name(text):
    with pytest.raises(ConfigError) as caught:
        byte_size(text, "budgets")
    assert caught.value.field == "budgets"
    assert caught.value.fix
