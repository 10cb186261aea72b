"""``hansa learn`` from the first line to the last, its errors, and going on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

KEYS = {"run_dir", "verb", "algorithm", "nodes", "rounds", "seconds", "bytes_sent", "final"}
FINAL = {"accuracy", "accuracy_std", "accuracy_average_model", "consensus_distance", "loss"}


def test_json_is_one_object_and_nothing_else(hansa, tiny) -> None:
    said = hansa(f"learn {tiny} --json")
    assert said.status == 0
    assert said.object.keys() >= KEYS
    assert said.object["final"].keys() >= FINAL
    assert said.object["bytes_sent"] > 0
    assert Path(said.object["run_dir"], "report.html").exists()
    assert "round 2/2" in said.err
    assert hansa("learn --set nodes=1 --set rounds=1 --json --quiet isolated").err.count("\n") == 0


def test_people_get_the_table_and_the_places(hansa, tiny) -> None:
    said = hansa(f"learn {tiny} --out here")
    assert said.status == 0
    assert "accuracy" in said.out
    assert re.search(r"run +here\n", said.out)
    assert re.search(r"report +here/report.html\n", said.out)
    assert "dpsgd on digits: 4 nodes, 2 rounds, results in here" in said.err


def test_a_terminal_gets_a_bar_and_quiet_gets_nothing(hansa, tiny, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    said = hansa(f"learn {tiny} --out here")
    assert "round 2 of 2" in said.err
    assert "sent" in said.err
    assert "accuracy" in said.out
    assert hansa(f"learn {tiny} --quiet --out there").err == ""


def test_the_lines_that_matter_and_all_of_them(hansa, tiny) -> None:
    def rows(said) -> int:
        lines = [line.strip() for line in said.out.splitlines()]
        head = next(k for k, line in enumerate(lines) if line.startswith("──"))
        return next(k for k, line in enumerate(lines[head + 1 :]) if not line)

    few, every = hansa(f"learn {tiny} --out it"), hansa(f"learn {tiny} --all")
    assert rows(few) <= 8 < rows(every)
    assert "messages received" in every.out
    assert "messages received" not in few.out
    assert rows(hansa("report it")) == rows(few)
    assert rows(hansa("report it --all")) == rows(every)


def test_a_report_of_nothing_says_so(hansa, tiny) -> None:
    Path("late.py").write_text(FAILING.replace("t == 2", "t == 0"))
    chosen = "--set plugins=[late.py] --set evaluate.dense_start=false"
    assert hansa(f"learn fails_late {tiny} {chosen} --out it").status == 2
    said = hansa("report it")
    assert said.status == 0
    assert "warning: nothing was measured in it" in said.err
    assert "no more" in said.err
    assert "Last measured" not in said.out


def test_a_run_file_an_algorithm_and_options(hansa, tiny) -> None:
    Path("mine.yaml").write_text("nodes: 3\nrounds: 1\nalgorithm: isolated\ntopology: ring\n")
    said = hansa("learn mine.yaml --set nodes=2 --seed 9 --device cpu --no-report --json --out a")
    assert (said.object["algorithm"], said.object["nodes"]) == ("isolated", 2)
    config = yaml.safe_load(Path("a/config.yaml").read_text())
    assert (config["seed"], config["device"]) == (9, "cpu")
    assert not Path("a/report.html").exists()
    assert hansa(f"learn el_local {tiny} --set algorithm.fanout=2 --json").status == 0
    again = hansa("learn a/config.yaml --json --out b")
    assert again.object["final"] == said.object["final"], "config.yaml is a run file"


def test_what_a_plugin_prints_does_not_mix_with_the_object(hansa, tiny) -> None:
    Path("loud.py").write_text("print('hello')\n")
    said = hansa(f"learn {tiny} --set plugins=[loud.py] --json")
    assert said.object["verb"] == "learn"
    assert "hello" in said.err


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy on means of nothing
def test_numbers_that_are_not_finite_are_null(hansa, tiny) -> None:
    said = hansa(f"learn {tiny} --set train.optimizer.lr=1e30 --json")
    assert said.status == 3
    assert said.object["final"]["loss"] is None
    assert "warning: training diverged, first in round" in said.err


REFUSED = [
    ("learn dpsd", "algorithm.name", "did you mean 'dpsgd'"),
    ("learn absent.yaml", "file", "no such file"),
    ("learn --set topology=rng", "topology.name", "did you mean 'ring'"),
    ("learn --set data=digit", "data.name", "did you mean 'digits'"),
    ("learn --set topology.degree=16", "topology.degree", "at most 15"),
    ("learn --set nodes=5 --set topology.degree=3", "topology.degree", "both are odd"),
    ("learn --set data.partition.name=shards --set data.partition.shards_per_node=100",
     "data.partition.shards_per_node", "at most 89"),
    ("learn --set train.batch_size=1000", "train.batch_size", "at most 89"),
    ("learn --set nodes", "set", "not key=value"),
    ("learn --set node=3", "node", "did you mean nodes=3"),
    ("learn --set nodes=many", "nodes", "whole number"),
    ("learn --set train.optimizer.lr=-1", "train.optimizer.lr", "greater than 0"),
    ("learn --device gpu", "device", "cpu"),
    ("learn --out taken", "out", "not empty"),
    ("learn --resume taken --out other", "resume", "no --out"),
    ("check --set topology.degree=16", "topology.degree", "at most 15"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "field", "words"), REFUSED)
def test_refusals(hansa, line: str, field: str, words: str) -> None:
    Path("taken").mkdir()
    Path("taken/thesis.txt").write_text("precious")
    said = hansa(f"{line} --json")
    assert said.status == 2
    error = said.object["error"]
    assert (error["type"], error["field"]) == ("ConfigError", field)
    assert words in error["message"]
    assert said.err.startswith("error: ")
    assert words in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in Path("taken").iterdir()] == ["thesis.txt"]
    assert not Path("runs").exists(), "nothing was started"


def test_debug_shows_where(hansa) -> None:
    said = hansa("learn dpsd --debug")
    assert said.status == 2
    assert "Traceback" in said.err


def test_a_plugin_that_fails_is_named(hansa) -> None:
    Path("bad.py").write_text("1 / 0\n")
    said = hansa("learn --set plugins=[bad.py] --json")
    assert said.status == 2
    assert said.object["error"]["field"] == "plugins"
    assert "bad.py, line 1" in said.object["error"]["message"]


def test_errors_that_nobody_expected(hansa, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("hansa.report.RunFolder.create", fails)
    said = hansa(f"learn {tiny} --json")
    assert said.status == 1
    assert said.object["error"]["type"] == "ZeroDivisionError"
    assert "--debug" in said.err


FAILING = """
from hansa import register
from hansa.learn import DPSGD

