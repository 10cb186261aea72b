"""The run file's ``network``: what it says of which link, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine.links.conditions import Conditions
from hansa.engine.links.shaping import Shaping


def _shaping(**said: Any) -> Shaping:
    return Shaping.model_validate(said)


def _first(shaping: Shaping, sender: int, receiver: int) -> Conditions:
    return shaping.course(sender, receiver).conditions[0]


def test_nothing_said_is_a_plain_link() -> None:
    shaping = _shaping()
    shaping.check(4)
    assert shaping.course(0, 1).plain
    assert shaping.between(Streams(1), 0, [0, 1, 2, 3])(2) is None


def test_a_pair_goes_before_its_nodes_and_these_before_the_matrix_and_that_before_all(
    tmp_path: Path,
) -> None:
    (tmp_path / "delay.csv").write_text(
        "0, .1, .2, .3\n1 0 1.2 1.3\n2,2.1,0,2.3 # third\n3;3;3;0\n"
    )
    shaping = _shaping(
        delay=9.0,
        rate=1e6,
        matrix={"delay": tmp_path / "delay.csv"},
        nodes={2: {"delay": 5.0, "rate": 1e5, "cut": [[1, 2]]}, 3: {"delay": 4.0, "rate": 1e7}},
        links=[
            {"link": [0, 2], "delay": 7.0, "both_ways": False, "cut": [[1.5, 3]]},
            {"link": [3, 1], "loss": 0.5},
        ],
    )
    shaping.check(4)
    assert _first(shaping, 0, 1) == Conditions(delay=0.1, rate=1e6)
    assert _first(shaping, 1, 0) == Conditions(delay=1.0, rate=1e6)
    assert _first(shaping, 0, 2) == Conditions(delay=7.0, rate=1e5)
    assert shaping.course(0, 2).cuts == ((1.0, 3.0),)
    assert _first(shaping, 2, 0) == Conditions(delay=5.0, rate=1e5)
    assert shaping.course(2, 0).cuts == ((1.0, 2.0),)
    assert _first(shaping, 2, 3) == Conditions(delay=5.0, rate=1e5)  # of both the worse
    assert _first(shaping, 1, 3) == Conditions(delay=4.0, rate=1e7, loss=0.5)


def test_a_trace_says_what_holds_from_when_on(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(
        "# measured\ntime,from,to,rate,delay\n0,,,1000,\n2,0,1,,0.5\n2.5,,,0,\n4,0,,2000,\n"
        "4,,,500,\n"
    )
    shaping = _shaping(delay=0.1, trace=tmp_path / "trace.csv")
    shaping.check(3)
    course = shaping.course(0, 1)
    assert course.starts == (0.0, 2.0, 2.5, 4.0)
    assert [(c.rate, c.delay) for c in course.conditions] == [
        (1000, 0.1),
        (1000, 0.5),
        (0, 0.5),
        (500, 0.5),
    ]
    assert [c.rate for c in shaping.course(2, 1).conditions] == [1000, 0, 500]


@pytest.mark.parametrize(
    ("said", "field", "problem"),
    [
        ({"nodes": {4: {}}}, "nodes.4", "is no node"),
        ({"links": [{"link": [0, 4]}]}, "links.0.link", "is no link"),
        ({"links": [{"link": [1, 1]}]}, "links.0.link", "is no link"),
        ({"cut": [[3, 2]]}, "cut", "no interval"),
        ({"nodes": {1: {"cut": [[-1, 2]]}}}, "nodes.1.cut", "no interval"),
        ({"jitter": 0.1}, "jitter", "before they leave"),
        ({"delay": 0.2, "nodes": {3: {"jitter": 0.3}}}, "jitter", "node 0 to 3"),
        ({"delay": 1, "jitter": 1, "links": [{"link": [1, 2], "delay": 0}]}, "jitter", "1 to 2"),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as error:
        _shaping(**said).check(4)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "No such file"),
        ("", "is empty"),
        ("0,1\n1,0\n", "has 2 lines, the run 3 nodes"),
        ("0 1 2\n1 0\n1 1 0\n", "line 2 has 2 numbers"),
        ("0 1 2\n1 0 x\n1 1 0\n", "line 2: 'x' is no number"),
        ("0 1 2\n1 0 -1\n1 1 0\n", "line 2: a delay of -1"),
        ("0 1 2\n1 0 inf\n1 1 0\n", "line 2: a delay of inf"),
        ("0 1 2\n1 0 nan\n1 1 0\n", "line 2: a delay of nan"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(
    tmp_path: Path, text: str | None, problem: str
) -> None:
    path = tmp_path / "delay.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as error:
        _shaping(matrix={"delay": path}).check(3)
    assert error.value.field == "matrix.delay"


def test_a_matrix_with_a_jitter_above_a_delay_is_refused(tmp_path: Path) -> None:
    (tmp_path / "delay.csv").write_text("0 1 1\n1 0 .2\n1 1 0\n")
    with pytest.raises(ConfigError, match="node 1 to 2"):
        _shaping(matrix={"delay": tmp_path / "delay.csv"}, jitter=0.5).check(3)
    (tmp_path / "rate.csv").write_text("0 inf 1\n1 0 2\n1 0 0\n")
    with pytest.raises(ConfigError, match="line 3: a rate of 0"):
        _shaping(matrix={"rate": tmp_path / "rate.csv"}).check(3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("delay,rate\n1,2\n", "its columns are delay, rate"),
        ("time,delay,colour\n", "its columns are time, delay, colour"),
        ("time,delay\n1\n", "line 2 has 1 cells"),
        ("time,delay\n2,1\n1,1\n", "line 3 is of 1 s, a line before it of 2 s"),
        ("time,delay\n,1\n", "line 2 has no time"),
        ("time,from,delay\n0,x,1\n", "line 2: 'x' is no node"),
        ("time,from,delay\n0,7,1\n", "names a node that is not in the run"),
        ("time,loss\n0,1\n", "line 2: a loss of 1"),
        ("time,rate\n0,5\n3,0\n", "nothing would ever pass"),
        ("time,jitter\n0,.5\n", "before they leave"),
    ],
)
def test_a_trace_that_does_not_fit_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        _shaping(trace=path).check(3)


def test_paths_are_those_of_the_file_they_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rate.csv").write_text("0 10\n20 0\n")
    (tmp_path / "trace.csv").write_text("time delay\n0 1\n")
    monkeypatch.chdir(tmp_path)
    shaping = _shaping(matrix={"rate": "rate.csv"}, trace="trace.csv")
    assert shaping.matrix["rate"].is_absolute()
    again = Shaping.model_validate(shaping.model_dump(mode="json"))
    again.check(2)
    assert _first(again, 1, 0) == Conditions(delay=1.0, rate=20.0)


def test_sites_have_the_links_of_their_first_nodes() -> None:
    shaping = _shaping(delay=0.1, links=[{"link": [0, 2], "delay": 0.5, "both_ways": False}])
    toward = shaping.between(Streams(5), 0, [0, 1, 2])
    there, back = toward(2), shaping.between(Streams(5), 2, [0, 1, 2])(0)
    assert there is not None
    assert back is not None
    assert there.course.conditions[0].delay == 0.5
    assert back.course.conditions[0].delay == 0.1
    assert there.key != back.key
    assert there.key == shaping.filter(Streams(5), 0, 2).key
    assert toward(3) is None  # nobody lives there
    assert math.isinf(there.course.conditions[0].rate)


def test_nodes_of_one_worker_cannot_have_links_of_their_own() -> None:
    _shaping(delay=0.1).check_sites([0, 0, 1, 1])
    for said in (
        {"nodes": {1: {"delay": 1}}},
        {"links": [{"link": [0, 3], "delay": 1}]},
    ):
        _shaping(**said).check_sites([0, 1, 2, 3])
        with pytest.raises(ConfigError, match="of the same worker"):
            _shaping(**said).check_sites([0, 0, 1, 1])
