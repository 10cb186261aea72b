"""The page on sites is run from top to bottom, and what it points to is what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sites.md").read_text()
BLOCK = re.compile(r"^```(python|yaml|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
UNIT = ROOT / "examples" / "sites" / "hansa-site@.service"


def command(line: str) -> list[str]:
    return [sys.executable, "-m", "hansa.cli", *shlex.split(line)[1:]]


@pytest.mark.slow
def test_a_stranger_follows_the_page(tmp_path: Path, free_ports: Any) -> None:
    page = PAGE
    for port, free in zip((7101, 7102, 7103), free_ports, strict=True):
        page = page.replace(str(port), str(free))
    folder = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}}
    running: list[tuple[str, subprocess.Popen[str]]] = []
    said: dict[str, str] = {}

    def all_over() -> None:
        for line, process in running:
            out, err = process.communicate(timeout=400)
            assert process.returncode == 0, f"{line}\n{out}\n{err}"
            said[line] = out + err
        running.clear()

    try:
        for kind, text in BLOCK.findall(page):
            if kind != "console":
                name = re.match(r"# ([\w.]+)", text)
                assert name, "a block that is a file begins with its name"
                (tmp_path / name[1]).write_text(text)
                if kind == "python":
                    subprocess.run([sys.executable, name[1]], check=True, timeout=200, **folder)
                continue
            for line in text.splitlines():
                if line.startswith("hansa node run"):
                    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
                    running.append((line, subprocess.Popen(command(line), **pipes, **folder)))
                    continue
                all_over()
                done = subprocess.run(
                    command(line),
                    capture_output=True,
                    text=True,
                    timeout=200,
                    check=False,
                    **folder,
                )
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
                said[line] = done.stdout
    finally:
        for _, process in running:
            process.kill()
    explained = " ".join(said["hansa node explain north.yaml"].split())
    assert "the names of its classes and of the words in its columns" in explained
    assert "round 10/10" in said["hansa node run north.yaml"]
    assert "finished, round 10 of 10" in said["hansa node status north.yaml"]
    (compared,) = (text for line, text in said.items() if line.startswith("hansa compare"))
    assert "the folders of north, south, east as one run" in compared
    for site in ("north", "south", "east"):
        assert (tmp_path / f"{site}.key").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def free_ports() -> list[int]:
    import contextlib
    import socket

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def test_the_compose_file_has_three_sites_that_may_do_little() -> None:
    compose = yaml.safe_load((ROOT / "examples" / "sites" / "compose.yaml").read_text())
    assert set(compose["services"]) == {"north", "south", "east"}
    for name, site in compose["services"].items():
        assert site["command"][:3] == ["hansa", "node", "run"]
        assert site["volumes"] == [f"./{name}:/site"]
        assert site["cap_drop"] == ["ALL"]
        assert site["read_only"]
        assert "no-new-privileges:true" in site["security_opt"]
        assert set(site["networks"]) <= set(compose["networks"])
        assert "ports" not in site
    assert {key for key in compose if not key.startswith("x-")} == {"services", "networks"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "hansa-site@north.service"
    unit.write_text(UNIT.read_text())
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    told = [line for line in checked.stderr.splitlines() if "hansa-site" in line]
    assert not told, told
    secured = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert secured.returncode == 0, secured.stdout[-2000:]


def test_the_unit_names_what_there_is() -> None:
    text = UNIT.read_text()
    assert "ExecStart=/usr/bin/env hansa node run /etc/hansa/%i.yaml" in text
    settings = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert all(re.match(r"[A-Z][A-Za-z0-9]+=", line) for line in settings)
