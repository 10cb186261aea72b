"""What somebody brings to a model: read as training read its own, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hansa.base.errors import DataError
from hansa.base.spec import DataSpec
from hansa.data.brought import read
from hansa.data.features import Feature
from hansa.data.signature import Signature
from hansa.data.tablefile import cleaned

WORDS = ["01", "1", "2.0", "3+", "true"]
CODED = Signature(
    DataSpec("table", (6,), 3),
    ("01", "1", "true"),
    (Feature(name="age", words=None, width=1), Feature(name="code", words=WORDS, width=5)),
    fill=np.zeros(6, np.float32),
    reading={"label": "said"},
)


@pytest.mark.parametrize("word", WORDS)
def test_words_that_look_like_numbers_stay_words(tmp_path: Path, word: str) -> None:
    file = tmp_path / "new.csv"
    file.write_text(f"code,age,said\n{word},3,01\n {word} ,4,true\n,5,01\n")
    brought = read(file, CODED)
    wanted = [0.0 if word != one else 1.0 for one in WORDS]
    assert brought.stored[0].tolist() == [3.0, *wanted]
    assert brought.stored[1].tolist() == [4.0, *wanted]
    assert brought.stored[2].tolist() == [5.0, *[0.0] * 5]  # filled
    assert brought.labels is not None
    assert brought.labels.tolist() == [0, 2, 0]


def test_labels_that_are_no_words_are_read_as_numbers() -> None:
    frame = pl.DataFrame({"age": [1.0, 2.0], "code": ["01", "1"], "said": ["1.0", None]})
    brought = read(frame, CODED)
    assert brought.labels is not None
    assert brought.labels.tolist() == [1, -1]


@given(st.lists(st.one_of(st.none(), st.integers(-99, 99)), min_size=1, max_size=8))
def test_whole_numbers_are_the_same_words_whatever_their_form(values: list[int | None]) -> None:
    wanted = [None if value is None else str(value) for value in values]
    for kind in (pl.Int64, pl.Float64):
        frame = pl.DataFrame({"code": pl.Series(values, dtype=kind)})
        assert cleaned(frame, words=["code"])["code"].to_list() == wanted


def test_nothing_is_no_example_and_half_an_id_is_none() -> None:
    with pytest.raises(DataError, match="the table has no rows"):
        read(pl.DataFrame({"age": [], "code": []}), CODED)
    with pytest.raises(DataError, match="holds no example"):
        read(np.zeros((0, 6)), CODED)
    pairs = Signature(DataSpec("pairs", (2,), 1, "regression", (5, 5), (1.0, 5.0)))
    assert read(np.array([[1.0, 2.0]]), pairs).stored.tolist() == [[1, 2]]
    with pytest.raises(DataError, match=r"1\.5 is no id"):
        read(np.array([[1.5, 2.0]]), pairs)


def test_a_folder_that_is_no_class_is_named_beside_those_that_are(tmp_path: Path) -> None:
    model = Signature(DataSpec("image", (1, 4, 4), 2), ("cat", "dog"), peak=1.0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "one.png")
    labels = read(tmp_path, model).labels
    assert labels is not None
    assert labels.tolist() == [0, 1]
    (tmp_path / "dog").rename(tmp_path / "cow")
    with pytest.raises(DataError, match="'cow' is no class of the model"):
        read(tmp_path, model)
    (tmp_path / "cat").rename(tmp_path / "goat")
    assert read(tmp_path, model).labels is None  # folders of another kind
