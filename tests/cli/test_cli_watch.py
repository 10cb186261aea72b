"""``hansa watch`` beside runs that go on, have ended, were killed, or never were."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hansa.cli.app import main

LEARN = [
    *("learn", "dpsgd", "--quiet", "--no-report", "--set", "nodes=4", "--set", "topology=ring"),
    *("--set", "evaluate.every=1", "--set", "checkpoint.every=5"),
]


def begin(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hansa.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def running(tmp_path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run of very many rounds, after its first."""
    path = tmp_path / "run"
    process = begin(*LEARN, "--set", "rounds=100000", "--out", str(path))
    until_measured(process, path)
    yield process, path
    process.kill()
    process.communicate()


def until_measured(process: subprocess.Popen[str], path: Path) -> None:
    while not list(path.glob("metrics/*.parquet")):
        assert process.poll() is None, process.communicate()


def test_a_run_that_goes_on_is_followed_to_its_end_on_the_page_and_in_lines(running):
    process, path = running
    page = begin("watch", str(path), "--port", "0")
    lines = begin("watch", str(path), "--terminal")
    port = int(re.search(r":(\d+)/", page.stdout.readline())[1])  # type: ignore[index,union-attr]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/events")
    stream = connection.getresponse()
    first = re.match(r"dpsgd: running, round (\d+)", lines.stdout.readline().replace("\u202f", ""))  # type: ignore[union-attr]
    assert first
    process.send_signal(signal.SIGINT)
    told = stream.read().decode()  # until the server ends
    assert '"state":"running"' in told
    assert '"state":"interrupted"' in told
    assert told.rstrip().endswith("event: over\ndata: {}")
    _, warned = page.communicate(timeout=120)
    assert page.returncode == 0, warned
    assert "interrupted" in warned
    rest, _ = lines.communicate(timeout=120)
    assert lines.returncode == 0
    assert rest.splitlines()[-1].startswith("dpsgd: interrupted, round")


@pytest.mark.slow
def test_the_watching_ends_without_the_run_and_the_run_without_a_word(running, capsys):
    process, path = running
    page = begin("watch", str(path), "--port", "0")
    assert page.stdout is not None
    page.stdout.readline()
    page.send_signal(signal.SIGINT)
    _, warned = page.communicate(timeout=120)
    assert page.returncode == 0
    assert "the run goes on" in warned
    assert process.poll() is None
    assert main(["watch", str(path), "--json"]) == 0
    now = json.loads(capsys.readouterr().out)["runs"][0]
    assert (now["state"], now["held"], now["rounds"]) == ("running", True, 100000)
    process.kill()
    process.communicate()
    assert main(["watch", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["held"] is False


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("watch") / "run"
    assert main([*LEARN, "--set", "rounds=3", "--out", str(path)]) == 0
    return path


def test_once_prints_how_far_a_run_is_and_leaves(finished, capsys):
    assert main(["watch", str(finished), "--once"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"dpsgd\s+finished", said)
    assert "round 3 of 3" in said
    assert re.search(r"accuracy\s+\d", said)
    assert main(["watch", str(finished), "--terminal"]) == 0  # it has ended
    assert "dpsgd: finished, round 3/3" in capsys.readouterr().out


def test_the_object_says_what_the_folder_says(finished, capsys):
    assert main(["watch", str(finished), str(finished), "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    (run,) = every["runs"]  # named twice, watched once
    summary = json.loads((finished / "summary.json").read_text())
    assert every["over"]
    assert run["state"] == summary["status"]
    chart = next(chart for chart in run["charts"] if chart["name"] == "accuracy")
    assert chart["lines"][0]["mean"][-1] == pytest.approx(summary["final"]["accuracy"], rel=1e-5)
    sent = next(f for f in run["table"]["figures"] if f["name"] == "bytes")
    assert sum(sent["values"]) == summary["bytes_sent"]
    assert run["table"]["round"] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere"], "there is no such run folder"),
        (["."], "is not a run folder"),
        (["RUN", "--terminal", "--open"], "has no page"),
    ],
)
def test_what_cannot_be_watched_is_refused(words, problem, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *(str(finished) if word == "RUN" else word for word in words)]) == 2
    assert problem in capsys.readouterr().err
