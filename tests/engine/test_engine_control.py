"""Control messages: only those who may say something are heard, and only if it has its form."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.base.packets import read_packet, split_packets, write_packet
from hansa.engine.exchange.wire import pack_control
from hansa.engine.runtimes.control import (
    AMONG,
    FORMS,
    ORDERED,
    REPORTED,
    Control,
    Message,
    check_report,
    read,
)
from hansa.engine.runtimes.rejoining import Rejoining

GOOD: dict[str, dict[str, Any]] = {
    "saved": {
        "round": 3,
        "entry": {
            "file": "nodes-000000-000003.safetensors",
            "nodes": [0, 3],
            "sha256": "ab",
            "outcome": None,
        },
    },
    "done": {"whole": True, "overhead": {"sent": 1}},
    "left": {"dropped": {"late": 2}},
    "error": {
        "problem": "it broke",
        "node": None,
        "round": 2,
        "phase": "training",
        "repeats": True,
        "own": [],
        "type": "RunError",
    },
    "where": {"incarnation": 1},
    "last": {"round": 4},
}


class Deaf:
    """Links that lead nowhere."""

    def __init__(self) -> None:
        self.granted = 0

    def send(self, site: int, kind: int, parts: Any) -> None:
        raise AssertionError("nothing is said")

    def grant(self, site: int, nbytes: int) -> None:
        self.granted += nbytes


@pytest.mark.parametrize("kind", GOOD)
def test_what_has_its_form_is_heard(kind: str) -> None:
    assert read(1, pack_control(kind, **GOOD[kind]), FORMS) == Message(1, kind, GOOD[kind])


@pytest.mark.parametrize("kind", [kind for kind in GOOD if FORMS[kind]])
def test_what_lacks_something_is_dropped_with_a_reason(kind: str) -> None:
    """At the coordinator a missing field was a KeyError that ended the run."""
    control, links = Control(lambda site: REPORTED | ORDERED | AMONG), Deaf()
    control.carrier = links
    total = 0
    for name in GOOD[kind]:
        for fields in (
            {key: value for key, value in GOOD[kind].items() if key != name},
            {**GOOD[kind], name: [object, b"x", 1.5][1]},
        ):
            data = pack_control(kind, **fields)
            total += len(data)
            control.arrived(1, [data])
    assert control.hear() is None
    assert sum(control.dropped.values()) == 2 * len(GOOD[kind])
    assert all(f"from site 1: a {kind!r}" in why for why in control.dropped)
    assert links.granted == total


def test_who_may_say_what_is_decided_by_who_it_is() -> None:
    """Before, whoever called itself worker 0 could say that it is done, or that it failed."""
    control = Control(lambda site: ORDERED if site == 4 else AMONG)
    control.carrier = Deaf()
    for site, kind in ((1, "last"), (4, "where"), (1, "done"), (1, "error")):
        control.arrived(site, [pack_control(kind, **GOOD[kind])])
        assert control.hear() is None
        assert f"from site {site}: a {kind!r} is not for it to say" in control.dropped
    control.arrived(4, [pack_control("last", round=2)])
    assert control.hear() == (4, "last", {"round": 2})


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(sorted(FORMS)))
def test_no_bytes_break_it(data: bytes, kind: str) -> None:
    control = Control(lambda site: frozenset(FORMS))
    control.carrier = Deaf()
    control.arrived(0, [data])
    control.arrived(0, [pack_control(kind)[:-1] + data])
    control.arrived(0, [pack_control(kind, round=data, site=data, report=data, entry={})])
    while control.hear() is not None:
        pass


@pytest.mark.parametrize("file", ["../../x.safetensors", "/etc/passwd", "nodes-0-1.safetensors"])
def test_no_file_is_named_by_a_site(file: str) -> None:
    entry = {**GOOD["saved"]["entry"], "file": file}
    with pytest.raises(WireError, match="whose entry is not one"):
        read(0, pack_control("saved", round=1, entry=entry), REPORTED)


def report(**changes: Any) -> dict[str, Any]:
    """A report of nodes 2 and 3 of 4."""
    numbers = np.zeros(2, dtype=np.int64)
    made = {
        "round": 1,
        "ids": np.array([2, 3]),
        "seconds": 0.1,
        "at": 12.0,
        "values": {"train_loss": np.zeros(2)},
        "log": {"seen": np.zeros(4)},
        "events": [{"kind": "missing"}],
        "counters": {"bytes_sent": numbers, "steps": numbers},
        "measured": None,
        "extra": False,
        "outcome": None,
        "arrivals": None,
    }
    return {**made, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": np.array([0, 1])},
        {"ids": [2, 3]},
        {"round": -1},
        {"round": True},
        {"values": {"train_loss": np.zeros(3)}},
        {"values": {"train_loss": [0, 0]}},
        {"counters": {"bytes_sent": np.zeros(2)}},
        {"events": ["missing"]},
        {"measured": {"values": {}}},
        {"outcome": {"reason": 3}},
    ],
)
def test_a_report_is_that_of_its_nodes(changes: dict[str, Any]) -> None:
    check_report(report(), np.array([2, 3]), 4)
    with pytest.raises(WireError, match="a report"):
        check_report(report(**changes), np.array([2, 3]), 4)
    for name in report():
        with pytest.raises(WireError, match=name):
            check_report({k: v for k, v in report().items() if k != name}, np.array([2, 3]), 4)


# -- coming back


class Round:
    """Sites that speak to each other at once."""

    def __init__(self, begun: dict[int, int]) -> None:
        self.left: list[tuple[int, int]] = []
        self.back: list[tuple[int, int, int]] = []
        self.sites = {site: self._made(site) for site in begun}
        for site, rounds in begun.items():
            self.sites[site].begun = rounds

    def _made(self, site: int) -> Rejoining:
        def say(to: int, kind: str, **fields: Any) -> None:
            assert self.sites[to].heard(Message(site, kind, fields))

        return Rejoining(
            say,
            lambda other: self.left.append((site, other)),
            lambda other, at: self.back.append((site, other, at)),
            incarnation=int(site == 0),
        )


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 50), min_size=1), st.integers(0, 50))
def test_all_agree_on_when_a_site_is_back_and_nobody_has_begun_that_round(
    begun: dict[int, int], done: int
) -> None:
    run = Round({0: done, **begun})
    back = run.sites[0]
    back.ask(begun)
    assert back.known
    assert all(run.sites[site].asking == {0} for site in begun)  # nobody begins another round
    at = back.announce(begun)
    assert at == max(done, *begun.values()) + 1
    assert sorted(run.back) == [(site, 0, at - 1) for site in sorted(begun)]
    assert all(not run.sites[site].asking for site in begun)


def test_word_that_a_site_is_gone_may_come_after_it_has_asked() -> None:
    """Then it is of no use: what is gone is what was there before."""
    run = Round({0: 2, 1: 5})
    run.sites[0].ask([1])
    run.left.clear()
    run.sites[1].left(0, 0)
    assert run.sites[1].asking == {0}
    assert not run.left
    run.sites[1].left(0, 1)
    assert not run.sites[1].asking


def test_nobody_waits_for_an_answer_of_a_site_that_is_gone() -> None:
    run = Round({0: 2, 1: 5})
    silent = Rejoining(lambda *a, **b: None, lambda other: None, lambda other, at: None)
    run.sites[1] = silent
    run.sites[0].say = lambda *a, **b: None
    run.sites[0].ask([1])
    assert not run.sites[0].known
    run.sites[0].left(1, 0)
    assert run.sites[0].known
    assert run.sites[0].announce([]) == 3


# -- packets on a pipe


@given(st.lists(st.dictionaries(st.text(max_size=3), st.binary(max_size=9)), max_size=4))
def test_packets_come_out_as_they_went_in(packets: list[dict[str, bytes]]) -> None:
    import io

    file = io.BytesIO()
    for packet in packets:
        write_packet(file, packet)
    data = file.getvalue()
    assert split_packets(data + b"\0\0") == (packets, b"\0\0")
    file.seek(0)
    assert [read_packet(file) for _ in packets] == packets
    assert read_packet(file) is None
    cut = io.BytesIO(file.getvalue()[-1:] or b"?")
    with pytest.raises(WireError, match="within a packet"):
        read_packet(cut)
