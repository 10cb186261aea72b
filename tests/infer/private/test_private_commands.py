"""keygen, serve and client from the command line: processes of their own, killed and taken up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hansa.cli.infer import app
from hansa.infer.private.compiling.program_file import write_program
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.protocol.loopback import keys_in, serve_in_child
from hansa.infer.private.protocol.pins import make_identity

from .made_programs import lenet, mlp

COMMAND = [sys.executable, "-m", "hansa.cli", "infer", "private"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program, rows, keys, and logits in the clear."""
    folder = tmp_path_factory.mktemp("private")
    program = lenet()
    write_program(folder / "lenet", program)
    write_program(folder / "mlp", mlp((16, 8, 4)))
    rows = np.random.default_rng(1).uniform(0, 127, (4, *program.input_shape))
    np.save(folder / "rows.npy", rows)
    np.save(folder / "wanted.npy", evaluate(program, read_rows(program, rows)))
    keys_in(folder / "keys")
    return folder


def refused(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["private", *map(str, arguments), "--json"])
    assert done.exit_code in (1, 2), done.output
    error = json.loads(done.stdout)["error"]
    return dict(error)


def test_a_file_in_and_a_file_out(place: Path, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out.npz"
    arguments = [place / "lenet.safetensors", "--keys", place / "keys", "--state", state]
    with serve_in_child([*map(str, arguments), "--at", "127.0.0.1:0"]) as nearby:
        at = f"127.0.0.1:{nearby.address[1]}"
        trust = ["--at", at, "--trust", str(place / "keys/server.crt.pem")]
        line = ["private", "client", str(place / "rows.npy"), *trust, "--out", str(out), "--json"]
        answer = json.loads(CliRunner().invoke(app, line).stdout)
        assert (answer["rows"], answer["queries"], answer["in_range"]) == (4, 4, True)
        with np.load(out) as file:
            assert np.array_equal(file["accumulators"], np.load(place / "wanted.npy"))
        shown = CliRunner().invoke(app, [*line[:-3]])
        assert shown.exit_code == 0
        assert "MB up" in shown.stdout
        again = serve_in_child([*map(str, arguments), "--at", "127.0.0.1:0"])
        with pytest.raises(Exception, match="in use by another server"), again:
            pass
    assert nearby.final["queries"] == 8
    assert nearby.final["bytes_in"] == 2 * answer["bytes_up"]


@contextmanager
def serving(place: Path, state: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    arguments = [place / "lenet.safetensors", "--keys", place / "keys", "--state", state, "--json"]
    line = [*COMMAND, "serve", *map(str, arguments), "--at", f"127.0.0.1:{port}"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["port"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_both_sides_are_killed_in_the_middle(place: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "out.json", tmp_path / "mine"

    def client(port: int, *more: str) -> subprocess.Popen[str]:
        trust = ["--trust", str(place / "keys/server.crt.pem"), "--at", f"127.0.0.1:{port}"]
        kept = ["--state", str(mine), "--out", str(out), "--json", *more]
        line = [*COMMAND, "client", str(place / "rows.npy"), *trust, *kept]
        return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)

    with serving(place, tmp_path / "state") as (server, port):
        process = client(port)
        replies = mine / "replies.frames"
        while not replies.is_file() or not replies.stat().st_size:  # until a query is under way
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.send_signal(signal.SIGKILL)
        server.wait()
    assert not out.exists()
    with serving(place, tmp_path / "state", port) as (server, port):
        process = client(port, "--resume")
        answer = json.loads(process.communicate(timeout=120)[0])
        server.send_signal(signal.SIGTERM)
        final = json.loads(server.communicate(timeout=60)[0].splitlines()[-1])
    assert json.loads(out.read_text())["accumulators"] == np.load(place / "wanted.npy").tolist()
    assert answer["in_range"]
    assert (final["sessions"], final["refusals"]) == (0, 0)  # it was the same session
    assert not (mine / "session.json").exists()


def test_what_cannot_be_served_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    good = [place / "mlp.safetensors", "--keys", place / "keys", "--state", tmp_path / "state"]
    for more, field in (
        (["--at", "nowhere"], "at"),
        (["--at", "0.0.0.0:0"], "at"),
        (["--mode", "hidden"], "mode"),
        (["--mode", "budget"], "mode"),
        (["--profile", "n1024"], "profile"),
        (["--packing", "tight"], "packing"),
        (["--clients", tmp_path], "clients"),
        (["--quota", 0], "session_queries"),
        (["--budget", 2], "budget"),
        (["--idle", 0], "idle_s"),
    ):
        error = refused("serve", *good, *more)
        assert error.get("field", "").removeprefix("scheme.") == field, (more, error)
    assert refused("serve", *good[:2], tmp_path, *good[3:])["field"] == "keys"
    missing = refused("serve", tmp_path / "none", *good[1:])
    assert missing["type"] in ("CheckpointError", "ConfigError")


def test_what_cannot_be_asked_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    rows, trust = place / "rows.npy", ["--trust", place / "keys/server.crt.pem"]
    for arguments, field in (
        ([rows, "--trust", "sha256:1"], "trust"),
        ([tmp_path / "none.npy", *trust], "input"),
        ([rows, *trust, "--out", "out.txt"], "out"),
        ([rows, *trust, "--resume"], "resume"),
        ([rows, *trust, "--keys", tmp_path], "keys"),
        ([rows, *trust, "--at", "x"], "at"),
    ):
        assert refused("client", *arguments)["field"] == field
    empty = refused("client", rows, *trust, "--state", tmp_path / "mine", "--resume")
    assert empty["type"] == "CheckpointError"


def test_budgets_from_the_command_line(place: Path, tmp_path: Path) -> None:
    make_identity(tmp_path / "me", "client")
    np.save(tmp_path / "rows.npy", np.ones((3, 16)))
    arguments = [
        *(place / "mlp.safetensors", "--keys", place / "keys", "--state", tmp_path / "state"),
        *("--mode", "budget", "--budget", "0.25", "--clients", tmp_path / "me"),
    ]
    with serve_in_child([*map(str, arguments), "--at", "127.0.0.1:0"]) as nearby:
        trust = ["--at", f"127.0.0.1:{nearby.address[1]}", "--trust", nearby.pin]
        error = refused("client", tmp_path / "rows.npy", *trust, "--keys", tmp_path / "me")
        assert error["type"] == "Refusal"
        assert "budget" in error["message"]
        error = refused("client", tmp_path / "rows.npy", *trust)
        assert "unknown_client" in error["message"]
