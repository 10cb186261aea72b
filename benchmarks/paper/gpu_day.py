"""What a GPU would take for what was timed on a CPU: two bounds, by ratios of peaks. A prediction.

Arithmetic goes by float32 operations a second, exchange by bytes a second. How many operations a
run has is not counted: what it takes on the CPU is at most its time at the rate of a large matrix
product here, and is assumed to be at least a quarter of that. Of its peak a GPU is assumed to reach
a half at best, and a fiftieth where small models are trained one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hansa.base.lazy import torch
from hansa.base.threads import one_thread


@dataclass(frozen=True)
class Rates:
    """Float32 operations and bytes of memory a second."""

    operations: float
    bytes: float


GPUS = {"A100": Rates(19.5e12, 2.039e12), "H200": Rates(66.9e12, 4.8e12)}
"""Published peaks without tensor cores, which float32 training takes only where it is told to."""
SOURCES = """- A100 (SXM, 80 GB): 19.5 TFLOP/s of float32, 2,039 GB/s; NVIDIA A100 data sheet.
- H200 (SXM, 141 GB): 66.9 TFLOP/s of float32, as the H100 of the same die in NVIDIA's Hopper white
  paper; 4.8 TB/s, NVIDIA H200 data sheet.
- A launch of a kernel from PyTorch: 20 us, NVIDIA's guide to Nsight Systems (seen on a V100)."""
LEAST_HERE = 0.25
BEST, WORST = 0.5, 0.02
LAUNCHES, LAUNCH = 100, 20e-6  # of a step, assumed; seconds of one
_SIDE, _COPIED = 1024, 16 << 20


def rates_here() -> Rates:
    """Those of one thread of this machine: a matrix product and a copy, in CPU seconds."""
    a = torch.rand(_SIDE, _SIDE)
    b, c = torch.rand(_COPIED), torch.rand(_COPIED)
    with one_thread():
        product = _quickest(lambda: a @ a)
        copy = _quickest(lambda: b.copy_(c))
    return Rates(2 * _SIDE**3 / product, 8 * _COPIED / copy)


def gpu_seconds(plan: dict[str, Any], here: Rates, gpu: Rates) -> tuple[float, float]:
    """(at best, at worst) s on a GPU of what `hansa check` foresees on this machine's CPU.

    Args:
        plan: its forecast.
    """
    arithmetic = (plan["training"] + plan["measuring"]) * plan["side_by_side"] * here.operations
    moved = plan["exchange"] * here.bytes
    step = max(plan["step_ms"], 1e-4) / 1e3  # to four digits: of a tiny one 0 is left
    steps = plan["training"] * plan["side_by_side"] / step
    at_peak = arithmetic / gpu.operations, moved / gpu.bytes
    launching = steps * LAUNCHES * LAUNCH
    best = (LEAST_HERE * at_peak[0] + at_peak[1]) / BEST
    return best, sum(at_peak) / WORST + launching


def _quickest(work: Callable[[], object]) -> float:
    tries = []
    for _ in range(4):
        began = time.process_time()
        work()
        tries.append(time.process_time() - began)
    return min(tries)