@register("fails_late")
class FailsLate(DPSGD):
    '''Fails in its third round.'''

    def incoming(self, block, inbox, t):
        if t == 2:
            raise ValueError("no more")
        super().incoming(block, inbox, t)
"""


def test_a_run_that_fails_says_where_and_what_is_kept(hansa, tiny) -> None:
    Path("late.py").write_text(FAILING)
    line = f"learn fails_late {tiny} --set rounds=5 --set plugins=[late.py] --out it"
    said = hansa(f"{line} --json")
    assert said.status == 2
    error = said.object["error"]
    assert (error["type"], error["run_dir"]) == ("OwnCodeError", "it")
    assert "round 3" in error["message"]
    assert "no more" in error["message"]
    assert "--resume" not in said.err  # it would fail again
    assert hansa("report it --json").object["rounds"] == 2


def test_divergence_can_stop_a_run(hansa, tiny) -> None:
    stop = "--set train.optimizer.lr=1e30 --set train.on_divergence=stop --set rounds=9"
    said = hansa(f"learn {tiny} {stop} --json")
    assert said.status == 3
    assert said.object["error"]["type"] == "Diverged"
    assert "node" in said.object["error"]


def test_resume_goes_on_and_changes_only_what_may_change(hansa, tiny) -> None:
    assert hansa(f"learn {tiny} --out it").status == 0
    refused = hansa("learn --resume it --set train.batch_size=4 --json")
    assert refused.status == 2
    assert refused.object["error"]["field"] == "train"
    assert hansa("learn --resume it --json").object["error"]["field"] == "rounds"
    longer = hansa("learn --resume it --set rounds=4 --json").object
    straight = hansa(f"learn {tiny} --set rounds=4 --json").object
    assert longer["rounds"] == 4
    assert longer["final"] == straight["final"]


@pytest.mark.parametrize("damage", ["absent", "cut", "garbage"])
def test_a_damaged_run_folder_is_named_and_refused(hansa, tiny, damage: str) -> None:
    assert hansa(f"learn {tiny} --out it").status == 0
    config = Path("it/config.yaml")
    if damage == "absent":
        config.unlink()
    elif damage == "cut":
        config.write_text(config.read_text()[:100])
    elif damage == "garbage":
        config.write_bytes(b"\xff\xfe{{{")
    for line in ("report it", "compare it", "learn --resume it --set rounds=4"):
        said = hansa(f"{line} --json")
        assert said.status == 2, line
        assert said.object["error"]["type"] == "CheckpointError"
        assert "it" in said.object["error"]["message"]


def test_damaged_measurements_are_named_and_left_out(hansa, tiny) -> None:
    """Also where nothing else is left of them: the models are there, so the run can go on."""
    assert hansa(f"learn {tiny} --out it").status == 0
    for file in Path("it/metrics").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    for line in ("report it", "compare it"):
        said = hansa(f"{line} --json")
        assert said.status == 0, said.err
        assert "warning: it/metrics/metrics.parquet: is not a readable file" in said.err
        assert "hansa learn --resume it" in said.err
    assert "metrics.parquet is damaged" in Path("it/report.html").read_text()
    said = hansa("learn --resume it --set rounds=4 --json")
    assert said.status == 0, said.err
    assert "metrics.parquet.damaged" in said.err
    assert said.object["rounds"] == 4
    assert "is damaged" not in hansa("report it").err


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(hansa, tmp_path: Path) -> None:
    line = "learn --set nodes=4 --set topology=ring --set rounds=1000000 --set evaluate.every=20"
    command = [sys.executable, "-m", "hansa.cli", *line.split(), "--out", "it", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stdout is not None
    for text in process.stderr:
        if text.startswith("round 40"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert '"type": "Interrupted"' in out
    assert "hansa learn --resume it" in err
    found = re.search(r"interrupted after round (\d+)", err)
    assert found
    done = int(found[1])
    assert hansa("report it --json").object["rounds"] == done >= 40
    said = hansa(f"learn --resume it --set rounds={done + 2} --json --no-report")
    assert said.object["rounds"] == done + 2
