"""What a run ran on: versions, machine, source commit."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import hansa
from hansa.base.lazy import torch
from hansa.engine import Job

_PACKAGES = ("torch", "numpy", "numba", "pydantic", "pyarrow", "safetensors")


def describe_environment(job: Job) -> dict[str, Any]:
    """Versions, machine, seed and the training strategy that was chosen."""
    return {
        **describe_machine(job.streams.seed),
        "device": _device(job.device),
        "strategy": job.strategy,
        "metrics": job.metrics.facts(),
    }


def describe_machine(seed: int) -> dict[str, Any]:
    """Versions, machine, seed, command and start."""
    return {**describe_start(seed), "torch_threads": torch.get_num_threads()}


def describe_start(seed: int) -> dict[str, Any]:
    """The same, as far as it is known before torch is loaded."""
    return {
        "hansa": hansa.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "seed": seed,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of hansa's own checkout, if it runs from one."""
    root = Path(hansa.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor()
    return platform.processor()


def _device(name: str) -> str:
    if name.startswith("cuda"):
        return f"{name} ({torch.cuda.get_device_name(name)})"
    return name
