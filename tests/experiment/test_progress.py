"""What is shown of a run's progress on a pipe: news, what is prepared, and that it goes on."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hansa.base.telling import doing
from hansa.experiment import RunFile, resume, run
from hansa.experiment.progress import RunProgress, Steps

TINY = {
    "nodes": 3,
    "rounds": 4,
    "topology": "ring",
    "train": {"local_steps": 1},
    "evaluate": {"every": 2},
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that progress goes by."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def put(seconds: float) -> None:
        now[0] = seconds

    return put


def shown(path: Path = Path("it")) -> RunProgress:
    """Progress of a run that is about to begin."""
    progress = RunProgress()
    progress.begin(RunFile.parse({**TINY, "rounds": 10}), path)
    return progress


def test_what_is_left_is_what_the_rounds_so_far_took(clock, capsys) -> None:
    progress = shown()
    clock(100)  # of preparing, which do not count
    progress(0, {"accuracy": 0.1})
    assert "left" not in capsys.readouterr().err
    clock(104)
    progress(2, {"accuracy": 0.3, "bytes_sent": 2e6})
    assert capsys.readouterr().err == (
        "round 2/10: accuracy 30.00 %, 2.00 MB sent, 104 s, 16.0 s left\n"
    )
    clock(110)
    progress(5, {})
    assert capsys.readouterr().err == ""
    assert progress.status() == (
        "round 6/10: training, accuracy 30.00 % when last measured, 110 s, 10.0 s left"
    )
    progress.doing("measuring")
    assert progress.status().startswith("round 6/10: measuring, ")


def test_a_run_that_goes_on_counts_its_own_rounds(clock) -> None:
    progress = shown()
    progress(7, {})
    assert "left" not in progress.status()
    clock(5)
    progress(8, {})
    assert progress.status().endswith("5.0 s, 10.0 s left")


def test_before_the_first_round_it_says_what_is_prepared(clock) -> None:
    progress = shown()
    assert progress.status() == "preparing, 0.0 s so far"
    with progress:
        doing("loading cifar10")
    doing("nothing of its concern")
    clock(31)
    assert progress.status() == "loading cifar10, 31.0 s so far"


def test_a_long_silence_is_broken_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    enough = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if sum(line.endswith("rule linear") for line in said) == 4:
            enough.set()

    monkeypatch.setattr("hansa.experiment.progress.say", say)
    with Steps(silence=1e-3) as steps:
        steps("rule linear")
        assert enough.wait(60)
    assert said.count("rule linear") == 1
    again = [text for text in said if re.fullmatch("still at it after .*: rule linear", text)]
    assert len(again) >= 3
    steps.quiet = True
    steps("another")
    assert "another" not in said


@pytest.mark.parametrize("progress", [True, False, None])
def test_a_library_user_may_ask_for_the_usual_lines(tmp_path, capsys, progress) -> None:
    run(TINY, tmp_path / "run", progress, report=False)
    err = capsys.readouterr().err
    assert ("round 4/4: accuracy" in err) == bool(progress)
    assert (f"results in {tmp_path / 'run'}" in err) == bool(progress)
    resume(tmp_path / "run", {"rounds": 5}, progress, report=False)
    assert ("round 5/5: accuracy" in capsys.readouterr().err) == bool(progress)


def test_what_a_run_does_is_told(tmp_path) -> None:
    class Listening(RunProgress):
        def doing(self, what: str) -> None:
            told.append(what)

    told: list[str] = []
    with Listening(quiet=True) as progress:
        run(TINY, tmp_path / "run", progress, report=False)
    assert told[:2] == ["loading digits", "trying the model"]
    assert "building 3 models" in told
    assert told[-1] == "measuring"
