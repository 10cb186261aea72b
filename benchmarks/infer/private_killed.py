"""Kill -9 of server and client in the middle of ResNet-20: the same logits, from the same session.

Server and client are processes of different users where this is started by root with an
interpreter that others may run (``--python``), and neither can read the other's files. Each is
killed at several moments of a query, told by the replies that the client has kept by then; weights
are random, or those of a program that hansa compiled.

    python benchmarks/infer/private_killed.py [--program FILE] [--mode NAME] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "infer" / "private"))
import made_programs  # noqa: E402
from measure import Goals, markdown, publish  # noqa: E402

from hansa.infer.private.compiling.program_file import read_program, write_program  # noqa: E402
from hansa.infer.private.integer_net import evaluate, read_rows  # noqa: E402
from hansa.infer.private.program import Program  # noqa: E402

SERVER, CLIENT = 65501, 65502
"""Users of no name."""
TIMEOUT_S = 300


class User:
    """Runs commands as a user where that can be done, with a home of its own."""

    def __init__(self, number: int, home: Path, python: str) -> None:
        self.home, self.python = home, python
        home.mkdir(mode=0o700)
        self.number = number if os.geteuid() == 0 and may_run(number, python) else None
        if self.number is not None:
            os.chown(home, number, number)
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if self.number is not None:
            self.environment |= {
                "HOME": str(home),
                "NUMBA_CACHE_DIR": str(home / "numba"),
                "HANSA_CACHE": str(home / "hansa"),
                "PYTHONDONTWRITEBYTECODE": "1",
            }

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command of ``hansa infer private``."""
        line = [self.python, "-m", "hansa.cli", "infer", "private", *map(str, arguments)]
        who: dict[str, Any] = {}
        if self.number is not None:
            who = {"user": self.number, "group": self.number, "extra_groups": []}
        return subprocess.Popen(
            [*line, "--json"], stdout=subprocess.PIPE, text=True, env=self.environment, **who
        )

    def can_read(self, path: Path) -> bool:
        """Whether a file is open to the user."""
        if self.number is None:
            return os.access(path, os.R_OK)
        code = "import sys; open(sys.argv[1], 'rb').read(1)"
        done = subprocess.run(
            [self.python, "-c", code, str(path)], user=self.number, group=self.number,
            extra_groups=[], check=False, capture_output=True,
        )  # fmt: skip
        return done.returncode == 0


def may_run(number: int, python: str) -> bool:
    """Whether a user can run an interpreter."""
    try:
        who: dict[str, Any] = {"user": number, "group": number, "extra_groups": []}
        return subprocess.run([python, "-c", ""], check=False, **who).returncode == 0
    except PermissionError:
        return False


def first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


class Trial:
    """A server and a client in folders of their own."""

    def __init__(
        self, place: Path, program: Path, rows: Path, python: str, scheme: list[str]
    ) -> None:
        place.chmod(0o711)
        self.server = User(SERVER, place / "server", python)
        self.client = User(CLIENT, place / "client", python)
        self.program, self.rows, self.scheme = program, rows, scheme
        done = self.server.start("keygen", "--out", self.server.home / "keys")
        self.pin = json.loads(done.communicate(timeout=TIMEOUT_S)[0])["fingerprint"]
        self.port = 0
        self.serving = self.serve()
        self.state, self.out = self.client.home / "state", self.client.home / "out.npz"

    def serve(self) -> subprocess.Popen[str]:
        home = self.server.home
        process = self.server.start(
            "serve", self.program, "--keys", home / "keys", "--state", home / "state",
            "--at", f"127.0.0.1:{self.port}", *self.scheme,
        )  # fmt: skip
        self.port = int(first_line(process)["port"])
        return process

    def ask(self, *more: str) -> subprocess.Popen[str]:
        return self.client.start(
            "client", self.rows, "--at", f"127.0.0.1:{self.port}", "--trust", self.pin,
            "--state", self.state, "--out", self.out, *more,
        )  # fmt: skip

    def kept(self) -> int:
        """Bytes of replies that the client has kept."""
        path = self.state / "replies.frames"
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def until(self, size: int, process: subprocess.Popen[str]) -> bool:
        """Wait until that many bytes are kept; whether the client was still at it then."""
        end = time.monotonic() + TIMEOUT_S
        while self.kept() < size and time.monotonic() < end:
            if process.poll() is not None:
                return False
            time.sleep(0.001)
        return process.poll() is None

    def logits(self, process: subprocess.Popen[str]) -> np.ndarray:
        """What the client has written when it is through."""
        process.communicate(timeout=TIMEOUT_S)
        with np.load(self.out) as file:
            return np.asarray(file["accumulators"])

    def end(self) -> dict[str, Any]:
        self.serving.send_signal(signal.SIGTERM)
        return dict(json.loads(self.serving.communicate(timeout=TIMEOUT_S)[0].splitlines()[-1]))


