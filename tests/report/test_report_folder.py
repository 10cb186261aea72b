"""The run folder keeps what it was given, whatever happens to the process or the disk."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import CheckpointError, ConfigError, HansaError, HansaWarning
from hansa.report import RunFolder

ROWS = ["round", "node", "name", "value", "step", "time", "bytes"]
rounds = st.integers(0, 6)
values = st.floats(allow_nan=False, allow_infinity=False, width=32)
maybe = st.none() | st.integers(0, 2**40)
records = st.tuples(
    st.just("record"),
    rounds,
    st.sampled_from(["accuracy", "loss"]),
    values | st.lists(values, max_size=4),
    st.booleans(),
    maybe,
    st.none() | values,
    maybe,
)
others = st.tuples(st.sampled_from(["flush", "compact", "reopen", "crash"])) | st.tuples(
    st.just("truncate"), st.integers(-1, 6)
)


def rows(folder: RunFolder) -> list[tuple]:
    return folder.metrics().select(ROWS).rows()


def quiet(folder: RunFolder) -> RunFolder:
    folder._metrics.max_seconds = 1e9
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return quiet(RunFolder.create(tmp_path / "run", {"algorithm": "gossip"}, {"hansa": "0"}))


@settings(max_examples=60, deadline=None)
@given(st.lists(records | others, max_size=25))
def test_any_interleaving_is_a_list(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("runs") / "run"
    folder = quiet(RunFolder.create(path, {}, {}))
    folder._metrics.max_parts = 3
    kept, waiting = [], []
    for kind, *given_ in steps:
        if kind == "record":
            round_, name, value, whole, step, time, sent = given_
            array = isinstance(value, list)
            node = None if whole else (list(range(len(value))) if array else 3)
            folder.record(round_, name, value, node=node, step=step, time=time, bytes=sent)
            for index, item in enumerate(value if array else [value]):
                place = None if whole else (index if array else 3)
                waiting.append((round_, place, name, item, step, time, sent))
            continue
        if kind == "crash":
            waiting = []
        elif kind == "reopen":
            folder.flush()
        else:
            getattr(folder, kind)(*given_)
        kept, waiting = kept + waiting, []
        if kind in ("crash", "reopen"):
            folder = quiet(RunFolder.open(path))
        if kind == "truncate":
            kept = [row for row in kept if row[0] <= given_[0]]
        assert rows(folder) == kept
    assert rows(folder) == kept + waiting


class Killed(BaseException):
    pass


@pytest.mark.parametrize("action", ["flush", "compact", "truncate"])
@pytest.mark.parametrize("call", ["replace", "unlink"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("nth", [0, 1])
def test_dying_midway_neither_loses_nor_doubles(folder, monkeypatch, action, call, late, nth):
    for round_ in range(3):
        folder.record(round_, "loss", [1.0 + round_, 2.0], node=[0, 1])
        folder.flush()
    folder.record(3, "loss", 9.0)
    before, calls, real = rows(folder), [], getattr(Path, call)

    def deadly(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == nth + 1 and not late:
            raise Killed
        real(self, *args, **kwargs)
        if len(calls) == nth + 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, deadly)
        with contextlib.suppress(Killed):
            folder.truncate(1) if action == "truncate" else getattr(folder, action)()
    cut = [row for row in before if row[0] <= 1]
    allowed = [before] + ([cut] if action == "truncate" else [])
    assert rows(folder) in allowed  # an interrupt that the process survives
    elsewhere = rows(RunFolder.open(folder.path))
    assert elsewhere in [*allowed, before[:-1]]
    folder.record(1, "loss", 5.0)
    folder.compact()
    assert rows(RunFolder.open(folder.path)) == rows(folder)
    assert rows(folder)[:-1] in allowed


@pytest.mark.parametrize("action", ["flush", "compact", "truncate", "record"])
def test_a_full_disk_loses_nothing(folder, monkeypatch, action):
    folder.record(0, "loss", 1.0)
    folder.flush()
    folder.record(1, "loss", [2.0, 3.0], node=[0, 1])

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        folder._metrics.max_seconds = -1 if action == "record" else 1e9
        act = {"truncate": lambda: folder.truncate(5), "record": lambda: folder.record(1, "x", 4.0)}
        with pytest.raises(HansaError, match=r"metrics.*: cannot be written \(No space.*free some"):
            act.get(action, getattr(folder, action))()
    assert [row[3] for row in rows(folder)][:3] == [1, 2, 3]
    assert not list(folder.path.glob("metrics/.*"))
    folder.flush()
    assert rows(RunFolder.open(folder.path)) == rows(folder)


def test_a_corrupt_file_is_named_and_left_out(folder):
    """To merge it away would lose it: that is refused."""
    folder.record(0, "loss", 0.5)
    folder.flush()
    folder.compact()
    folder.record(0, "loss", np.random.default_rng(0).random(500), node=np.arange(500))
    folder.flush()
    part = folder.path / "metrics" / "part-000002.parquet"
    whole = part.read_bytes()
    for broken in (whole[:100], b"", whole[:300] + b"\xff" * 40 + whole[340:]):
        part.write_bytes(broken)
        again = RunFolder.open(folder.path)
        with pytest.warns(HansaWarning, match=r"part-000002\.parquet.*\n.*--resume"):
            assert len(again.metrics()) == 1
        assert again.damaged == [part.name]
        assert again.find_damage() == 2
        with pytest.raises(CheckpointError, match=r"part-000002\.parquet"):
            again.compact()
    part.write_bytes(whole)
    assert len(RunFolder.open(folder.path).metrics()) == 501
    folder.compact()
    merged = folder.path / "metrics" / "metrics.parquet"
    merged.write_bytes(merged.read_bytes()[:-3])
    again = RunFolder.open(folder.path)
    with pytest.warns(HansaWarning, match=r"metrics\.parquet"):
        assert len(again.metrics()) == 0
    assert again.find_damage() == 0
    assert [path.name for path in again.set_aside()] == ["metrics.parquet.damaged"]
    assert len(again.metrics()) == 0  # without a word: it was set aside
    again.record(1, "loss", 2.0)
    again.compact()
    assert len(RunFolder.open(folder.path).metrics()) == 1


def test_create_refuses_what_is_there(tmp_path, folder):
    with pytest.raises(ConfigError, match="--resume") as caught:
        RunFolder.create(folder.path, {}, {})
    assert caught.value.field == "out"
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="is a file"):
            RunFolder.create(path, {}, {})
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty", {}, {})


def test_open_names_what_is_wrong(tmp_path, folder):
    with pytest.raises(CheckpointError, match="no such run folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)
    config = folder.path / "config.yaml"
    whole = config.read_text()
    for text, problem in (
        (whole[:9], "cut short"),
        ("", "cut short"),
        ("a: [1,\n...\n", "cannot be read"),
        ("- 1\n...\n", "does not hold settings"),
    ):
        config.write_text(text)
        with pytest.raises(CheckpointError, match=rf"config\.yaml.*{problem}"):
            RunFolder.open(folder.path)
    config.write_text(whole)
    (folder.path / "environment.json").write_text('{"hansa"')
    with pytest.raises(CheckpointError, match=r"environment\.json"):
        RunFolder.open(folder.path)


def test_settings_come_back_as_plain_data(tmp_path):
    config = {"lr": np.float32(0.5), "sizes": (1, 2), "path": Path("x"), "deep": {"none": None}}
    made = RunFolder.create(tmp_path / "run", config, {"seed": np.int64(3)})
    expected = {"lr": 0.5, "sizes": [1, 2], "path": "x", "deep": {"none": None}}
    again = RunFolder.open(made.path)
    assert made.config == again.config == expected
    assert again.environment == {"seed": 3}


def test_arrays_are_copied_and_must_fit(folder):
    value = np.ones(3)
    folder.record(0, "loss", value, node=np.arange(3), bytes=[1, 2, 3], time=0.5)
    value[:] = 7
    assert rows(folder) == [(0, i, "loss", 1.0, None, 0.5, i + 1) for i in range(3)]
    for bad in ({"node": [0, 1]}, {"value": np.ones((3, 2))}, {"value": None}):
        with pytest.raises(ValueError, match="loss"):
            folder.record(**({"round": 0, "name": "loss", "value": value} | bad))
    assert len(rows(folder)) == 3
    folder.record(0, "loss", float("nan"))
    folder.flush()
    assert np.isnan(rows(folder)[-1][3])


def test_a_reader_sees_what_the_writer_writes(folder):
    reader = RunFolder.open(folder.path)
    for round_ in range(4):
        folder.record(round_, "loss", 1.0)
        folder.flush()
        if round_ == 2:
            folder.compact()
        assert len(reader.metrics()) == round_ + 1


def test_events_survive_a_torn_line(folder):
    folder.event("dropped", node=np.int64(3), why={"loss": float("inf")})
    path = folder.path / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"time": "2026')
    assert [event["kind"] for event in folder.events()] == ["dropped"]
    folder.event("resumed", text="é" * 5000)
    folder.event("again")
    assert [event["kind"] for event in folder.events()] == ["dropped", "resumed", "again"]
    assert folder.events()[1]["text"] == "é" * 5000
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(CheckpointError, match="line 1"):
        folder.events()


def test_json_and_summary(folder):
    assert folder.summary is None
    assert folder.read_json("topology.json") is None
    folder.write_json("topology.json", {"nodes": np.int64(2), "edges": np.eye(2, dtype=int)})
    assert folder.read_json("topology.json") == {"nodes": 2, "edges": [[1, 0], [0, 1]]}
    folder.record(0, "loss", 1.0)
    folder.finish({"status": "finished"})
    assert RunFolder.open(folder.path).summary == {"status": "finished"}
    assert [path.name for path in (folder.path / "metrics").iterdir()] == ["metrics.parquet"]
    (folder.path / "summary.json").write_text("{")
    with pytest.warns(HansaWarning, match=r"summary\.json.*left out"):
        assert folder.summary is None
    (folder.path / "table.json").write_text("{")  # which is not known to be one to do without
    with pytest.raises(CheckpointError, match=r"table\.json"):
        folder.read_json("table.json")
    with pytest.raises(ValueError, match="not the name"):
        folder.write_json("../x.json", 1)
    assert (
        json.loads((folder.path / "events.jsonl").read_text().splitlines()[-1])["kind"] == "ended"
    )
