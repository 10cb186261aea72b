"""Sentence tasks: what is in a test set is nowhere else, whatever the files look like."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data.sources.sentences import (
    NAMES,
    LabelledSentence,
    SentenceTask,
    leak_free,
    normal_form,
    read_lines,
    read_table,
    sentence_pool,
    split_sentences,
)

TEXTS = st.lists(st.sampled_from([f"sentence {k} ." for k in range(30)]), max_size=12)


def labelled(texts: list[str]) -> tuple[LabelledSentence, ...]:
    return tuple(LabelledSentence(text, k % 2) for k, text in enumerate(texts))


def forms(sentences: tuple[LabelledSentence, ...]) -> set[str]:
    return {normal_form(s.text) for s in sentences}


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_nothing_of_any_test_set_is_left_elsewhere(sets: list[tuple[list[str], ...]]) -> None:
    tasks = [
        SentenceTask(f"task{k}", ("no", "yes"), *map(labelled, parts))
        for k, parts in enumerate(sets)
    ]
    pool = leak_free(tasks)
    tested = set().union(*(forms(task.test) for task in tasks))
    validated = set().union(*(forms(task.validation) for task in pool.tasks))
    for before, after in zip(tasks, pool.tasks, strict=True):
        assert after.test == before.test
        assert not forms(after.validation) & tested
        assert not forms(after.train) & (tested | validated)
        # Nothing else went: what is left out stands elsewhere, and the counts say how often.
        assert after.train == tuple(
            s for s in before.train if normal_form(s.text) not in tested | validated
        )
        gone = pool.removed[before.name]
        assert gone.train + gone.validated == len(before.train) - len(after.train)
        assert gone.validation == len(before.validation) - len(after.validation)
        assert before.name in pool.story()


@pytest.mark.parametrize(
    "copy", ["It's a Crème brûlée.", "it 's a creme brulee .", "IT S A CREME BRULEE !"]
)
def test_copies_of_a_sentence_have_one_form(copy: str) -> None:
    assert normal_form(copy) == "itsacremebrulee"


def test_sentences_without_letters_are_not_all_the_same() -> None:
    assert normal_form(" ?! ") == "?!" != normal_form("...")


def test_lines_are_latin_1_where_they_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "some.all"
    path.write_bytes("0 crème\x85 brûlée \n1 fine .\n0 \n\n".encode("latin-1"))
    assert read_lines(path, 2) == [
        LabelledSentence("crème\x85 brûlée", 0),  # which splitlines() would cut in two
        LabelledSentence("fine .", 1),
    ]
    path.write_text("1 crème\n")
    assert read_lines(path, 2) == [LabelledSentence("crème", 1)]


@pytest.mark.parametrize("line", ["2 too high", "no label", "-1 below", ""])
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "some.all"
    path.write_text(f"0 fine .\n{line}\n" if line else "\n")
    with pytest.raises(DataError, match="line 2" if line else "no sentences"):
        read_lines(path, 2)


def test_a_table_of_documents(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('"class","title","text"\n"3","Fears","for\\T N  pension"\n')
    assert read_table(path, 4) == [LabelledSentence("Fears for T N pension", 2)]
    path.write_text('"3","Fears","x"\n"5","a","b"\n')
    with pytest.raises(DataError, match="row 2"):
        read_table(path, 4)


def test_splits_depend_on_the_seed_alone() -> None:
    heap = labelled([f"a {k}" for k in range(100)])
    first, again, other = (split_sentences("t", ("a", "b"), heap, Streams(s)) for s in (0, 0, 1))
    assert first == again != other
    assert [len(first.train), len(first.validation), len(first.test)] == [72, 8, 20]
    assert sorted(first.train + first.validation + first.test, key=heap.index) == list(heap)


def test_names_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r"sst3[^$]*some of sst2"):
        sentence_pool(["sst3"])
    with pytest.raises(ConfigError, match="once"):
        sentence_pool(["trec", "trec"])


def test_missing_files_are_named_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"TREC\.train\.all.*HANSA_OFFLINE"):
        sentence_pool(["trec"])


@pytest.mark.data
def test_the_real_tasks_leak_and_the_pool_does_not() -> None:
    pool = sentence_pool(seed=3)
    assert [task.name for task in pool.tasks] == list(NAMES)
    tested = set().union(*(forms(task.test) for task in pool.tasks))
    for task in pool.tasks:
        assert len(task.train) > 2_000
        assert not (forms(task.train) | forms(task.validation)) & tested
        seen = {s.label for s in task.train}
        assert seen == {s.label for s in task.test} == set(range(len(task.labels)))
    removed = {name: gone.train + gone.validation for name, gone in pool.removed.items()}
    assert removed["sst2"] > 1_000 < removed["mr"]  # they share two thirds of their sentences
    assert removed["agnews"] < 10 > removed["cr"]
    # Alone, a task loses only copies within itself: a quarter of MPQA's test set, none of MR's.
    assert sentence_pool(["mpqa"]).removed["mpqa"].train > 1_000
    assert sentence_pool(["mr"]).removed["mr"].train == 0


@pytest.mark.data
def test_shortened_sets_are_parts_of_the_whole() -> None:
    whole = sentence_pool(["trec", "cr"], seed=1)
    few = sentence_pool(["trec", "cr"], seed=1, train=50, validation=20, test=10)
    assert few.removed == whole.removed
    for short, task in zip(few.tasks, whole.tasks, strict=True):
        assert [len(short.train), len(short.validation), len(short.test)] == [50, 20, 10]
        assert set(short.train) <= set(task.train)
