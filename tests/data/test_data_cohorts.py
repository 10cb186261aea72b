"""Cohorts of clients: each in one, none empty, even where it says so (check B-1 of CPFL)."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError
from hansa.data import (
    Clients,
    CohortFile,
    Cohorts,
    by_class,
    by_device,
    label_balanced,
    read_cohorts,
    uniform_cohorts,
    write_cohorts,
)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[int, int, int]:
    """(clients, cohorts, seed)."""
    clients = draw(st.integers(1, 80))
    return clients, draw(st.integers(1, clients)), draw(st.integers(0, 2**32))


def histogram(clients: int, seed: int, classes: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.multinomial(30, rng.dirichlet(np.full(classes, 0.3)), size=clients)


@pytest.mark.parametrize("rule", ["uniform", "by_device", "label_balanced"])
@given(crowd=crowds())
def test_even_complete_and_seeded(rule: str, crowd: tuple[int, int, int]) -> None:
    clients, cohorts, seed = crowd
    chosen = Cohorts.resolve({"name": rule, "cohorts": cohorts})
    counts = histogram(clients, seed)
    pace = np.random.default_rng(seed).lognormal(size=clients)
    found, again = (
        chosen.assign(Clients(clients, counts, pace), np.random.default_rng(seed)) for _ in range(2)
    )
    assert np.array_equal(found, again)
    assert found.dtype == np.int64
    sizes = np.bincount(found, minlength=cohorts)
    assert len(sizes) == cohorts
    assert sizes.sum() == clients
    assert sizes.max() - sizes.min() <= 1
    assert Cohorts.resolve(chosen.dump()) == chosen


def test_uniform_is_a_shuffle_cut_into_blocks() -> None:
    found = uniform_cohorts(11, 3, np.random.default_rng(4))
    order = np.random.default_rng(4).permutation(11)
    blocks = [order[:4], order[4:8], order[8:]]  # the first 11 mod 3 have one more
    for cohort, block in enumerate(blocks):
        assert set(np.flatnonzero(found == cohort)) == set(block)
    assert not np.array_equal(found, uniform_cohorts(11, 3, np.random.default_rng(5)))


def test_by_device_puts_the_fastest_first() -> None:
    assert by_device(np.array([5.0, 1.0, 4.0, 2.0, 3.0]), 2).tolist() == [1, 0, 1, 0, 0]
    assert by_device(np.ones(4), 2).tolist() == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="not known of every client"):
        by_device(np.array([1.0, np.nan]), 1)


def test_by_class_takes_the_dominant_one() -> None:
    counts = np.array([[1, 9, 0], [5, 5, 0], [0, 1, 2]])
    assert by_class(counts, 3).tolist() == [1, 0, 2]
    with pytest.raises(ConfigError, match="one cohort of each of the 3 classes") as caught:
        by_class(counts, 2)
    assert caught.value.field == "cohorts"
    with pytest.raises(ConfigError, match="class 2"):
        by_class(counts[:2], 3)


def test_label_balanced_undoes_a_split_by_class() -> None:
    counts = np.zeros((40, 10), int)
    counts[np.arange(40), np.arange(40) % 10] = 20
    found = label_balanced(counts, 4, np.random.default_rng(0))
    for cohort in range(4):
        assert counts[found == cohort].sum(0).tolist() == [20] * 10


def test_label_balanced_is_more_even_than_chance() -> None:
    def unevenness(found: np.ndarray, counts: np.ndarray) -> float:
        sums = np.stack([counts[found == k].sum(0) for k in range(4)])
        return float(np.square(sums - sums.mean(0)).sum())

    for seed in range(5):
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(50, rng.dirichlet(np.full(10, 0.1), size=40))
        even = unevenness(label_balanced(counts, 4, rng), counts)
        chance = np.mean([unevenness(uniform_cohorts(40, 4, rng), counts) for _ in range(20)])
        assert even < 0.4 * chance


@pytest.mark.parametrize("rule", ["by_class", "label_balanced", "by_device"])
def test_what_a_rule_needs_is_named(rule: str) -> None:
    with pytest.raises(ConfigError, match="name") as caught:
        Cohorts.resolve(rule).assign(Clients(8), np.random.default_rng(0))
    assert caught.value.value == rule


@pytest.mark.parametrize("rule", ["uniform", "by_device", "label_balanced"])
def test_more_cohorts_than_clients(rule: str) -> None:
    with pytest.raises(ConfigError, match="there are 3 clients") as caught:
        Cohorts.resolve({"name": rule, "cohorts": 4}).assign(
            Clients(3, histogram(3, 0), np.ones(3)), np.random.default_rng(0)
        )
    assert caught.value.field == "cohorts"


def test_a_rule_of_the_users_own_is_checked() -> None:
    class Bad(Cohorts):
        """Leaves cohort 0 empty."""

        def count(self, clients: int) -> int:
            return 2

        def choose(self, clients, rng):  # type: ignore[no-untyped-def]
            return np.ones(clients.count, int)

    with pytest.raises(ConfigError, match="cohort 0 has no client"):
        Bad().assign(Clients(3), np.random.default_rng(0))


@given(crowd=crowds())
def test_a_file_brings_the_cohorts_back(
    crowd: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clients, cohorts, seed = crowd
    found = uniform_cohorts(clients, cohorts, np.random.default_rng(seed))
    path = tmp_path_factory.mktemp("cohorts") / "cohorts.txt"
    write_cohorts(path, found)
    assert np.array_equal(read_cohorts(path, clients), found)
    rule = CohortFile(path=str(path))
    assert np.array_equal(rule.assign(Clients(clients), np.random.default_rng(0)), found)


def test_the_format(tmp_path: Path) -> None:
    path = tmp_path / "cohorts.txt"
    write_cohorts(path, np.array([1, 0, 1, 0]))
    assert path.read_text() == "0,1-3\n1,0-2\n"
    path.write_text("1,0-2\r\n\n0,3-1\r\n")  # any order
    assert read_cohorts(path, 4).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,0-1\n1,1-2-3\n", "2: client 1 is listed twice, first in cohort 0"),
        ("0,0-0-1-2-3\n", "1: client 0 is listed twice"),
        ("0,0-1\n1,3\n", "client 2 is in no cohort"),
        ("0,0-1-2-3\n1,\n", "2: cohort 1 is empty"),
        ("0,0-1\n0,2-3\n", "2: cohort 0 is listed twice"),
        ("0,0-1\n2,2-3\n", "there is no cohort 1"),
        ("0,0-1-2-3-4\n", "1: there is no client 4"),
        ("0,0-1\n1,2--3\n", "2: '1,2--3' is not of the form"),
        ("0;0-1\n", "1: '0;0-1' is not of the form"),
        ("0,a\n", "1: '0,a' is not of the form"),
        ("", "client 0 is in no cohort"),
    ],
)
def test_bad_files_are_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "cohorts.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_cohorts(path, 4)
    assert str(path) in str(caught.value)


def test_no_such_file() -> None:
    with pytest.raises(ConfigError) as caught:
        CohortFile(path="nowhere.txt").assign(Clients(3), np.random.default_rng(0))
    assert caught.value.field == "path"
