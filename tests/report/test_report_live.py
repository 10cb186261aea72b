"""Runs that are watched: their folders followed while they grow, are merged, cut and resumed."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import CheckpointError
from hansa.report import RunFolder
from hansa.report import store as store_module
from hansa.report.folder import held, is_held
from hansa.report.live.nodes import Nodes
from hansa.report.live.parts import Anew, MetricTail
from hansa.report.live.shown import main_of, node_rows, shown, tiles
from hansa.report.live.tail import Tail
from hansa.report.live.track import Track, columns
from hansa.report.live.watched import QUIET, Watched
from hansa.report.store import MetricStore

CONFIG = {"verb": "learn", "algorithm": {"name": "dpsgd"}, "nodes": 4, "rounds": 10}
FACTS = {"better": "higher", "share": True, "label": "", "rank": 0}


def begin(path: Path, **config) -> RunFolder:
    environment = {"started": "2026-01-01T10:00:00+00:00", "metrics": {"accuracy": FACTS}}
    return RunFolder.create(path, {**CONFIG, **config}, environment)


def record(run: RunFolder, round: int, nodes: int = 4) -> None:
    ids, sent = np.arange(nodes), np.full(nodes, 100 * round)
    whole = {"time": 2.0 * round, "bytes": int(sent.sum())}
    run.record(round, "train_loss", 1 / (1 + round), **whole)
    accuracy = round / 100 + ids / 1000
    run.record(round, "accuracy", accuracy, node=ids, time=2.0 * round, bytes=sent)
    run.round_over(round)


def watched(run: RunFolder) -> Watched:
    run.flush()
    one = Watched(run.path)
    one.update()
    return one


@given(
    entries=st.lists(
        st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_lines_come_whole_and_once_wherever_writing_stops(tmp_path_factory, entries, cuts):
    path = tmp_path_factory.mktemp("tail") / "events.jsonl"
    tail, text = Tail(path), b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
    found, at = list(tail.read()), 0
    for cut in [*sorted(cuts), len(text)]:
        with path.open("ab") as file:
            file.write(text[at : max(at, cut)])
        at = max(at, min(cut, len(text)))
        found += tail.read()
    assert found == entries
    assert tail.torn == 0


def test_lines_that_are_no_objects_are_counted_and_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n[1]\n\xff\xfe\n{"b": 2}\n{"torn": ')
    tail = Tail(path)
    assert list(tail.read()) == [{"a": 1}, {"b": 2}]
    assert tail.torn == 3
    path.write_bytes(b'{"c": 3}\n')  # shorter: another file
    assert list(tail.read()) == [{"c": 3}]


STEPS = st.lists(
    st.sampled_from(["record", "record", "flush", "flush", "read", "read", "compact", "cut"]),
    max_size=24,
)


@settings(max_examples=60)
@given(steps=STEPS)
def test_rows_come_once_and_in_order_whatever_is_merged_meanwhile(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("metrics")
    store, tail = MetricStore(path, max_parts=3), MetricTail(path)
    seen: list[tuple] = []

    def read() -> None:
        for _ in range(2):
            try:
                for rows in tail.read():
                    names = [rows.names[code] for code in rows.code]
                    seen.extend(zip(rows.round, names, rows.node, rows.value, strict=True))
                return
            except Anew:
                tail.rewind()
                seen.clear()
        raise AssertionError("taken back twice")

    for count, step in enumerate(steps):
        if step == "record":
            store.record(count, "loss", count / 2, None, None, 0.5 * count, count)
            store.record(count, "accuracy", np.arange(3) + count, np.arange(3), None, None, None)
        elif step == "cut":
            cut = max(0, count - 4)
            if store.truncate(cut):  # the diary says so
                tail.rewind()
                seen.clear()
        else:
            {"flush": store.flush, "read": read, "compact": store.compact}[step]()
    store.flush()
    read()
    whole = store.read()
    node = whole["node"].fill_null(-1)
    assert seen == list(zip(whole["round"], whole["name"], node, whole["value"], strict=True))


def test_a_damaged_part_is_named_and_the_others_are_read(tmp_path):
    store = MetricStore(tmp_path)
    for count in range(3):
        store.record(count, "loss", 1.0, None, None, None, None)
        store.flush()
    (tmp_path / "part-000002.parquet").write_bytes(b"nothing of the kind")
    tail = MetricTail(tmp_path)
    assert [int(rows.round[0]) for rows in tail.read()] == [0, 2]
    assert list(tail.damaged) == ["part-000002.parquet"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 20))
def test_a_track_keeps_few_points_the_first_and_the_last_among_them(values, most):
    track = Track(most)
    for round, value in enumerate(values):
        track.add(round, np.array([value]), whole=True)
    rounds = [point.round for point in track.points]
    assert len(rounds) <= most + 1
    assert (rounds[0], rounds[-1]) == (0, len(values) - 1)
    assert len(set(np.diff(rounds[:-1]))) <= 1  # evenly
    assert all(point.mean == values[point.round] for point in track.points)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=12).flatmap(
        lambda v: st.tuples(st.just(v), st.integers(1, len(v) - 1))
    )
)
def test_a_round_that_comes_in_pieces_is_as_one(case):
    values, cut = np.array(case[0]), case[1]
    whole, pieces = Track(), Track()
    whole.add(3, values, whole=False)
    pieces.add(3, values[:cut], whole=False)
    pieces.add(3, values[cut:], whole=False)
    one, other = columns(whole.points), columns(pieces.points)
    assert one["low"] == other["low"]
    assert one["high"] == other["high"]
    assert one["mean"] == pytest.approx(other["mean"], rel=1e-5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["missing", "lost", "rejoined", "truncated", "resumed", "x"]) | JSON},
    optional=dict.fromkeys(
        ["nodes", "senders", "receivers", "round", "after_round", "cause", "time", "worker"], JSON
    ),
)


@given(st.lists(EVENTS, max_size=12))
@settings(max_examples=30)
def test_no_event_of_whatever_form_ends_the_watching(tmp_path_factory, events):
    run = begin(tmp_path_factory.mktemp("run") / "run")
    with (run.path / "events.jsonl").open("w") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    one = watched(run)
    json.dumps(shown([one]), allow_nan=False)
    json.dumps(node_rows(one), allow_nan=False)


def test_faults_are_counted_by_node_and_those_that_a_resume_took_back_are_not(tmp_path):
    run = begin(tmp_path / "run")
    missing = {"of": "model", "exchange": 0, "outcome": "self"}
    run.event("missing", **missing, cause="lost", senders=[0, 1], receivers=[2, 2], round=1)
    run.event("missing", **missing, cause="silent", senders=[3, 3], receivers=[0, 1], round=2)
    run.event("lost", nodes=[3], worker=1, why="killed", round=2, saved=1)
    one = watched(run)
    assert one.faults == {"missing": 2, "silent": 2, "lost": 1}
    rows = node_rows(one)
    faults = {fault["name"]: fault["values"] for fault in rows["faults"]}
    assert faults == {"missing": [1, 1, 2, 0], "lost": [0, 0, 0, 1], "silent": [0, 0, 0, 1]}
    assert rows["gone"] == [3]
    record(run, 4)
    run.flush()
    one.update()
    every = shown([one])["runs"][0]
    drawn = {line["label"]: line for line in every["charts"][-1]["lines"]}
    assert drawn["lost on the way"]["round"] == [0, 1, 4]
    assert drawn["lost on the way"]["mean"] == [0, 2, 2]
    assert drawn["sender silent"]["mean"] == [0, 2, 2]
    assert every["marks"] == [{"round": 2, "kind": "lost"}]
    run.event("rejoined", nodes=[3], worker=1, **{"from": 1, "at": 3}, round=3)
    one.update()
    assert node_rows(one)["gone"] == []
    assert [line["kind"] for line in one.events] == ["rejoined", "lost", "missing", "missing"]
    run.event("truncated", after_round=1, rows=9)
    run.event("resumed", round=1)
    one.update()
    assert one.faults == {"missing": 2}
    run.event("missing", **missing, cause="silent", senders=[1], receivers=[0], round=2)
    one.update()
    assert one.faults == {"missing": 2, "silent": 1}


def test_figures_follow_a_run_that_grows_is_cut_and_grows_again(tmp_path):
    run = begin(tmp_path / "run")
    for round in range(6):
        record(run, round)
    one = watched(run)
    assert (one.round, one.rate, one.left) == (5, 2.0, 10.0)
    assert main_of(one) == "accuracy"
    told = {tile["name"]: tile["number"] for tile in tiles(one, "accuracy")}
    assert told == {
        "accuracy": "5.15 %", "training loss": "0.1667", "sent": "2.00 kB", "wall time": "10.0 s",
    }  # fmt: skip
    run.truncate(2)
    run.event("resumed", round=2)
    assert one.update()
    assert one.round == 2
    record(run, 3)
    run.compact()
    one.update()
    assert one.track("accuracy").points[-1].round == one.round == 3
    rows = node_rows(one)
    assert rows["round"] == [3, 3, 3, 3]
    assert rows["figures"][-1]["values"] == [300, 300, 300, 300]
    assert not one.update()


def test_a_thousandth_of_a_long_run_is_kept(tmp_path):
    run = begin(tmp_path / "run", rounds=20_000, nodes=1)
    for round in range(20_000):
        run.record(round, "train_loss", 1.0, time=0.1 * round, bytes=round)
    one = watched(run)
    assert one.round == 19_999
    assert all(len(track.points) <= 513 for track in (*one.tracks.values(), one.time, one.bytes))
    assert len(json.dumps(shown([one]))) < 60_000


def test_servers_are_told_from_clients(tmp_path):
    run = begin(tmp_path / "run")
    run.record(1, "accuracy", np.array([0.5]), node=np.array([4]), time=1.0)
    run.record(1, "bytes_sent", np.arange(5.0), node=np.arange(5), time=1.0)
    one = watched(run)
    assert one.track("accuracy").last.mean == 0.5
    assert one.track("bytes_sent").last.mean == 1.5  # of the clients
    assert node_rows(one)["server"] == [4]


def test_of_many_nodes_those_in_trouble_and_the_worst_are_shown(tmp_path):
    run = begin(tmp_path / "run", nodes=5000)
    run.record(1, "accuracy", np.linspace(0, 1, 5000), node=np.arange(5000))
    run.event("lost", nodes=[4999], worker=0, round=1)
    rows = node_rows(watched(run))
    assert (rows["of"], len(rows["node"])) == (5000, 2000)
    assert rows["node"] == [*range(1999), 4999]


def test_how_a_run_ended_and_since_when(tmp_path):
    run = begin(tmp_path / "run")
    with held(run.path):
        one = watched(run)
        assert (one.state, one.over, one.since) == ("running", False, 1767261600.0)
    run.event("failed", error="node 3: no disk", type="DiskError")
    run.finish({"status": "failed", "rounds": 3})
    one.update()
    assert (one.state, one.over, one.error) == ("failed", True, "node 3: no disk")
    ended = json.loads((run.path / "events.jsonl").read_text().splitlines()[-1])
    assert shown([one])["runs"][0]["since"] == pytest.approx(one.since)
    assert ended["kind"] == "ended"
    with held(run.path):  # it goes on
        run.withdraw()
        run.event("resumed", round=0)
        one.update()
        assert (one.state, one.over, one.error) == ("running", False, "")


def test_a_run_that_nobody_holds_and_that_is_silent_is_stale(tmp_path):
    run = begin(tmp_path / "run")
    record(run, 1)
    one = watched(run)
    assert one.state == "running"  # heard a moment ago: perhaps its locks do not reach here
    for path in (run.path / "config.yaml", run.path / "metrics"):
        os.utime(path, (1e9, 1e9))
    assert one.heard == 1e9
    one.update()
    assert (one.state, one.since, one.over) == ("stale", 1e9, False)
    assert QUIET > 10
    with held(run.path):
        one.update()
        assert one.state == "running"  # a round may take long


def test_a_look_at_the_lock_neither_takes_it_nor_leaves_one(tmp_path):
    assert not is_held(tmp_path)
    assert not list(tmp_path.iterdir())
    with held(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)
    stop, refused = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            is_held(tmp_path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            try:
                with held(tmp_path):
                    pass
            except CheckpointError as error:
                refused.append(error)
    finally:
        stop.set()
        thread.join()
    assert not refused


def test_rows_are_on_disk_soon_after_their_round(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(store_module.time, "monotonic", lambda: now[0])
    run = begin(tmp_path / "run")
    written = []
    for seconds in (0.1, 0.1, 0.1, 1.5, 1.5, 0.2, 0.2, 60.0):
        now[0] += seconds
        record(run, len(written))
        written.append(len(RunFolder.open(run.path).metrics()["round"].unique()))
    # A slow round's rows do not wait for the next one; quick ones are written every 2 seconds.
    assert written == [0, 0, 0, 4, 5, 5, 5, 8]


def test_nodes_with_numbers_that_none_has_are_left_out():
    nodes = Nodes()
    ids = np.array([-5, 2, 10**12])
    nodes.measured("loss", ids, np.ones(3), np.zeros(3, np.int64))
    nodes.happened({"kind": "lost", "nodes": [-1, 10**15, True, "3", 1]})
    nodes.most = 100
    nodes.happened({"kind": "lost", "nodes": [100]})
    assert len(nodes) == 3
    assert nodes.gone.tolist() == [False, True, False]


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not a run folder"):
        Watched(tmp_path)
