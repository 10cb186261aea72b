"""Sinks: what they are told, that no run waits for one or fails with it, and the real libraries."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PrivateAttr

import hansa
from hansa.base.component import find, register
from hansa.base.errors import ConfigError, HansaWarning
from hansa.experiment import resume
from hansa.report import RunFolder, sinking
from hansa.report.sink import Begun, Sink, flat
from hansa.report.sinking import FILE, Sinking

from ..toy.waiting import until

SMALL = {
    "nodes": 4, "rounds": 4, "topology": "ring", "checkpoint": {"every": 2},
    "evaluate": {"every": 2},
}  # fmt: skip


class Heard(Sink):
    """Keeps all that it is told."""

    told: ClassVar[list[tuple[Any, ...]]] = []

    def begin(self, run: Begun) -> dict[str, Any]:
        self.told.append(("begin", run.round, dict(run.kept), dict(run.config)))
        return {"number": run.kept.get("number", 0) + 1}

    def record(self, round: int, figures: Any) -> None:
        self.told.append(("record", round, dict(figures)))

    def event(self, event: Any) -> None:
        self.told.append(("event", event["kind"]))

    def end(self, status: str) -> None:
        self.told.append(("end", status))


@pytest.fixture
def heard() -> type[Heard]:
    Heard.told.clear()
    return register("heard")(Heard)


def begin(path: Path, *sinks: Sink) -> tuple[RunFolder, Sinking]:
    run = RunFolder.create(path, {"nodes": 3, "sinks": [{"name": "x"}]}, {})
    return run, Sinking(sinks, run)


def test_a_sink_hears_a_run_from_its_begin_to_its_end_and_goes_on_when_it_does(heard, tmp_path):
    run = hansa.run({**SMALL, "sinks": "heard"}, tmp_path / "run", report=False)
    (what, round, kept, config), *rest = Heard.told
    assert (what, round, kept) == ("begin", 0, {})
    assert config["nodes"] == 4
    assert "sinks" not in config
    records = [entry for entry in rest if entry[0] == "record"]
    assert [entry[1] for entry in records] == [0, 1, 2, 3, 4]
    assert rest[-2:] == [("event", "ended"), ("end", "finished")]
    last, summary = records[-1][2], run.summary
    for name in ("accuracy", "loss", "consensus_distance", "accuracy_average_model"):
        assert last[name] == summary["final"][name]
    assert last["bytes_sent"] == summary["bytes_sent"]
    assert last["modelled_time"] == summary["modelled_seconds"]
    assert set(records[3][2]) >= {"train_loss", "bytes_sent", "wall_time", "round_seconds"}
    Heard.told.clear()
    resume(run.path, {"rounds": 6}, report=False)
    assert Heard.told[0][:3] == ("begin", 4, {"number": 1})
    assert [entry[1] for entry in Heard.told if entry[0] == "record"] == [5, 6]
    assert run.read_json(FILE) == {"heard": {"number": 2}}


def test_a_run_with_sinks_is_the_run_without(heard, tmp_path):
    runs = [
        hansa.run({**SMALL, "sinks": sinks}, tmp_path / str(k), report=False)
        for k, sinks in enumerate([[], ["heard", "heard"]])
    ]
    tables = [r.metrics().filter(~_is_wall(r)).drop("time") for r in runs]
    assert tables[0].equals(tables[1])
    assert runs[1].read_json(FILE) == {"heard": {"number": 1}, "heard-2": {"number": 1}}


def _is_wall(run: RunFolder) -> Any:
    return run.metrics()["name"] == "round_seconds"


class Broken(Sink):
    """Fails at what it is told to."""

    at: str = "record"

    def begin(self, run: Begun) -> None:
        self._do("begin")

    def record(self, round: int, figures: Any) -> None:
        self._do("record")

    def event(self, event: Any) -> None:
        self._do("event")

    def end(self, status: str) -> None:
        self._do("end")

    def _do(self, what: str) -> None:
        if what == self.at:
            raise OSError(f"the server hung up at {what}\nand more")


@pytest.mark.parametrize("at", ["begin", "record", "event", "end"])
def test_a_sink_that_fails_is_named_once_and_left_out(heard, at, tmp_path):
    register("broken")(Broken)
    sinks = [{"name": "broken", "at": at}, "heard"]
    with pytest.warns(HansaWarning, match=f"broken is left out.*OSError: the.*{at}$") as caught:
        run = hansa.run({**SMALL, "sinks": sinks}, tmp_path / "run", report=False)
    assert len(caught) == 1
    assert run.summary["status"] == "finished"
    assert [e["text"] for e in run.events() if e["kind"] == "warning"] == [str(caught[0].message)]
    assert Heard.told[-1] == ("end", "finished")


class Stuck(Sink):
    """Never comes back from its first round."""

    _free: Any = PrivateAttr(default_factory=threading.Event)

    def begin(self, run: Begun) -> None:
        """Nothing."""

    def record(self, round: int, figures: Any) -> None:
        self._free.wait()

    def end(self, status: str) -> None:
        """Never called."""


def test_no_run_waits_for_a_sink_that_falls_behind(heard, tmp_path, monkeypatch):
    monkeypatch.setattr(sinking, "_WAITING", 30)
    stuck = Stuck()
    run, sinks = begin(tmp_path / "run", stuck, Heard())

    def play() -> None:
        for round in range(40):
            run.record(round, "loss", 1.0)
            run.round_over(round)
            while len([entry for entry in Heard.told if entry[0] == "record"]) <= round:
                assert not sinks._drains["heard"].problem  # it has the round soon
        sinks.end("failed")

    with pytest.warns(HansaWarning, match="30 calls behind") as caught:
        play()
    stuck._free.set()
    assert len(caught) == 1
    assert Heard.told[-1] == ("end", "failed")


def test_a_run_ends_though_a_sink_does_not(heard, tmp_path, monkeypatch):
    monkeypatch.setattr(sinking, "CLOSING", 0.2)
    stuck = Stuck()
    run, sinks = begin(tmp_path / "run", stuck)
    run.record(1, "loss", 1.0)
    with pytest.warns(HansaWarning, match="did not end"):
        sinks.end("finished")
    stuck._free.set()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["a", "b", "client_x"]),
            st.none() | st.lists(st.floats(allow_infinity=False), min_size=1, max_size=3),
        ),
        max_size=12,
    )
)
def test_figures_are_means_over_nodes_and_a_round_is_told_once(tmp_path_factory, rows):
    Heard.told.clear()
    run, sinks = begin(tmp_path_factory.mktemp("run") / "run", Heard())
    rows = sorted(rows, key=lambda row: row[0])
    wanted: dict[int, dict[str, float]] = {}
    for round, name, values in rows:
        if values is None:
            run.record(round, name, 7.0)
            wanted.setdefault(round, {})[name] = 7.0
        else:
            array = np.array(values)
            run.record(round, name, array, node=np.arange(len(array)))
            figures = wanted.setdefault(round, {})
            if name not in figures and np.isfinite(array).any() and name != "client_x":
                figures[name] = pytest.approx(float(np.nanmean(array)))
    sinks.end("finished")
    told = {entry[1]: entry[2] for entry in Heard.told if entry[0] == "record"}
    assert told == {round: figures for round, figures in wanted.items() if figures}


def test_settings_are_flat_for_those_who_want_them_so():
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2], "f": True}
    assert flat(nested) == {"a.b": 1, "a.c.d": "None", "e": "[1, 2]", "f": True}


def test_what_is_not_installed_is_told_before_torch_is_loaded(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from hansa.base.component import register\n"
        "from hansa.report.sink import Sink\n"
        "@register('nowhere')\n"
        "class Nowhere(Sink):\n"
        "    library = 'nowhere_to_be_found'\n"
        "    def begin(self, run): pass\n"
        "    def record(self, round, figures): pass\n"
        "    def end(self, status): pass\n"
    )
    (tmp_path / "nowhere_to_be_found").mkdir()  # a folder of that name is no library
    script = (
        "import sys, hansa\n"
        "try:\n"
        f"    hansa.run({{'plugins': [{str(own)!r}], 'sinks': 'nowhere'}}, 'out')\n"
        "except hansa.base.errors.ConfigError as error:\n"
        "    print(error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    problem, fix = done.stdout.splitlines()
    assert problem == ("sinks.name = 'nowhere': needs nowhere_to_be_found, which is not installed")
    assert fix == "  fix: pip install 'hansa[nowhere_to_be_found]' False"
    assert not (tmp_path / "out").exists()


def test_a_password_is_not_written_into_a_run_folder():
    pytest.importorskip("mlflow")
    sink = find("sink", "mlflow").parse({"uri": "https://me:secret@mlflow.example"})
    with pytest.raises(ConfigError, match="holds a password") as caught:
        sink.check()  # type: ignore[attr-defined]
    assert "secret" not in str(caught.value)


def test_tensorboard_has_every_figure_and_a_resumed_run_goes_on_in_its_folder(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sinks = [{"name": "tensorboard", "path": str(tmp_path / "boards")}]
    run = hansa.run({**SMALL, "sinks": sinks}, tmp_path / "run", report=False)
    resume(run.path, {"rounds": 6}, report=False)
    board = EventAccumulator(str(tmp_path / "boards" / "run"))
    board.Reload()
    losses = {event.step: event.value for event in board.Scalars("train_loss")}
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    assert losses[6] == pytest.approx(_mean(run, "train_loss", 6))
    assert [event.step for event in board.Scalars("accuracy")] == [0, 1, 2, 4, 6]


def test_mlflow_has_one_run_of_a_run_that_was_resumed(tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    sinks = [{"name": "mlflow", "uri": str(tmp_path / "store"), "experiment": "tests"}]
    run = hansa.run({**SMALL, "sinks": sinks}, tmp_path / "run", report=False)
    resume(run.path, {"rounds": 6}, report=False)
    client = MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
    experiment = client.get_experiment_by_name("tests")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "run")
    assert kept.data.params["topology.name"] == "ring"
    history = client.get_metric_history(kept.info.run_id, "train_loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1].value == _mean(run, "train_loss", 6)


def test_wandb_writes_files_that_can_be_sent_later(tmp_path):
    pytest.importorskip("wandb")
    run = hansa.run({**SMALL, "sinks": "wandb"}, tmp_path / "run", report=False)
    resume(run.path, {"rounds": 6}, report=False)
    number = run.read_json(FILE)["wandb"]["id"]
    files = sorted(run.path.glob(f"wandb/offline-run-*-{number}/run-{number}.wandb"))
    assert len(files) == 2

    def rounds() -> list[int]:
        return [r for file in files for r in _rounds(file)]

    # W&B's own process writes a moment later.
    until(lambda: rounds() == [0, 1, 2, 3, 4, 5, 6], lambda: f"{rounds()}")


def _rounds(file: Path) -> Iterator[int]:
    from wandb.proto.wandb_internal_pb2 import Record

    for data in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        for item in record.history.item:
            if "round" in (item.key, *item.nested_key):
                yield json.loads(item.value_json)


def _records(text: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes them, which is what W&B's files are."""
    at, parts = 7, b""  # after the header
    while at + 7 <= len(text):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        size, kind = int.from_bytes(text[at + 4 : at + 6], "little"), text[at + 6]
        if at + 7 + size > len(text):
            return  # still being written
        parts += text[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def _mean(run: RunFolder, name: str, round: int) -> float:
    rows = run.metrics()
    rows = rows.filter((rows["name"] == name) & (rows["round"] == round) & rows["node"].is_null())
    return float(rows["value"][0])
