"""Ratings of one's own, made ones, their splits, and the deal of users."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Movielens, Ratings, RatingsFile, SyntheticRatings, Users
from hansa.data.dealing.rating_splits import RULES, split_ratings
from hansa.data.ratings import once

HEAD = "who;what;how much;when\n"
BODY = "ann;tea;4;100\nbob;tea;2;100\nann;ale;5;90\nann;rum;1;110\nbob;ale;3;80\n"


def write(folder: Path, text: str, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def own(path: Path, **more: object) -> RatingsFile:
    named = {"user": "who", "item": "what", "rating": "how much", "timestamp": "when"}
    return RatingsFile(path=path, **named | more)


# -- tables of one's own


def test_any_names_of_columns_and_ids_that_are_words(tmp_path: Path, streams: Streams) -> None:
    source = own(write(tmp_path, HEAD + BODY), split="leave_last")
    data = source.load(streams)
    assert data.group_names == ("ann", "bob")
    assert data.item_names == ("ale", "rum", "tea")
    assert data.spec.scale == (1, 5)
    assert data.test.inputs.tolist() == [[1, 2], [0, 1]]  # bob's tea, ann's rum


def test_usual_names_are_found_and_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    text = "userId,movieId,rating\n10,2,1.5\n9,1,2\n"
    ratings = RatingsFile(path=write(tmp_path, text)).ratings()
    assert ratings.user_names == ("9", "10")
    assert ratings.times is None
    assert ratings.stars.tolist() == [1.5, 2]


def test_dates_are_times(tmp_path: Path) -> None:
    text = "user,item,stars,date\n1,1,1,1970-01-02\n1,2,2,1970-01-01 00:00:30\n"
    times = RatingsFile(path=write(tmp_path, text)).ratings().times
    assert times is not None
    assert times.tolist() == [86_400, 30]


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        (HEAD + "ann;;4;1\nbob;tea;;1\n", {}, r"missing.*2 of 2 rows.*'what' 1, 'how much' 1"),
        (HEAD + "ann;tea;good;1\n", {}, "'good'.*no number"),
        (HEAD + "ann;tea;4;noon\n", {}, "'noon'.*no time"),
        (HEAD + "ann;tea;4;1\nann;tea;5;1\n", {}, r"rated differently.*'ann', item 'tea'.*4 and 5"),
        (HEAD + BODY, {"scale": (1, 4)}, r"1 of 5 ratings lie outside the scale of 1 to 4.*5 \("),
        (HEAD + BODY, {"scale": (5, 1)}, "scale.*is no scale"),
        (HEAD + BODY, {"user": "whom"}, "user.*did you mean 'who'"),
        (HEAD + BODY, {"user": None}, "no column has a usual name of a user"),
        (HEAD + BODY, {"item": "who"}, "stands for two things"),
        (HEAD + BODY, {"timestamp": None, "split": "user_time"}, "split.*when each rating"),
        (HEAD + "ann;tea;inf;1\n", {}, "not finite"),
        (HEAD + "ann;tea;4;1\nbob;tea;4;1\n", {}, "every user has one rating only"),
        (HEAD + BODY, {"users": 3}, "users.*there are only 2"),
        (HEAD, {}, "no rows"),
    ],
)
def test_each_bad_table_has_its_own_error(
    text: str, more: dict[str, object], says: str, tmp_path: Path, streams: Streams
) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        own(write(tmp_path, text), **more).load(streams)
    import re

    assert re.search(says, str(caught.value), re.DOTALL), caught.value


def test_what_may_be_left_out_is_and_is_said(tmp_path: Path, streams: Streams) -> None:
    text = HEAD + BODY + "cat;;4;1\nann;tea;4;100\n"
    data = own(write(tmp_path, text), missing="drop").load(streams)
    assert data.group_names == ("ann", "bob")
    assert any("1 rows with missing values" in note for note in data.notes)
    assert any("1 ratings repeat another" in note for note in data.notes)


@pytest.mark.parametrize(("repeats", "kept"), [("first", 1), ("last", 5), ("mean", 3)])
def test_repeats_are_by_time(repeats: str, kept: float, tmp_path: Path) -> None:
    text = HEAD + "ann;tea;5;3\nann;tea;3;2\nann;tea;1;1\nann;ale;2;1\n"
    ratings = own(write(tmp_path, text), repeats=repeats).chosen()
    assert sorted(zip(ratings.items.tolist(), ratings.stars.tolist(), strict=True)) == [
        (0, 2),
        (1, kept),
    ]


def test_titles_of_items(tmp_path: Path) -> None:
    titles = write(tmp_path, "what,title\ntea,Green tea\nale,Old ale\n", "titles.csv")
    source = own(write(tmp_path, HEAD + BODY), titles_path=titles)
    assert source.titles() == {"tea": "Green tea", "ale": "Old ale"}


# -- made ratings


def test_made_ratings_are_those_of_the_truth_but_for_noise_and_rounding() -> None:
    source = SyntheticRatings(people=300, items=400, per_user=40, noise=0.2, bias=0.2, taste=0.3)
    ratings = source.ratings()
    error = ratings.stars - source.truth().stars(ratings.users, ratings.items)
    assert abs(error.mean()) < 0.02
    assert 0.2 < error.std() < 0.2 + 0.5 / np.sqrt(12)
    assert set(np.unique(ratings.stars)) <= set(np.arange(0.5, 5.5, 0.5))
    assert len(np.unique(ratings.users * 400 + ratings.items)) == len(ratings)
    assert abs(len(ratings) / 300 - 40) < 4
    popularity = np.sort(np.bincount(ratings.items, minlength=400))[::-1]
    assert popularity[:40].sum() > popularity[-200:].sum()


def test_made_ratings_are_the_same_each_time_and_others_with_another_seed() -> None:
    one, same, other = (SyntheticRatings(seed=s).ratings() for s in (1, 1, 2))
    assert np.array_equal(one.stars, same.stars)
    assert np.array_equal(one.items, same.items)
    assert len(one) != len(other) or not np.array_equal(one.items, other.items)


def test_more_than_half_of_all_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="per_user"):
        SyntheticRatings(items=50, per_user=26).ratings()


# -- splits


@st.composite
def some_ratings(draw: st.DrawFn) -> Ratings:
    users, items = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    pairs = draw(
        st.lists(
            st.tuples(st.integers(0, users - 1), st.integers(0, items - 1)),
            min_size=2,
            max_size=30,
            unique=True,
        )
    )
    u, i = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    times = np.array(draw(st.lists(st.integers(0, 4), min_size=len(u), max_size=len(u))), float)
    names = tuple(map(str, range(users))), tuple(map(str, range(items)))
    return Ratings(u, i, np.ones(len(u), np.float32), times, *names, "these", (0, 1))


@settings(max_examples=60)
@given(some_ratings(), st.sampled_from(RULES), st.floats(0.1, 0.9))
def test_splits_are_disjoint_whole_and_do_not_depend_on_the_order_of_rows(
    ratings: Ratings, rule: str, fraction: float
) -> None:
    try:
        train, test, _ = split_ratings(ratings, rule, fraction, "test")
    except DataError:
        return
    assert sorted([*train, *test]) == list(range(len(ratings)))
    trained = np.bincount(ratings.users[train], minlength=6)
    tested = np.bincount(ratings.users[test], minlength=6)
    if rule != "global_time":
        assert (trained[tested > 0] > 0).all()
        whole = trained + tested
        wanted = np.ones(6) if rule == "leave_last" else np.floor(fraction * whole + 0.5)
        assert np.array_equal(tested, np.minimum(wanted, np.maximum(whole - 1, 0)))
    if rule == "random_user":
        return
    times = ratings.times
    assert times is not None
    for user in range(6) if rule != "global_time" else [slice(None)]:
        own_train = train if rule == "global_time" else train[ratings.users[train] == user]
        own_test = test if rule == "global_time" else test[ratings.users[test] == user]
        if rule == "global_time":
            assert times[own_train].max() < times[own_test].min()
        elif len(own_test):  # by time, and of one moment the items of the higher number
            when = [(times[r], ratings.items[r]) for r in range(len(ratings))]
            assert max(when[r] for r in own_train) < min(when[r] for r in own_test)
    back = np.arange(len(ratings))[::-1]
    _, again, _ = split_ratings(ratings.take(back), rule, fraction, "test")
    assert sorted(back[again]) == test.tolist()


def test_what_is_cold_is_said() -> None:
    users, items = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    ratings = Ratings(
        users, items, np.ones(4, np.float32), np.array([1.0, 2, 3, 9]), ("a", "b", "c"),
        ("x", "y", "z"), "these", (0, 1),
    )  # fmt: skip
    _, _, notes = split_ratings(ratings, "global_time", 0.25, "test")
    assert any("2 of 3 users have no test rating" in note for note in notes)
    assert any("1 of 1 users of the test are cold" in note for note in notes)
    assert any("1 items are cold" in note for note in notes)
    _, _, notes = split_ratings(ratings, "user_time", 0.5, "test")
    assert any("know of the future" in note for note in notes)
    assert any("2 of them with one rating" in note for note in notes)


def test_equal_repeats_are_one_whatever_is_said() -> None:
    pair = np.zeros(2, np.int64)
    ratings = Ratings(pair, pair, np.ones(2, np.float32), None, ("a",), ("x",), "these", (0, 1))
    assert len(once(ratings, "refuse")) == 1


@pytest.mark.data
def test_the_published_figures_of_splits_by_time(real: Path, streams: Streams) -> None:
    notes = Movielens(split="global_time").load(streams).notes
    assert any("157 of 175 users of the test are cold: they have 91 %" in note for note in notes)
    notes = Movielens(split="leave_last").load(streams).notes
    assert any("94 users rated their last items at the same moment" in note for note in notes)
    with pytest.raises(ConfigError, match="split"):
        Movielens(version="1m", split="leave_last").load(streams)


# -- the deal of users


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["blocks", "modulo"]))
def test_users_are_dealt_whole_and_evenly(nodes: int, users: int, by: str) -> None:
    deal = Users(by=by)
    if nodes > users:
        with pytest.raises(ConfigError, match="nodes"):
            deal.node_of(users, nodes)
        return
    node = deal.node_of(users, nodes)
    sizes = np.bincount(node, minlength=nodes)
    assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(np.sort(node), node) or by == "modulo"
    groups = np.arange(users).repeat(2)[::-1].copy()
    parts = deal.split(np.zeros(len(groups)), groups, nodes, np.random.default_rng(0), users)
    for number, part in enumerate(parts):
        assert (node[groups[part]] == number).all()


def test_a_node_whose_users_have_nothing_to_train_on_is_named() -> None:
    groups = np.array([0, 0, 1])
    with pytest.raises(ConfigError, match=r"nodes.*1 nodes, the first of them 1"):
        Users().split(np.zeros(3), groups, 2, np.random.default_rng(0), 4)
    with pytest.raises(ConfigError, match="no users"):
        Users().split(np.zeros(2), None, 2, np.random.default_rng(0))


def test_a_deal_knows_users_that_have_only_test_ratings(streams: Streams) -> None:
    source = SyntheticRatings(split="global_time", partition=Users())
    data = source.load(streams)
    parts = source.divide(data, 10, streams)
    assert data.train.groups is not None
    for number, part in enumerate(parts):
        users = np.unique(data.train.groups[part])
        assert (users // 10 == number).all()
