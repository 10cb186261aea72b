"""What went wrong in a run: counted from its events, and drawn over its rounds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hansa.report.charts import spec_of
from hansa.report.fault_log import FaultLog, Span
from hansa.report.fault_picture import fault_pictures

CAUSES = st.sampled_from([("lost", "self"), ("lost", "wait"), ("silent", "self")])


def missing(round: int, cause: str, outcome: str, count: int) -> dict[str, Any]:
    event = {"kind": "missing", "round": round, "of": "model", "exchange": 0, "cause": cause}
    return {**event, "outcome": outcome, "senders": [0] * count, "receivers": [1] * count}


def drawn(picture: Any) -> list[list[dict[str, Any]]]:
    """The rows of each layer of a picture."""
    spec = spec_of(picture)
    named = [layer.get("data", spec.get("data"))["name"] for layer in spec["layer"]]
    return [spec["datasets"][name] for name in named]


@given(st.lists(st.tuples(st.integers(1, 900), CAUSES, st.integers(1, 9)), max_size=30))
def test_every_message_is_in_the_picture(told: list[tuple[int, tuple[str, str], int]]) -> None:
    """However many rounds stand in one bar; bars of one place lie on each other."""
    events = [missing(round, *cause, count) for round, cause, count in told]
    log = FaultLog.of(events, {})
    names = {("lost", "self"): "lost", ("lost", "wait"): "resent", ("silent", "self"): "silent"}
    for cause, name in names.items():
        assert log.counts[name] == sum(count for _, c, count in told if c == cause)
    pictures = fault_pictures(log, 900)
    assert len(pictures) == bool(told)
    if told:
        (rows,) = drawn(pictures[0])
        assert sum(row["messages"] for row in rows) == sum(count for *_, count in told)
        assert all(row["high"] - row["low"] == row["messages"] for row in rows)
        tops: dict[float, int] = {}
        for row in rows:
            assert row["low"] == tops.get(row["from"], 0)
            tops[row["from"]] = row["high"]


def test_who_was_away_and_why() -> None:
    """Also twice, for good, and of rounds that were taken back."""
    config = {
        "faults": {
            "absent": {"1": [[3, 9], [12, None]]},
            "crash": [{"nodes": [2], "round": 4, "away": 2, "loses": 1}],
            "partition": [{"groups": [[1]], "rounds": [5, None]}],
        }
    }
    events = [
        {"kind": "lost", "round": 7, "nodes": [4, 5]},
        {"kind": "truncated", "after_round": 5},
        {"kind": "lost", "round": 6, "nodes": [4, 5], "saved": 4},
        {"kind": "rejoined", "at": 9, "from": 4, "nodes": [4]},
        missing(6, "silent", "self", 3),
    ]
    log = FaultLog.of(events, config)
    assert set(log.spans) == {
        Span(1, 4, 10, "absent"),
        Span(1, 13, None, "absent"),
        Span(2, 5, 7, "crashed"),
        Span(4, 6, 9, "lost"),
        Span(5, 6, None, "lost"),
    }
    assert log.parted == ((6, None),)
    assert log.counts == {"lost": 0, "resent": 0, "silent": 3, "nodes_lost": 2, "rejoined": 1}
    messages, away = (drawn(picture) for picture in fault_pictures(log, 14))
    assert [len(rows) for rows in messages] == [1, 1]
    assert max(row["to"] for row in away[0]) == 14.5
    assert [row["node"] for row in away[1]] == ["4"]


def test_a_run_without_faults_shows_none() -> None:
    log = FaultLog.of([{"kind": "ended"}], {"faults": None})
    assert not log
    assert fault_pictures(log, 10) == []
