"""Faults that strike a live site: at their moment, once, and as they say."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from hansa.engine.links.conditions import Conditions, Course
from hansa.engine.links.link_filter import Filter
from hansa.engine.runtimes.strikes import MOMENTS, Strike, Strikes


class _Links:
    def __init__(self) -> None:
        self.severed: list[int] = []

    def cut(self, site: int) -> None:
        self.severed.append(site)


def _struck(*strikes: Strike, delay: float = 0.0) -> tuple[Strikes, _Links, list[Filter]]:
    made = Strikes(strikes, 1)
    course = Course(conditions=(Conditions(delay=delay),))
    toward = made.over(lambda peer: Filter(course) if peer else None)
    assert toward is not None
    links = _Links()
    made.links = links
    filters = [toward(peer) for peer in (0, 2, 3)]
    return made, links, [one for one in filters if one is not None]


def test_without_faults_links_are_what_they_were() -> None:
    def toward(peer: int) -> Filter | None:
        return None

    others = [Strike(0, 0, "training", "drop"), Strike(1, 0, "training", "drop", incarnation=1)]
    assert Strikes(others, 1).over(toward) is toward
    assert Strikes([], 1).over(None) is None


def test_a_fault_strikes_once_at_its_moment() -> None:
    made, links, _ = _struck(Strike(1, 2, "sending", "drop"))
    for round in range(5):
        for moment in MOMENTS:
            made.at(moment, round)
            struck = round > 2 or (round == 2 and moment != "training")
            assert links.severed == ([0, 2, 3] if struck else [])


def test_what_is_held_comes_later_and_in_order() -> None:
    made, links, [one, *others] = _struck(Strike(1, 0, "training", "delay", seconds=3.0), delay=0.5)
    assert others[0].offer(1.0, 10) == [(1.5, "whole")]
    made.at("training", 0)
    assert others[0].offer(2.0, 10) == [(5.0, "whole")]
    assert one.offer(3.0, 10) == [(5.0, "whole")]
    assert others[0].offer(4.8, 10) == [(5.3, "whole")]
    assert one.down(3.0) is None
    assert links.severed == []


def test_who_is_cut_off_is_so_on_all_links() -> None:
    made, links, filters = _struck(Strike(1, 0, "receiving", "partition", seconds=2.0))
    made.at("receiving", 0)
    assert links.severed == [0, 2, 3]
    assert filters[1].down(10.0) == pytest.approx(2.0)
    assert filters[0].down(11.0) == pytest.approx(1.0)
    assert filters[2].offer(11.5, 5) == [(12.0, "whole")]
    assert filters[0].down(12.0) is None


@pytest.mark.parametrize("what", ["duplicate", "corrupt"])
def test_frames_are_struck_one_after_the_other_on_any_link(what: str) -> None:
    made, _, filters = _struck(Strike(1, 0, "sending", what, frames=2))  # type: ignore[arg-type]
    made.at("sending", 0)
    kinds = [[p.what for p in link.offer(1.0, 9)] for link in (*filters, filters[0])]
    hit = ["whole", "duplicate"] if what == "duplicate" else ["corrupt"]
    assert kinds == [hit, hit, ["whole"], ["whole"]]


_SITE = """
import sys, threading, time
from hansa.engine.runtimes.strikes import Strike, Strikes
beats = 0
def beat():
    global beats
    while True:
        beats += 1
        time.sleep(0.01)
threading.Thread(target=beat, daemon=True).start()
strikes = Strikes([Strike(0, 1, "training", sys.argv[1], seconds=1.0)], 0)
strikes.at("training", 0)
print("begins", flush=True)
before, began = beats, time.monotonic()
strikes.at("training", 1)
print(time.monotonic() - began, beats - before, flush=True)
"""


def _site(what: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _SITE, what], stdout=subprocess.PIPE, text=True)


def test_a_crash_is_a_kill() -> None:
    with _site("crash") as site:
        assert site.wait(60) == -signal.SIGKILL


def test_a_pause_stops_every_thread_and_slow_work_only_its_own() -> None:
    with _site("pause") as paused:
        assert paused.stdout is not None
        assert paused.stdout.readline() == "begins\n"
        seconds, beats = map(float, paused.stdout.readline().split())
        assert seconds >= 0.9
        assert paused.wait(60) == 0
    with _site("slow") as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "begins\n"
        seconds, others = map(float, slow.stdout.readline().split())
        assert seconds >= 0.99
    assert others > beats
