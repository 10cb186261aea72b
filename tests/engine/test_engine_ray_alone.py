"""A Ray of a run's own: it comes and goes with the command. And clusters that do not let it in."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ..toy.waiting import until
from .gated import GATED, WAIT, Gate

pytest.importorskip("ray")

MARK = "HANSA_TEST_RAY"
"""In the environment of a command and of all that it starts."""


class Command:
    """``hansa learn`` in a process, with a folder of its own for what is temporary."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.temporary, self.mark = folder, temporary, secrets.token_hex(16)

    def begin(self, settings: dict[str, Any], *arguments: str) -> "subprocess.Popen[str]":
        file = self.folder / "run.yaml"
        file.write_text(yaml.safe_dump(settings))
        more = ("--json", "--no-report", "--out", str(self.folder / "run"))
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            [sys.executable, "-m", "hansa.cli", "learn", str(file), *more, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def left(self) -> list[str]:
        """Processes that it has started, at any remove, and that still run."""
        names = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    names.append(f"{process.pid} {process.name()}")
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return names

    def wait_for_nobody(self) -> None:
        until(lambda: not self.left(), lambda: f"these still run: {self.left()}")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with tempfile.TemporaryDirectory(prefix="h") as temporary:
        yield Command(tmp_path, Path(temporary))


@pytest.mark.slow
def test_a_ray_of_its_own_goes_with_the_run(
    command: Command, small: Callable[..., dict[str, Any]]
) -> None:
    process = command.begin(small({"runtime": {"name": "ray"}, "rounds": 2}))
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    said = json.loads(out)
    assert said["rounds"] == 2
    assert said["overhead_bytes"] > 0
    assert command.left() == []
    assert list(command.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_command_that_is_killed_leaves_nothing_behind(
    command: Command, small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "gated.py").write_text(GATED)
    algorithm = {"name": "gated", "notes": str(tmp_path)}
    settings = small({"algorithm": algorithm, "rounds": 6, "runtime": {"name": "ray"}})
    process = command.begin({**settings, "plugins": [str(tmp_path / "gated.py")]})
    gate = Gate(tmp_path)

    def there() -> bool:
        assert process.poll() is None, process.communicate()
        return len(gate.pids()) == 2

    until(there, "two actors at the gate")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    command.wait_for_nobody()
    assert list(command.temporary.iterdir()) == []


def test_an_address_where_nobody_is_ends_it_at_once(
    command: Command, small: Callable[..., dict[str, Any]]
) -> None:
    process = command.begin(small(), "--ray-address", "127.0.0.1:1")
    out, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 2
    error = json.loads(out)["error"]
    assert error["field"] == "runtime.address"
    assert "refused" in json.dumps(error)
    assert not (command.folder / "run").exists()
