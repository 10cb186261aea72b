"""When devices are there: laws that every source keeps, FedScale's rule, and traces that lie."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.engine import Availability, DevicesClock, Job
from hansa.engine.time.fedscale import read_availability, read_capacity
from hansa.engine.time.intervals import Intervals

DAY = 86400


def device(active: list[float], inactive: list[float], finish: float = 100) -> dict[str, Any]:
    return {
        "duration": 0,
        "finish_time": finish,
        "active": active,
        "inactive": inactive,
        "model": "phone",
    }


TRACE = {
    7: device([10, 40], [20, 90]),
    3: device([0, 60], [5, 100]),  # goes on over the end
    9: device([0], [100]),  # never away
    4: device([15], [15]),
}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "client_behave_trace"
    file.write_bytes(pickle.dumps(TRACE))
    return file


def source(name: str, trace: Path) -> Availability:
    if name == "fedscale":
        return Availability.resolve({"name": name, "file": str(trace)})
    if name == "file":
        file = trace.with_name("times.csv")
        file.write_text("node,from,to\n0,5,10\n2,0,30\n0,20.5,40\n1,7,7.25\n")
        return Availability.resolve({"name": name, "file": str(file), "repeat": 50.5})
    if name == "periods":
        return Availability.resolve({"name": name, "there": 5.0, "away": 20.0})
    if name == "diurnal":
        return Availability.resolve({"name": name, "period": 100.0, "step": 7.0})
    return Availability.resolve(name)


@pytest.mark.parametrize("name", ["always", "diurnal", "fedscale", "file", "periods"])
def test_what_every_source_keeps(name: str, trace: Path) -> None:
    assert set(catalogue("availability")) == {"always", "diurnal", "fedscale", "file", "periods"}
    here, streams, n = source(name, trace), Streams(3), 4
    here.check(n)
    ids = np.repeat(np.arange(n), 400)
    time = np.tile(np.sort(np.random.default_rng(0).uniform(0, 400, 400)), n)
    there = here.online(streams, n, ids, time)
    leaves, returns = here.leaves(streams, n, ids, time), here.returns(streams, n, ids, time)
    assert there.dtype == bool
    # Another worker, asking about one node at one time, hears the same.
    other = Streams(3)
    for k in range(0, len(ids), 97):
        one = slice(k, k + 1)
        assert here.online(other, n, ids[one], time[one])[0] == there[k]
        assert here.leaves(other, n, ids[one], time[one])[0] == leaves[k]
        assert here.returns(other, n, ids[one], time[one])[0] == returns[k]
    assert (returns[there] == time[there]).all()
    assert (leaves[there] >= time[there]).all()
    late = ~there & np.isfinite(returns)
    assert (returns[late] > time[late]).all()
    assert here.online(streams, n, ids[late], returns[late]).all()
    stay = there & np.isfinite(leaves)
    gone = np.nextafter(leaves[stay], np.inf) + 1e-6
    assert not here.online(streams, n, ids[stay], gone).any()
    # From now until it leaves a node is there, and from now until it returns it is away.
    for part in (0.01, 0.5, 0.99):
        between = time + part * (np.where(np.isfinite(leaves), leaves, time + 1e6) - time)
        assert here.online(streams, n, ids[there], between[there]).all()
        between = time + part * (np.where(np.isfinite(returns), returns, time + 1e3) - time)
        assert not here.online(streams, n, ids[~there], between[~there]).any()


def test_fedscale_s_rule(trace: Path) -> None:
    """Online iff active[i] <= (t mod finish_time) <= inactive[i]."""
    settings = {"name": "fedscale", "file": str(trace), "draw": "order"}
    here, streams = Availability.resolve(settings), Streams(1)
    devices = list(TRACE.values())
    for i in range(6):  # the trace is repeated: client 4 is device 0 again
        mine = devices[i % 4]
        for t in np.arange(0, 305, 2.5):
            spans = zip(mine["active"], mine["inactive"], strict=True)
            expected = any(a <= t % mine["finish_time"] <= b for a, b in spans)
            assert here.online(streams, 6, np.array([i]), np.array([t]))[0] == expected, (i, t)
    ask = np.array([0, 0, 0, 1, 2, 1])
    time = np.array([10.0, 15.0, 190.0, 60.0, 3.0, 130.0])
    assert here.leaves(streams, 6, ask, time).tolist() == [20, 20, 190, 105, np.inf, 130]
    time = np.array([25.0, 95.0, 191.0, 10.0, 3.0, 159.0])
    assert here.returns(streams, 6, ask, time).tolist() == [40, 110, 210, 60, 3, 160]
    with pytest.raises(ConfigError, match="4 devices for 5 clients"):
        source("fedscale", trace).check(5)


@given(
    spans=st.lists(st.integers(0, 40), min_size=1, max_size=8).map(sorted),
    time=st.integers(0, 200),
)
def test_intervals_against_a_plain_loop(spans: list[int], time: int) -> None:
    pairs = list(zip(spans[::2], spans[1::2], strict=False))
    begins, ends = (np.array([p[k] for p in pairs], dtype=float) for k in (0, 1))
    table = Intervals.of([len(pairs)], begins, ends, np.array([50.0]))
    who = np.array([0])

    def plain(t: float) -> bool:
        return any(a <= t % 50 <= b for a, b in pairs)

    assert table.online(who, np.array([float(time)]))[0] == plain(time)
    back = table.returns(who, np.array([float(time)]))[0]
    ahead = [t for t in range(time, time + 51) if plain(t)]
    assert back == (ahead[0] if ahead else np.inf)


def test_periods_have_their_shares() -> None:
    here = Availability.resolve({"name": "periods", "there": 100.0, "away": 300.0})
    ids = np.arange(4000)
    for t in (0.0, 777.0, 5000.0):
        there = here.online(Streams(2), 4000, ids, np.full(4000, t))
        assert there.mean() == pytest.approx(0.25, abs=0.03)
    streams, zero = Streams(2), np.zeros(4000)
    there = here.online(streams, 4000, ids, zero)
    assert here.leaves(streams, 4000, ids, zero)[there].mean() == pytest.approx(100, rel=0.12)
    assert here.returns(streams, 4000, ids, zero)[~there].mean() == pytest.approx(300, rel=0.12)


def test_day_and_night() -> None:
    here = Availability.resolve({"name": "diurnal", "low": 0.1, "high": 0.7})
    ids, streams = np.arange(1000), Streams(2)

    def count(t: float) -> int:
        return int(here.online(streams, 1000, ids, np.full(1000, t)).sum())

    assert count(DAY / 4) == 700
    assert count(3 * DAY / 4) == 100
    assert count(DAY) == 400
    one = here.online(streams, 1000, ids, np.full(1000, DAY / 4))
    two = here.online(streams, 1000, ids, np.full(1000, DAY / 4 + 600))
    day = here.online(streams, 1000, ids, np.full(1000, DAY * 5 / 4))
    assert 0 < (one != two).sum() < 200, "a little churn"
    assert (one != day).sum() < 200, "who is there by day is there by day"


def test_files_say_where_they_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    here = Availability.resolve({"name": "file", "file": str(file)})
    with pytest.raises(ConfigError, match="cannot be read"):
        here.check(2)
    for body, words in (
        ("0,5,4\n", "line 2: node 0 from 5 to 4"),
        ("0,0,1\n0,-1,4\n", "line 3: node 0 from -1 to 4"),
        ("0,nan,4\n", "line 2: node 0 from nan"),
        ("2,1,4\n", "node 2 is none of the 2 clients"),
        ("0,1\n", "line 2: not node,from,to"),
        ("0,1,5\n0,4,9\n", "node 0 begins at 4 in a span that ends at 5"),
    ):
        file.write_text("node,from,to\n" + body)
        with pytest.raises(DataError) as caught:
            here.check(2)
        assert words in str(caught.value)
    file.write_text("node,from,to\n0,3,inf\n")
    streams, both = Streams(1), np.array([0, 1])
    assert here.online(streams, 2, both, np.zeros(2)).tolist() == [False, True]
    assert here.returns(streams, 2, both, np.zeros(2)).tolist() == [3, 0]
    assert here.leaves(streams, 2, both, np.full(2, 4.0)).tolist() == [np.inf, np.inf]


def test_the_clock_passes_questions_on(trace: Path, make_job: Callable[..., Job]) -> None:
    clock = DevicesClock.parse(
        {"availability": {"name": "fedscale", "file": str(trace), "draw": "order"}}
    )
    block = make_job({"nodes": 4, "topology": "ring"}).block(np.array([1]))
    ids = np.array([0, 1, 2, 3])
    assert clock.available(block, ids, 15.0).tolist() == [True, False, True, True]
    assert clock.available(block, ids, np.array([5.0, 5.0, 5.0, 15.0])).tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert not clock.available(block, ids, np.inf).any()
    assert clock.leaves(block, ids, np.inf).tolist() == [np.inf] * 4
    assert clock.returns(block, ids, np.inf).tolist() == [np.inf] * 4
    assert clock.leaves(block, ids[:1], 15.0).tolist() == [20]
    assert clock.returns(block, ids[:2], 25.0).tolist() == [40, 60]


# -- traces that lie, and worse --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (device([5], [1]), "active[0] = 5 is after inactive[0] = 1"),
        (device([1, 3], [5, 9]), "active[1] = 3 is before inactive[0] = 5"),
        (device([1, 3], [2]), "2 times in 'active', 1 in 'inactive'"),
        (device([-1], [5]), "active[0] = -1.0"),
        (device([1], [float("nan")]), "inactive[0] = nan"),
        (device([1], [float("inf")]), "inactive[0] = inf"),
        (device([1], [10**400]), "inactive[0] is too large"),
        (device([], []), "is never active"),
        (device([1], ["x"]), "inactive[0] = 'x'"),
        (device([1], [True]), "inactive[0] = True"),
        (device([1], [5], 0), "finish_time = 0.0"),
        ({"active": [1], "inactive": [2]}, "has no 'finish_time'"),
        ({"finish_time": 5, "inactive": [2]}, "has no list 'active'"),
        ("phone", "has no 'finish_time'"),
    ],
)
def test_times_that_make_no_sense(tmp_path: Path, entry: Any, words: str) -> None:
    file = tmp_path / "trace"
    file.write_bytes(pickle.dumps({"good": TRACE[7], "bad one": entry}))
    with pytest.raises(DataError) as caught:
        read_availability(file, 1)
    assert "device 'bad one'" in str(caught.value)
    assert words in str(caught.value)
    assert "bad: skip" in str(caught.value)
    assert len(read_availability(file, 1, "skip")) == 1
    file.write_bytes(pickle.dumps({"bad one": entry}))
    with pytest.raises(DataError, match="no device of it makes sense"):
        read_availability(file, 1, "skip")


@pytest.mark.parametrize(
    "entry",
    [
        {"computation": 5.0},
        {"computation": 0.0, "communication": 1.0},
        {"computation": 5.0, "communication": float("nan")},
        {"computation": "5", "communication": 1.0},
        None,
    ],
)
def test_capacities_that_make_no_sense(tmp_path: Path, entry: Any) -> None:
    file = tmp_path / "trace"
    file.write_bytes(pickle.dumps({3: {"computation": 1, "communication": 2}, 17: entry}))
    with pytest.raises(DataError, match="device 17: "):
        read_capacity(file, 1)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def nested_getattr(mark: Path) -> bytes:
    """Gets at os.system by getattr(getattr(builtins, '__import__')('os'), 'system')."""
    return (
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'touch "
        + str(mark).encode()
        + b"'\ntR."
    )


@pytest.mark.parametrize("read", [read_capacity, read_availability])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_runs_something_is_refused(
    tmp_path: Path, read: Callable[..., Any], protocol: int
) -> None:
    """Spec B-10."""
    file, mark = tmp_path / "trace", tmp_path / "mark"
    file.write_bytes(pickle.dumps({1: Evil(mark)}, protocol=protocol))
    with pytest.raises(DataError, match=r"it wants to import (posix|nt|os)\.system"):
        read(file, 1)
    file.write_bytes(nested_getattr(mark))
    with pytest.raises(DataError, match=r"it wants to import builtins\.getattr"):
        read(file, 1)
    file.write_bytes(pickle.dumps({1: np.float64(3)}, protocol=protocol))
    with pytest.raises(DataError, match="convert it to plain Python"):
        read(file, 1)
    huge = b"\x80\x05\x96" + (10**11).to_bytes(8, "little") + b"."  # a bytearray of 100 GB
    for body in (b"\x80\x04Psomething\n.", b"\x82\x01.", b"NR.", huge):
        file.write_bytes(body)
        with pytest.raises(DataError, match="plain data need no instruction 0x"):
            read(file, 1)
    file.write_bytes(b"\x80\x04Nr\xff\xff\xff\x7f.")  # remembers None under a number of 2 billion
    with pytest.raises(DataError, match="not a dictionary"):
        read(file, 1)
    assert not mark.exists()


@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(tmp_path_factory: Any, body: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "noise"
    for bytes_ in (body, pickle.dumps(TRACE)[:-1] + body, b"\x80\x04}" + body):
        file.write_bytes(bytes_)
        with contextlib.suppress(DataError):
            read_availability(file, 1)


def test_large_and_missing_files(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    with pytest.raises(ConfigError, match="there is no such file"):
        read_capacity(file, 1)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_capacity(tmp_path, 1)
    file.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="not a dictionary"):
        read_capacity(file, 1)
    file.write_bytes(pickle.dumps({"x": "y" * 2**20}))
    with pytest.raises(DataError, match="over the limit of 1"):
        read_capacity(file, 1)


@given(
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 6), st.floats(0, 3000)), min_size=1, max_size=12),
)
def test_periods_are_those_of_a_loop_over_one_nodes_changes(seed: int, asked: Any) -> None:
    """In any order, and at times of which some need many more changes than others."""
    periods = Availability.resolve({"name": "periods", "there": 7.0, "away": 4.0})
    streams = Streams(seed)
    ids, time = (np.array(column) for column in zip(*asked, strict=True))
    online = periods.online(streams, 7, ids, time)
    leaves = periods.leaves(streams, 7, ids, time)
    returns = periods.returns(streams, 7, ids, time)
    for k, (i, t) in enumerate(asked):
        there = first = bool(streams.numpy("availability", i).random() < 7.0 / 11.0)
        now, chunk = 0.0, 0
        while now <= t:
            steps = streams.numpy("availability", i, chunk).exponential(size=64)
            means = np.tile([7.0, 4.0] if first else [4.0, 7.0], 32)
            for change in now + np.cumsum(steps * means):
                now = float(change)
                if now > t:
                    break
                there = not there
            chunk += 1
        assert online[k] == there
        assert leaves[k] == (now if there else t)
        assert returns[k] == (t if there else now)
