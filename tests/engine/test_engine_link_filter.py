"""A shaped link: the token bucket against another way to compute it, and what must always hold."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hansa.engine.links.conditions import Conditions, Course, merged
from hansa.engine.links.link_filter import Filter, Passage

TINY = 1e-6
times = st.floats(0, 20, allow_nan=False).map(lambda t: round(t, 4))
frames = st.lists(st.tuples(times, st.integers(1, 200_000)), min_size=1, max_size=30).map(sorted)
rates = st.one_of(st.just(math.inf), st.floats(1e3, 1e6))
chances = st.floats(0, 0.9)


@st.composite
def conditions(draw: st.DrawFn, whole: bool = False) -> Conditions:
    delay = draw(st.floats(0, 0.5))
    return Conditions(
        delay=delay,
        jitter=delay * draw(st.floats(0, 1)),
        rate=draw(rates),
        burst=draw(st.floats(1, 1e5)),
        loss=draw(chances),
        resend=draw(st.floats(0, 0.5)),
        duplicate=draw(chances),
        corrupt=0.0 if whole else draw(chances),
    )


@st.composite
def courses(draw: st.DrawFn, whole: bool = False) -> Course:
    starts = sorted(set(draw(st.lists(st.floats(0.1, 30), max_size=4))))
    held = [draw(conditions(whole)) for _ in range(len(starts) + 1)]
    cuts = draw(st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 5)), max_size=3))
    return Course(
        (0.0, *starts), tuple(held), merged((begins, begins + long) for begins, long in cuts)
    )


@settings(deadline=None, max_examples=150)
@given(frames, st.floats(1e3, 1e6), st.floats(1, 1e5), st.floats(0, 1))
def test_the_token_bucket_is_the_virtual_scheduling_algorithm(
    sent: list[tuple[float, int]], rate: float, burst: float, delay: float
) -> None:
    """ITU-T I.371's form: a theoretical time moves on by a frame's length; no tokens are counted.

    A frame leaves once it is not further ahead of that time than the burst.
    """
    link = Filter(Course(conditions=(Conditions(delay=delay, rate=rate, burst=burst),)))
    theoretical = before = 0.0
    for now, nbytes in sent:
        start = max(now, before)
        theoretical = max(theoretical, start) + nbytes / rate
        before = max(start, theoretical - burst / rate)
        [passage] = link.offer(now, nbytes)
        assert passage.at == pytest.approx(before + delay, abs=1e-6)
        assert passage.what == "whole"


def _all(link: Filter, sent: list[tuple[float, int]]) -> list[tuple[float, int, list[Passage]]]:
    return [(now, nbytes, link.offer(now, nbytes)) for now, nbytes in sent]


@settings(deadline=None, max_examples=200)
@given(frames, courses(), st.integers(0, 2**63))
@example([(0.0, 1), (7.918, 1)], Course(conditions=(Conditions(delay=0.0625, duplicate=0.5),)), 0)
def test_frames_keep_their_order_and_none_vanishes(
    sent: list[tuple[float, int]], course: Course, key: int
) -> None:
    link = Filter(course, key)
    out = _all(link, sent)
    for now, _, passages in out:
        kinds = [passage.what for passage in passages]
        assert kinds in (["whole"], ["whole", "duplicate"], ["corrupt"])
        assert passages[0].at >= now
    moments = [passage.at for _, _, passages in out for passage in passages]
    assert moments == sorted(moments)
    assert all(math.isfinite(moment) for moment in moments)
    for begins, until in course.cuts:
        first = [passages[0].at for _, _, passages in out]
        assert not any(begins < moment < until for moment in first)
    assert _all(Filter(course, key), sent) == out  # the same again


@settings(deadline=None, max_examples=200)
@given(frames, st.floats(1e3, 1e6), st.floats(1, 1e5), chances, st.integers(0, 2**63))
def test_the_rate_holds_in_any_window(
    sent: list[tuple[float, int]], rate: float, burst: float, loss: float, key: int
) -> None:
    there = Conditions(rate=rate, burst=burst, loss=loss, resend=0.1)
    passed = [
        (passages[0].at, n)
        for _, n, passages in _all(Filter(Course(conditions=(there,)), key), sent)
    ]
    for first in range(len(passed)):
        total = 0
        for moment, nbytes in passed[first + 1 :]:
            total += nbytes
            allowed = burst + rate * (moment - passed[first][0])
            assert total <= allowed * (1 + TINY) + TINY * rate


@settings(deadline=None, max_examples=100)
@given(frames, st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 2**63))
def test_delays_stay_within_the_jitter_or_wait_for_a_frame_before(
    sent: list[tuple[float, int]], delay: float, part: float, key: int
) -> None:
    link = Filter(Course(conditions=(Conditions(delay=delay, jitter=delay * part),)), key)
    before = 0.0
    for now, _, [passage] in _all(link, sent):
        least, most = now + delay * (1 - part), now + delay * (1 + part)
        assert passage.at >= least - TINY
        assert passage.at <= max(most, before) + TINY
        before = passage.at


def test_means_of_delay_loss_and_chances_are_those_that_were_asked_for() -> None:
    there = Conditions(delay=0.2, jitter=0.1, loss=0.25, resend=0.3, duplicate=0.1, corrupt=0.05)
    link = Filter(Course(conditions=(there,)), key=7)
    n = 20_000
    out = [link.offer(100.0 * k, 1000) for k in range(n)]
    delays = np.array([passages[0].at - 100.0 * k for k, passages in enumerate(out)])
    expected = 0.2 + 0.3 * 0.25 / 0.75  # a geometric number of times that it is sent again
    assert delays.mean() == pytest.approx(expected, abs=4 * delays.std() / math.sqrt(n))
    single = delays[delays < 0.35]
    assert single.min() >= 0.1 - 1e-9
    assert single.max() <= 0.3 + 1e-9
    assert single.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.03)  # uniform
    kinds = [passage.what for passages in out for passage in passages]
    assert kinds.count("corrupt") / n == pytest.approx(0.05, abs=0.007)
    assert kinds.count("duplicate") / (n - kinds.count("corrupt")) == pytest.approx(0.1, abs=0.01)


def test_a_rate_that_changes_carries_the_bytes_of_each_part() -> None:
    """1 s at 1000 B/s, 1 s of nothing, then 2000 B/s: 3000 bytes after an empty bucket."""
    parts = tuple(Conditions(rate=rate, burst=1.0) for rate in (1000.0, 0.0, 2000.0))
    link = Filter(Course((0.0, 1.0, 2.0), parts))
    assert link.offer(0.0, 3001)[0].at == pytest.approx(3.0)
    endless = Filter(Course((0.0, 1.0), parts[:2]))
    with pytest.raises(ValueError, match="nothing for good"):
        endless.offer(0.5, 3001)


def test_what_is_under_way_in_a_cut_goes_out_after_it() -> None:
    course = Course(conditions=(Conditions(delay=0.5, rate=1000.0, burst=1.0),), cuts=((2.0, 5.0),))
    link = Filter(course)
    assert [link.down(now) for now in (1.9, 2.0, 4.0, 5.0)] == [None, 3.0, 1.0, None]
    assert link.offer(0.0, 1001)[0].at == pytest.approx(1.5, abs=0.01)
    assert link.offer(1.2, 400)[0].at == pytest.approx(5.9, abs=0.01)  # it would have come at 2.1
    assert link.offer(1.3, 1000)[0].at == pytest.approx(6.9, abs=0.01)


def test_a_lost_connection_forgets_what_was_under_way() -> None:
    link = Filter(Course(conditions=(Conditions(rate=1000.0, burst=1.0),)))
    link.offer(0.0, 1001)
    assert link.offer(0.0, 100_000)[0].at == pytest.approx(101.0)
    link.clear(2.0)
    assert link.offer(2.0, 1000)[0].at == pytest.approx(3.0)


@settings(deadline=None, max_examples=60)
@given(frames, courses(), st.integers(0, 2**63), st.data())
def test_a_state_is_all_there_is(
    sent: list[tuple[float, int]], course: Course, key: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(sent)))
    whole, first = Filter(course, key), Filter(course, key)
    out = _all(whole, sent)
    begun = _all(first, sent[:cut])
    second = Filter(course, key)
    second.restore(first.state)
    assert begun + _all(second, sent[cut:]) == out


@settings(deadline=None, max_examples=100)
@given(frames, courses(whole=True), st.integers(0, 2**63))
def test_without_corruption_a_frame_arrives_when_it_comes_out(
    sent: list[tuple[float, int]], course: Course, key: int
) -> None:
    one, other = Filter(course, key), Filter(course, key)
    for now, nbytes in sent:
        assert one.arrival(now, nbytes) == other.offer(now, nbytes)[0].at


def test_a_corrupt_frame_arrives_later() -> None:
    there = Conditions(delay=0.1, corrupt=0.5, resend=0.2)
    link = Filter(Course(conditions=(there,)), key=3)
    late = np.array([link.arrival(50.0 * k, 10) - 50.0 * k for k in range(4000)])
    tries = (late - 0.1) / (0.1 + 0.1 + 0.2)
    assert np.allclose(tries, tries.round())
    assert tries.mean() == pytest.approx(1.0, abs=0.1)


def test_overlapping_cuts_are_one() -> None:
    assert merged([(3, 4), (0, 1), (1, 2), (3.5, 6)]) == ((0, 2), (3, 6))
    for course in (Course(), Course(cuts=((1.0, 2.0),))):
        assert all(late < early for (_, late), (early, _) in pairwise(course.cuts))