def kill_client(trial: Trial, size: int) -> tuple[bool, subprocess.Popen[str]]:
    asking = trial.ask()
    middle = trial.until(size, asking)
    kill(asking)
    return middle, trial.ask("--resume")


def kill_server(trial: Trial, size: int) -> tuple[bool, subprocess.Popen[str]]:
    asking = trial.ask()
    middle = trial.until(size, asking)
    kill(trial.serving)
    trial.serving = trial.serve()
    return middle, asking


def kill_both(trial: Trial, size: int) -> tuple[bool, subprocess.Popen[str]]:
    asking = trial.ask()
    middle = trial.until(size, asking)
    kill(asking)
    kill(trial.serving)
    trial.serving = trial.serve()
    return middle, trial.ask("--resume")


VICTIMS: dict[str, Callable[[Trial, int], tuple[bool, subprocess.Popen[str]]]] = {
    "client": kill_client,
    "server": kill_server,
    "both": kill_both,
}


def main(program: Program, name: str, python: str, mode: str, smoke: bool) -> None:
    goals = Goals()
    scheme = ["--mode", mode, "--reveals", "logits"]
    shares = (0.3,) if smoke else (0.1, 0.5, 0.9)
    victims = ("both",) if smoke else tuple(VICTIMS)
    value = program.input
    low, high = value.low * value.scale, value.high * value.scale
    draw = np.random.default_rng(0)
    rows = draw.uniform(low, high, (1, *program.input_shape))
    rows = rows + program.offset.reshape(-1, *(1 for _ in program.input_shape[1:]))
    wanted = evaluate(program, read_rows(program, rows))
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        place.chmod(0o755)
        path = write_program(place / "program", program)
        np.save(place / "rows.npy", rows)
        for one in (path, place / "rows.npy"):
            one.chmod(0o644)
        (place / "trial").mkdir()
        trial = Trial(place / "trial", path, place / "rows.npy", python, scheme)
        for turn in ("the first, which compiles for a new user", "the second"):
            began, asking = time.perf_counter(), trial.ask()
            total = most_kept(trial, asking)
            same = np.array_equal(trial.logits(asking), wanted)
            told = f"{time.perf_counter() - began:.2f} s of a client's process, {turn}"
            goals.add(f"{name} without a death", told, "", same)
            if smoke:
                break
        for who in victims:
            for share in shares:
                trial.out.unlink(missing_ok=True)
                shutil.rmtree(trial.state, ignore_errors=True)
                middle, asking = VICTIMS[who](trial, int(share * total))
                same = np.array_equal(trial.logits(asking), wanted)
                when = f"at {share:.0%} of the replies" if middle else "after the last reply"
                told = "the same logits" if same else "OTHER LOGITS"
                goals.add(f"kill -9 of {who} {when}", told, "the same", same)
        users = [trial.server.number, trial.client.number]
        key = trial.server.home / "keys" / "server.key.pem"
        if None in users:
            goals.add("users", "one and the same: no interpreter that others may run")
        else:
            seen = trial.client.can_read(key) or trial.client.can_read(trial.server.home / "state")
            goals.add("the client's user reads the server's files", str(seen), "False", not seen)
        figures = trial.end()
        goals.add("refusals of the server's last life", str(figures["refusals"]), "0")
    text = markdown(
        "Private inference: either side killed",
        "python benchmarks/infer/private_killed.py",
        Goals.HEADER,
        goals.rows,
    )
    publish("private_killed", text, smoke or mode != "shuffle")


def most_kept(trial: Trial, asking: subprocess.Popen[str]) -> int:
    """The most bytes of replies that a client keeps until its end."""
    most = 0
    while asking.poll() is None:
        most = max(most, trial.kept())
        time.sleep(0.001)
    return most


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--mode", default="shuffle")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.program is not None:
        main(read_program(given.program), given.program.name, given.python, given.mode, given.smoke)
    elif given.smoke:
        main(made_programs.lenet(), "LeNet-5", given.python, given.mode, True)
    else:
        main(made_programs.resnet(3), "ResNet-20, random weights", given.python, given.mode, False)
