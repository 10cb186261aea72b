"""A child process ends with its parent, from its first moment on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hansa.base import child

LONG = 300  # seconds; only a test that fails waits so long


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], subprocess.Popen[str]]:
    """A parent whose child is busy importing: it says its child's number and waits."""
    (tmp_path / "slow_to_import.py").write_text(
        "import sys, threading\nprint('importing', flush=True)\nthreading.Event().wait()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    code = (
        "import subprocess, sys; from hansa.base import child\n"
        "command = child.command('slow_to_import')\n"
        "one = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)\n"
        "one.stdout.readline() if sys.argv[1] == 'started' else None\n"
        "print(one.pid, flush=True); one.wait()\n"
    )

    def start(when: str = "started") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, when], stdout=subprocess.PIPE, text=True
        )

    return start


@pytest.mark.parametrize("when", ["started", "at once"])
def test_it_ends_when_its_parent_is_killed(
    slow: Callable[[str], subprocess.Popen[str]], when: str
) -> None:
    """While it imports, and while Python itself starts."""
    parent = slow(when)
    assert parent.stdout
    process = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([process], timeout=LONG)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_child_whose_parent_is_gone_does_not_begin(tmp_path: Path) -> None:
    absent = subprocess.Popen([sys.executable, "-c", ""])
    absent.wait()
    command = [sys.executable, "-m", "hansa.base.child", str(absent.pid), "this"]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == child.GONE
    assert done.stdout == b""


def test_where_the_kernel_tells_nothing_a_thread_looks(
    slow: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The same on a system without that service."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.platform = 'darwin'\n")
    parent = slow()
    assert parent.stdout
    process = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([process], timeout=LONG)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_arguments_arrive(tmp_path: Path) -> None:
    (tmp_path / "said.py").write_text("import sys\nprint(__name__, sys.argv[1:])\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = child.command("said", "--index=1", "b")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "__main__ ['--index=1', 'b']\n"
