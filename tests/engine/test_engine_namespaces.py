"""Sites in network namespaces of their own: what the kernel counts and how fast it is, beside ours.

Needs root on Linux, ``ip`` and ``tc``; skipped where they, or the kernel's parts, are not there.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "network"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


spaces = _module("measure_namespaces")
needs_spaces = pytest.mark.skipif(bool(spaces.lacking()), reason=spaces.lacking())
needs_rates = pytest.mark.skipif(bool(spaces.lacking_rates()), reason=spaces.lacking_rates())


@needs_spaces
def test_a_lab_takes_everything_down_again() -> None:
    with spaces.Lab(2) as lab:
        assert lab.name(1) in spaces.do("ip", "netns", "list")
        ping = lab.start(0, ["sh", "-c", "cat /sys/class/net/eth0/operstate"], stdout=-1)
        assert ping.communicate(timeout=60)[0].strip() == "up"
        with pytest.raises(subprocess.CalledProcessError):
            spaces.do("ip", "netns", "add", lab.name(1))  # the name is taken
    assert lab.name(1) not in spaces.do("ip", "netns", "list")


@needs_spaces
@pytest.mark.slow
def test_what_a_run_counts_is_what_the_kernel_counts(tmp_path: Path) -> None:
    """Messages and overhead beside all bytes that passed the loopback of a namespace."""
    file, run = tmp_path / "run.yaml", tmp_path / "run"
    settings: dict[str, Any] = {
        "nodes": 3,
        "rounds": 8,
        "topology": "complete",
        "model": {"name": "mlp", "hidden": [1500]},
        "train": {"local_steps": 1, "strategy": "looped"},
        "evaluate": {"every": 8, "dense_start": False, "average_model": False},
        "checkpoint": {"every": 0},
        "runtime": {"name": "processes", "workers": 3},
    }
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "hansa.cli", "learn", str(file), "--out", str(run)]
    with spaces.Lab(1) as lab:
        done = lab.start(0, [*command, "--json", "--no-report"], stdout=-1, stderr=-1)
        said, problem = done.communicate(timeout=300)
        assert done.returncode == 0, problem
        sent, received = lab.counted(0, "lo")
        heads = lab.headers(0, "lo")
    assert sent == received
    figures = json.loads(said)
    counted = figures["bytes_sent"] + figures["overhead_bytes"]
    assert counted <= sent <= 1.02 * counted
    assert abs(sent - heads - counted) <= 0.005 * counted


@needs_rates
@pytest.mark.slow
def test_a_rate_in_user_space_is_that_of_the_kernel() -> None:
    shaping, ratios = _module("shaping"), []
    for _ in range(3):  # a machine that stalls does so for either of them
        ours, kernels = (shaping.pair(1e6, 0.01, kernel, True)["rate"] for kernel in (False, True))
        ratios.append(ours / kernels)
        if abs(ratios[-1] - 1) <= 0.1:
            return
    raise AssertionError(f"in user space and in the kernel: {ratios}")
