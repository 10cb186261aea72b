"""Runs by the command, with links that show evidence, and what an eavesdropper gets of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from .attested_sites import policy_at

MARK = "simulated"


def run_file(folder: Path, **changes: Any) -> Path:
    """A run of four nodes in two processes, whose links are attested."""
    policy = policy_at(folder)
    channel = {"name": "attested", "policy": str(policy), "attester": "simulated"}
    run: dict[str, Any] = {
        "nodes": 4, "rounds": 3, "topology": {"name": "regular", "degree": 2},
        "evaluate": {"every": 3},
        "runtime": {"name": "processes", "workers": 2, "channel": channel},
    }  # fmt: skip
    run |= changes
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return path


def hansa(
    *words: str, cwd: Path | None = None, simulates: bool = True
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user has it."""
    environment = {k: v for k, v in os.environ.items() if k != "HANSA_SIMULATED_TEE"}
    if simulates:
        environment["HANSA_SIMULATED_TEE"] = "1"
    return subprocess.run(
        [sys.executable, "-m", "hansa.cli", *words],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
