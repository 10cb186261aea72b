"""Texts as rows of token ids: own tables, made-up sentences, hashed words."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Dataset, DataSource
from hansa.data.tokens import hashed, words

from ..models.tiny_encoders import write_encoder

CSV = """text,label,who
"A fine, good day",sunny,ann
rain all day,wet,bob
more rain,wet,ann
sun and sun,sunny,bob
snow today,white,cem
white snow,white,cem
"""


def load(**settings: object) -> Dataset:
    return DataSource.resolve({"name": "text_file", **settings}).load(Streams(1))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "weather.csv"
    path.write_text(CSV)
    return path


def test_a_table_of_texts(table: Path) -> None:
    data = load(path=table, group="who", max_length=5, test_fraction=0.5)
    assert data.spec.labels == data.class_names == ("sunny", "wet", "white")
    assert (data.spec.kind, data.spec.shape, data.spec.padding) == ("tokens", (5,), 0)
    assert data.group_names == ("ann", "bob", "cem")
    rows = {tuple(row) for part in (data.train, data.test) for row in part.inputs.tolist()}
    assert rows == {tuple(row) for row in hashed([
        "A fine, good day", "rain all day", "more rain", "sun and sun", "snow today", "white snow",
    ], 4096, 5).ids.tolist()}  # fmt: skip
    assert sorted(data.test.targets.tolist()) == [0, 1, 2]  # of each class a part


def test_a_test_set_of_its_own_and_other_names(tmp_path: Path) -> None:
    for name, lines in (("a", "yes;0\nno;1\n"), ("b", "perhaps;1\n")):
        (tmp_path / f"{name}.csv").write_text(f"said;{'stars'}\n{lines}")
    data = load(path=tmp_path / "a.csv", test_path=tmp_path / "b.csv", text="said", label="stars")
    assert (len(data.train), len(data.test), data.class_names) == (2, 1, ("0", "1"))


def test_a_pretrained_tokenizer(table: Path, tmp_path: Path) -> None:
    base = write_encoder(tmp_path / "tiny")
    data = load(path=table, tokenizer=str(base), max_length=6, test_fraction=0.5)
    assert data.spec.vocabulary == (50,)
    assert data.train.inputs[:, 0].tolist() == [2] * len(data.train)  # [CLS]
    own = {"name": "text_file", "path": str(table), "test_fraction": 0.5}
    same = DataSource.resolve(own).tokenized_by(str(base))
    assert same.load(Streams(1)).spec.vocabulary == (50,)


@given(st.lists(st.text(max_size=30), max_size=6), st.integers(8, 5000), st.integers(2, 9))
def test_hashed_words_lie_in_their_range_and_are_filled_up(said, vocabulary, length) -> None:
    ids, known, padding = hashed(said, vocabulary, length)
    assert (ids.shape, known, padding) == ((len(said), length), vocabulary, 0)
    assert ((ids >= 0) & (ids < vocabulary)).all()
    for text, row in zip(said, ids, strict=True):
        count = min(length, 1 + len(words(text)))
        assert (row[:count] > 0).all()
        assert (row[count:] == 0).all()
    assert np.array_equal(ids, hashed([text.upper().lower() for text in said], known, length).ids) \
        or any(text.lower() != text.upper().lower() for text in said)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "more", "error", "said"),
    [
        (CSV, {"text": "texts"}, ConfigError, "did you mean 'text'"),
        (CSV, {"label": "text"}, ConfigError, "named twice"),
        ("text,label\nhi,\nho,a\n", {}, DataError, "row 1 has no 'label'"),
        ('text,label\n" ",b\nho,a\n', {}, DataError, "row 1 has no text"),
        ("text,label\nhi,a\nho,a\nhu,a\n", {}, DataError, "one class only"),
        ("", {}, DataError, "is empty"),
        (CSV, {"tokenizer": "/no/such"}, ConfigError, "no such folder"),
        (CSV, {"normalize": "unit", "test_fraction": 0.5}, ConfigError, "are ids"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content, more, error, said) -> None:
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(error) as caught:
        load(path=tmp_path / "own.csv", **more)
    assert said in str(caught.value)


def test_made_up_sentences_repeat_and_are_about_something() -> None:
    made = {"name": "synthetic_sentences", "people": 3, "per_person": 40, "topics": 3}
    first, second = (DataSource.resolve(made).load(Streams(s)) for s in (1, 2))
    assert np.array_equal(first.train.inputs, second.train.inputs)
    assert len(first.class_names) == 3
    assert set(first.train.groups.tolist()) == {0, 1, 2}
    # Words that stand in one topic's sentences alone tell most of the test set's topics.
    heard: dict[int, set[int]] = {}
    for row, topic in zip(first.train.inputs.tolist(), first.train.targets.tolist(), strict=True):
        for word in row:
            heard.setdefault(word, set()).add(topic)
    right = 0
    for row, topic in zip(first.test.inputs.tolist(), first.test.targets.tolist(), strict=True):
        votes = [next(iter(heard[word])) for word in row if len(heard.get(word, ())) == 1]
        right += bool(votes) and max(set(votes), key=votes.count) == topic
    assert right > 0.6 * len(first.test)


@pytest.mark.data
def test_sentences_of_two_tasks_are_owned_by_them() -> None:
    settings = {"name": "sentences", "tasks": ["trec", "subj"], "partition": "natural"}
    source = DataSource.resolve(settings)
    data = source.load(Streams(1))
    assert data.group_names == ("trec", "subj")
    assert len(data.class_names) == 8
    parts = source.divide(data, 2, Streams(1))
    labels = [set(data.train.targets[part].tolist()) for part in parts]
    assert not labels[0] & labels[1]
