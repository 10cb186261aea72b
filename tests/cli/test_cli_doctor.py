"""``hansa doctor``: each trouble that can be made here is seen, with its way out."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hansa.base import extras
from hansa.base.extras import EXTRAS, Extra
from hansa.experiment import health
from hansa.experiment.health import Finding, examine

ROOT = Path(__file__).parents[2]


def found(name: str) -> Finding:
    return next(one for one in examine() if one.name == name)


def test_here_it_works_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    script = (
        "import sys; from hansa.cli import main; status = main(['doctor', '--json']); "
        "print(status, bool({'torch', 'polars', 'numba', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    said, last = done.stdout.splitlines()
    assert last == "0 False", done.stderr
    facts = json.loads(said)
    assert facts["works"] is True
    names = [one["name"] for one in facts["findings"]]
    assert len(set(names)) == len(names)
    for one in facts["findings"]:
        assert one["state"] in ("ok", "missing", "problem"), one
        assert one["fix"] or one["state"] == "ok" or one["name"] == "GPU", one
    assert list(tmp_path.iterdir()) == []


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = project["optional-dependencies"]
    assert set(EXTRAS) == set(own) - {"dev", "docs", "all"}
    inside = own["all"][0].removeprefix("hansa[").removesuffix("]").split(",")
    assert set(inside) == set(EXTRAS) - {"flower"}


def test_a_package_that_is_not_there_breaks_it(hansa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "required", lambda: ["numpy", "no-such-package"])
    said = hansa("doctor --json")
    assert said.status == 1
    assert said.object["works"] is False
    said = hansa("doctor")
    assert said.status == 1
    assert "pip install no-such-package" in " ".join(said.out.split())  # lines may break there


def test_an_extra_is_whole_or_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "torch>=2",
        "one>=1; extra == 'serve'",
        'numpy; extra == "serve"',
        "hansa[x]; extra == 'all'",
    ]
    monkeypatch.setattr(extras.importlib.metadata, "requires", lambda name: lines)
    assert extras.required() == ["torch"]
    assert extras.required("all") == []
    serve = next(extra for extra in extras.extras() if extra.name == "serve")
    assert [name for name, version in serve.packages if version is None] == ["one"]
    assert not serve.whole
    assert serve.command == "pip install 'hansa[serve]'"
    assert Extra("x", "", (("numpy", "2"),)).whole


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert found("data").state == "missing"
    monkeypatch.setenv("HANSA_DATA", str(file))
    assert found("data").state == "problem"
    (tmp_path / "femnist").mkdir()
    monkeypatch.setenv("HANSA_DATA", str(tmp_path))
    assert found("data").value.endswith(": femnist")
    monkeypatch.setenv("HANSA_CACHE", str(file / "cache"))
    assert found("cache").state == "problem"
    assert "HANSA_CACHE" in found("cache").fix
    monkeypatch.setattr(health, "NEEDED", 1 << 62)
    assert found("this folder").state == found("memory").state == "problem"
    monkeypatch.setenv("HANSA_OFFLINE", "0")
    assert found("downloads").state == "ok"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert found("this folder").state == "problem"


def test_machine_and_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 4096))
    assert found("open files") == Finding(
        "machine", "open files", "problem", "64", "ulimit -n 4096"
    )
    monkeypatch.setattr(health.time, "time", lambda: 0.0)
    assert found("clock").state == "problem"

    def refused(*where, **how):
        raise OSError("not here")

    monkeypatch.setattr(socket, "create_server", refused)
    assert found("loopback").state == found("localhost").state == "problem"


def test_a_gpu_without_a_fitting_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "nvidia", lambda: "H100")
    for built, state in (("", "problem"), ("12.8", "ok")):
        monkeypatch.setattr(health, "torch_built_for", lambda built=built: built)
        assert found("GPU").state == state


def test_what_torch_is_built_for_is_what_torch_says() -> None:
    import torch

    assert health.torch_built_for() == (torch.version.cuda or "")
    free, whole = health.memory()
    assert 0 < free <= whole


def test_files_that_the_system_keeps_are_no_used_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 4096\nactive_file 100\n")
    assert health._given_back(tmp_path) == 4196
    assert health._given_back(tmp_path / "elsewhere") == 0
