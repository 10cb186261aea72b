"""A process that is forked from one that is ready is as one that was started: the same in all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import warm
from .waiting import until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
TELLS = """
import json, os, pathlib, sys, threading
import hansa.base.child
told = {
    "argv": sys.argv, "place": os.getcwd(), "path": sys.path, "name": __name__,
    "environment": dict(os.environ), "parent": os.getppid(), "read": sys.stdin.read(),
    "leads": os.getsid(0) == os.getpid(), "cores": sorted(os.sched_getaffinity(0)),
    "files": [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")],
    "errors": [sys.stdin.errors, sys.stdout.errors, sys.stderr.errors], "spec": __spec__.name,
    "encodings": [sys.stdin.encoding, sys.stdout.encoding, sys.stderr.encoding],
    "threads": threading.active_count(),
    "signals": {n: str(__import__("signal").getsignal(n)) for n in (1, 2, 13, 15, 17)},
}
print(json.dumps(told))
print("and this", file=sys.stderr)
"""
ENDS = {
    "by itself": "print('last')",
    "with a number": "import sys; print('last'); sys.exit(7)",
    "with a word": "import sys; sys.exit('a word')",
    "by an error": "1 / 0",
    "by a signal": "import os; os.kill(os.getpid(), 9)",
    "by an interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "after its threads": (
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(.1), print('last'))).start()"
    ),
    "at its exit": "import atexit; atexit.register(print, 'last')",
}
STARTS = """
import subprocess, sys
going = subprocess.Popen([sys.executable, "-m", "waits"], stdout=subprocess.PIPE)
print(going.pid, flush=True)
print(going.stdout.readline().decode(), end="", flush=True)
going.wait()
"""
WAITS = """
import os, sys, time
from hansa.base.child import end_with
end_with(os.getppid())
print("torch" in sys.modules, flush=True)
time.sleep(600)
"""


def both(tmp_path: Path, code: str, **how: Any) -> list[subprocess.CompletedProcess[str]]:
    """A module run warm and as ever."""
    (tmp_path / "a_module.py").write_text(code)
    command = [sys.executable, "-m", "a_module", "--x", "1 2", "é"]
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False, **how}
    assert warm.forks_now()
    done = [subprocess.run(command, **how)]
    with warm.cold():
        done.append(subprocess.run(command, **how))
    return done


@pytest.mark.parametrize("session", [False, True])
def test_it_has_what_it_was_given(
    session: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_SOMETHING", "é")
    how = {"input": "öne\ntwo", "start_new_session": session, "env": dict(os.environ)}
    one, other = both(tmp_path, TELLS, **how)
    assert one.returncode == other.returncode == 0, one.stderr
    assert one.stderr == other.stderr
    mine, theirs = json.loads(one.stdout), json.loads(other.stdout)
    assert len(mine.pop("files")) <= len(theirs.pop("files")) + 1  # the line to its own server
    assert mine == theirs
    assert mine["parent"] == os.getpid()


@pytest.mark.parametrize("threads", sorted({1, min(2, os.cpu_count() or 1)}))
def test_it_has_as_many_threads_as_it_was_given(threads: int, tmp_path: Path) -> None:
    code = "import torch; print(torch.get_num_threads(), torch.get_num_interop_threads())"
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    one, other = both(tmp_path, code, env=environment)
    assert one.stdout == other.stdout == f"{threads} {one.stdout.split()[1]}\n"
    assert len(warm.servers()) == 1


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_it_ends_as_it_would(code: str, tmp_path: Path) -> None:
    one, other = both(tmp_path, code)
    assert (one.returncode, one.stdout) == (other.returncode, other.stdout)
    assert one.stderr.splitlines()[-1:] == other.stderr.splitlines()[-1:]


def test_what_it_starts_is_warm_too_and_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(STARTS)
    (tmp_path / "waits.py").write_text(WAITS)
    command = [sys.executable, "-m", "starts"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as going:
        assert going.stdout is not None
        inner = psutil.Process(int(going.stdout.readline()))
        assert inner.ppid() == going.pid
        assert going.stdout.readline() == "True\n"
        everyone = psutil.Process(going.pid).children(recursive=True)
        assert len(everyone) > 1
        going.send_signal(signal.SIGKILL)
    assert going.returncode == -signal.SIGKILL

    def gone() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return all(p.status() == psutil.STATUS_ZOMBIE for p in everyone if p.is_running())
        return True

    until(gone, "what it had started is still there")


def test_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    one, _ = both(tmp_path, "print('here')")
    for pid in warm.servers():
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)])
    again, _ = both(tmp_path, "print('here')")
    assert (again.stdout, again.returncode) == (one.stdout, 0)
