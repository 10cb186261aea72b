"""Transfers that share links: laws that both rules keep, and small cases by hand (spec B-7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.engine.time.bandwidth import Transfers, flow

INF = np.inf


@st.composite
def cases(draw: st.DrawFn) -> dict[str, np.ndarray]:
    nodes, count = draw(st.integers(1, 6)), draw(st.integers(0, 14))
    pick = st.lists(st.integers(0, nodes - 1), min_size=count, max_size=count)
    limit = st.one_of(st.floats(0.01, 1e4), st.just(INF), st.sampled_from([1.0, 10.0]))
    limits = st.lists(limit, min_size=nodes, max_size=nodes)
    whole = st.lists(st.integers(0, 1000), min_size=count, max_size=count)
    start = st.lists(
        st.one_of(st.floats(0, 100), st.sampled_from([0.0, 1.0])), min_size=count, max_size=count
    )
    return {
        "senders": np.array(draw(pick), dtype=np.int64),
        "receivers": np.array(draw(pick), dtype=np.int64),
        "nbytes": np.array(draw(whole), dtype=np.int64),
        "start": np.array(draw(start), dtype=np.float64),
        "up": np.array(draw(limits)),
        "down": np.array(draw(limits)),
    }


def run(case: dict[str, Any], rule: Any) -> Transfers:
    return flow(**case, rule=rule, record=True)


@pytest.mark.parametrize("rule", ["fair", "greedy"])
@given(case=cases())
def test_limits_and_bytes_are_kept(rule: str, case: dict[str, np.ndarray]) -> None:
    done = run(case, rule)
    s, r, up, down = (case[k] for k in ("senders", "receivers", "up", "down"))
    moved = np.zeros(len(s))
    for part in done.segments:
        assert part.end >= part.begin
        assert (part.rates >= 0).all()
        assert (part.rates > 0).any(), "somebody always gets on"
        for side, limit in ((s, up), (r, down)):
            used = np.bincount(side[part.which], weights=part.rates, minlength=len(limit))
            assert (used <= limit * (1 + 1e-9)).all()
        assert (case["start"][part.which] <= part.begin).all(), "nobody begins early"
        assert (done.finish[part.which] >= part.end).all(), "nobody goes on after its end"
        moved[part.which] += part.rates * (part.end - part.begin)
    timed = np.isfinite(np.minimum(up[s], down[r])) if len(s) else np.zeros(0, dtype=bool)
    # Times are sums, so that a long wait before a short transfer rounds what moved in it.
    slack = 1e-9 * case["nbytes"] + 1e-12 * (1 + done.finish) * np.minimum(up[s], down[r])
    assert (np.abs(moved - case["nbytes"])[timed] <= slack[timed]).all()
    assert (done.finish[~timed] == case["start"][~timed]).all()
    assert np.isfinite(done.finish).all()
    alone = case["nbytes"] / np.minimum(up[s], down[r])
    assert (done.finish >= (case["start"] + alone) * (1 - 1e-9)).all(), "none beats an empty link"
    span = sum(part.end - part.begin for part in done.segments)
    assert (done.busy <= span * (1 + 1e-9)).all()


@given(case=cases())
def test_fair_is_max_min_fair(case: dict[str, np.ndarray]) -> None:
    """Each transfer has a full link on which nobody has more than it: that is max-min fairness."""
    s, r, up, down = (case[k] for k in ("senders", "receivers", "up", "down"))
    for part in run(case, "fair").segments:
        a, b = s[part.which], r[part.which]
        used_up = np.bincount(a, weights=part.rates, minlength=len(up))
        used_down = np.bincount(b, weights=part.rates, minlength=len(down))
        for k, rate in enumerate(part.rates):
            tight_up = used_up[a[k]] >= up[a[k]] * (1 - 1e-9)
            tight_down = used_down[b[k]] >= down[b[k]] * (1 - 1e-9)
            most_up = rate >= part.rates[a == a[k]].max() * (1 - 1e-9)
            most_down = rate >= part.rates[b == b[k]].max() * (1 - 1e-9)
            assert (tight_up and most_up) or (tight_down and most_down)


@given(case=cases())
def test_greedy_leaves_nothing_that_somebody_could_use(case: dict[str, np.ndarray]) -> None:
    s, r, up, down = (case[k] for k in ("senders", "receivers", "up", "down"))
    for part in run(case, "greedy").segments:
        a, b = s[part.which], r[part.which]
        used_up = np.bincount(a, weights=part.rates, minlength=len(up))
        used_down = np.bincount(b, weights=part.rates, minlength=len(down))
        full = (used_up >= up * (1 - 1e-8))[a] | (used_down >= down * (1 - 1e-8))[b]
        assert full.all()


@given(case=cases(), seed=st.integers(0, 9))
def test_fair_does_not_depend_on_order(case: dict[str, np.ndarray], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case["senders"]))
    moved = {k: v if k in ("up", "down") else v[order] for k, v in case.items()}
    np.testing.assert_allclose(flow(**moved).finish, flow(**case).finish[order], rtol=1e-6)


def simple(pairs: list[tuple[int, int]], up: list[float], down: list[float], **more: Any) -> Any:
    senders, receivers = np.array(pairs).T
    given = {"nbytes": np.full(len(pairs), 100), "start": np.zeros(len(pairs)), **more}
    return {
        "senders": senders,
        "receivers": receivers,
        "up": np.array(up),
        "down": np.array(down),
        **{k: np.asarray(v) for k, v in given.items()},
    }


def test_two_equal_transfers_to_one_receiver() -> None:
    case = simple([(0, 2), (1, 2)], [INF, INF, INF], [INF, INF, 10.0])
    single = simple([(0, 2)], [INF, INF, INF], [INF, INF, 10.0])
    assert run(single, "fair").finish.tolist() == [10.0]
    assert run(case, "fair").finish.tolist() == [20.0, 20.0]
    assert run(case, "greedy").finish.tolist() == [10.0, 20.0]  # first come, first served
    assert run(case, "fair").busy.tolist() == [20.0, 20.0, 20.0]


def test_what_a_slow_sender_leaves_goes_to_the_others() -> None:
    """Limits 2 and 10 into 10: 2 and 8; then the first has 100 - 2 * 12.5 = 75 left."""
    case = simple([(0, 2), (1, 2)], [2.0, 10.0, INF], [INF, INF, 10.0])
    assert run(case, "fair").finish.tolist() == [50.0, 12.5]
    assert run(case, "greedy").finish.tolist() == [50.0, 12.5]


def test_who_comes_later_shares_from_then_on() -> None:
    """Alone at 10 for 5 s, then 5 each: the first ends at 15, the second at 20."""
    case = simple([(0, 2), (1, 2)], [INF] * 3, [INF, INF, 10.0], start=[0.0, 5.0])
    assert run(case, "fair").finish.tolist() == [15.0, 20.0]
    assert run(case, "greedy").finish.tolist() == [10.0, 20.0]


def test_a_transfer_that_waited_takes_what_is_freed() -> None:
    """The second waits for the sender of the first; the third has its own way."""
    case = simple([(0, 1), (0, 2), (3, 2)], [10.0] * 4, [INF, 10.0, 10.0, INF])
    assert run(case, "greedy").finish.tolist() == [10.0, 20.0, 10.0]


def test_no_transfers_and_empty_ones() -> None:
    none = simple([(0, 1)], [1.0, 1.0], [1.0, 1.0], nbytes=[0], start=[3.0])
    assert run(none, "fair").finish.tolist() == [3.0]
    empty = {k: v if k in ("up", "down") else v[:0] for k, v in none.items()}
    assert run(empty, "greedy").finish.tolist() == []
