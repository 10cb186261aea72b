"""What a page needs is imported beside the rounds, once, after the first of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hansa.experiment.run import _warm_after_a_round

SCRIPT = """
import sys, threading
from hansa.report.warming import _LIBRARIES, warm
assert not {*_LIBRARIES} & {*sys.modules}
warm()
(thread,) = (one for one in threading.enumerate() if one.name == "hansa page")
thread.join()
assert {*_LIBRARIES} <= {*sys.modules}
warm()  # there is nothing left to do
assert not [one for one in threading.enumerate() if one.name == "hansa page"]
"""


def test_what_a_page_needs_is_imported_once() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_library_that_is_broken_is_left_to_who_needs_it(tmp_path: Path) -> None:
    (tmp_path / "polars.py").write_text("raise AttributeError('made for another NumPy')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from hansa.report.warming import warm; warm()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_begins_after_the_first_round_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    module = sys.modules[_warm_after_a_round.__module__]
    monkeypatch.setattr(module, "warm", lambda: said.append("warm"))
    collector: Any = SimpleNamespace(progress=lambda done, figures: said.append(done))
    _warm_after_a_round(collector)
    for done in (0, 1, 2):
        collector.progress(done, {})
    assert said == [0, 1, "warm", 2]
    quiet: Any = SimpleNamespace(progress=None)
    _warm_after_a_round(quiet)
    quiet.progress(1, {})
    assert said[-1] == "warm"
