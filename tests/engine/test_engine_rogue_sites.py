"""Sites that have proven who they are, and say what they should not to those who keep the book."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hansa.base.errors import ConfigError, RunError, WireError
from hansa.engine.exchange.dropped import Dropped
from hansa.engine.exchange.wire import pack_control
from hansa.engine.runtimes.control import REPORTED, Message, read
from hansa.engine.runtimes.coordinator import Coordinator
from hansa.engine.runtimes.interrupts import Interrupts
from hansa.engine.runtimes.own_ledger import STAGE, Meeting, OwnLedger
from hansa.engine.runtimes.rejoining import Rejoining
from hansa.engine.runtimes.supplies import Depot


class Alone:
    """Site 0 of three as its ledger sees it; what it says goes nowhere."""

    index, deadline = 0, 0.0

    def __init__(self, incarnation: int = 0) -> None:
        peers = [SimpleNamespace(site=site) for site in (1, 2)]
        self.ticket = SimpleNamespace(peers=peers, incarnation=incarnation, owner=(0, 1, 2))
        self.ticket.peer = lambda site: f"site {site}"
        self.said: list[tuple[int, str]] = []
        self.left: list[int] = []
        self.waiting = 0
        self.post = SimpleNamespace(leave=self.left.append, back=lambda site, round: None)
        self.control = SimpleNamespace(dropped=Dropped())
        self.links = SimpleNamespace(
            state=lambda site: SimpleNamespace(
                connected=True, gone=False, heard=1e18, incarnation=3, refused="", why=""
            ),
            notices=list,
            queued=lambda site: self.waiting,
        )

    def say(self, to: int, kind: str, **fields: Any) -> None:
        self.said.append((to, kind))

    def hear(self, wait: float = 0.0) -> None:
        return None


def ledger(site: Alone, needs_all: str = "") -> OwnLedger:
    job = SimpleNamespace(rounds=9, algorithm=SimpleNamespace(name="own", needs_all=needs_all))
    meeting = Meeting(60.0, 2, 60.0)
    collector: Callable[[], Any] = lambda: SimpleNamespace(job=job)  # noqa: E731
    return OwnLedger(site, meeting, collector, Interrupts(lambda: False), lambda line: None)  # type: ignore[arg-type]


def stage(done: int, playing: bool = False, asks: bool = False) -> dict[str, Any]:
    return {"tells": {STAGE: {"done": done, "playing": playing, "asks": asks}}}


def state(**known: Any) -> SimpleNamespace:
    """What links know of a peer of which they know no more."""
    return SimpleNamespace(**{"connected": False, "refused": "", "why": "", **known})


@pytest.mark.parametrize(
    ("states", "stops"),
    [
        ([state(connected=True), state(why="nobody listens there")], False),
        ([state(refused="no"), state(connected=True)], False),
        ([state(refused="no"), state(refused="never")], True),
    ],
)
def test_a_site_that_most_do_not_let_in_stops_before_it_reads_its_examples(
    states: list[SimpleNamespace], stops: bool
) -> None:
    site, rests = Alone(), []
    heard = iter([[state(), state()], [states[0], state()], states])
    now: list[Any] = []

    def rest() -> None:
        rests.append(1)
        now[:] = next(heard)

    site.rest = rest  # type: ignore[attr-defined]
    rest()
    site.links.state = lambda other: now[other - 1]
    one = ledger(site)
    if stops:
        with pytest.raises(ConfigError, match="no"):
            one.greet()
    else:
        one.greet()
    assert len(rests) == 3
    assert not site.said


def test_who_asks_when_to_come_back_and_never_says_so_is_not_waited_for_for_ever() -> None:
    site = Alone()
    one = ledger(site)
    one._hear(Message(1, "where", {"incarnation": 3}))
    assert one.rejoining.asking == {1}
    assert not one.ends(4)
    assert not one.rejoining.asking
    assert 1 in site.left


def test_who_never_says_how_far_it_is_does_not_keep_another_from_coming_back() -> None:
    site = Alone(incarnation=1)
    one = ledger(site)
    for other in (1, 2):
        one._hear(Message(other, "tells", stage(5, playing=True)))
    said = iter([Message(1, "begun", {"round": 6})])
    site.hear = lambda wait=0.0: next(said, None)  # type: ignore[method-assign]
    assert one.rejoin(2) == 6
    assert (2, "where") in site.said


@pytest.mark.parametrize("playing", [False, True])
def test_where_all_are_needed_nobody_begins_in_another_round(playing: bool) -> None:
    site = Alone()
    one = ledger(site, needs_all="keeps copies of all")
    one._hear(Message(1, "tells", stage(5, playing)))
    one._hear(Message(2, "tells", stage(4)))
    with pytest.raises(RunError, match=r"^phase start: site 1\D.*own needs all sites .*: it keeps"):
        one.rejoin(4)
    one._hear(Message(1, "tells", stage(4)))
    assert one.rejoin(4) == 4


@pytest.mark.parametrize("done", [-1, 10, 1 << 60])
def test_nobody_begins_after_a_round_that_there_is_not(done: int) -> None:
    site = Alone()
    one = ledger(site)
    one._hear(Message(1, "tells", stage(done)))
    one._hear(Message(2, "tells", stage(3)))
    assert one.rejoin(2) == 3
    rejoining = Rejoining(site.say, lambda site: None, lambda site, at: None, 1)
    rejoining.most = 9
    rejoining.begun = 2
    rejoining.ask([1])
    rejoining.heard(Message(2, "begun", {"round": 8}))  # was not asked
    rejoining.heard(Message(1, "begun", {"round": max(done, 10)}))
    assert rejoining.known
    assert rejoining.announce([]) == 3


def test_answers_do_not_pile_up_for_who_asks_and_does_not_take_them() -> None:
    site = Alone()
    one = ledger(site)
    one._own = {"rows": 3}
    for _ in range(100):
        one._hear(Message(1, "where", {"incarnation": 3}))
    assert site.said == [(1, "begun")]
    site.waiting = 1 << 21
    for _ in range(100):
        one._hear(Message(1, "tells", stage(0, asks=True)))
    assert site.said == [(1, "begun")]
    site.waiting = 0
    one._hear(Message(1, "tells", stage(0, asks=True)))
    assert site.said == [(1, "begun"), (1, "tells")]


@pytest.mark.parametrize("report", [{}, {"round": "x"}, {"round": None}, {"round": [1]}])
def test_a_report_of_no_round_is_dropped(report: dict[str, Any]) -> None:
    """It was a KeyError or a TypeError that ended the run."""
    with pytest.raises(WireError, match="a report whose round"):
        take("report", {"report": report, "overhead": {}})


@pytest.mark.parametrize("kind", ["part", "saved"])
def test_no_folder_is_made_for_a_round_that_there_is_not(kind: str) -> None:
    with pytest.raises(WireError, match="of round 10 of 9"):
        take(kind, {"round": 10})


def take(kind: str, fields: dict[str, Any]) -> None:
    """Have a message of site 0 taken by who gathers."""
    one = SimpleNamespace(ids=[0], latest=-1)
    job = SimpleNamespace(rounds=9, nodes=2)
    Coordinator._take(
        SimpleNamespace(index=1, members=[one], job=job),  # type: ignore[arg-type]
        Message(0, kind, fields),
    )


@pytest.mark.parametrize("event", [{}, {"kind": 3}, {"round": 1}])
def test_an_event_without_a_kind_is_dropped(event: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="whose event is not one"):
        read(0, pack_control("note", event=event), REPORTED)


@pytest.mark.parametrize("at", [4, 1 << 40, (1 << 64) - 1])
def test_nothing_is_read_behind_the_end_of_a_file(at: int, tmp_path: Path) -> None:
    """Beyond 2^63 it was an OverflowError that ended the run."""
    (tmp_path / "plan").write_bytes(b"abc")
    depot = Depot(tmp_path, len)
    depot.lay(0, {"plan": tmp_path / "plan"})
    assert depot.piece(0, "plan", 3)["last"]
    assert depot.piece(0, "plan", at) == {"name": "plan", "at": at, "data": b"", "last": True}
