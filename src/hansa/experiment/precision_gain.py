"""What a step in bfloat16 takes on this machine, beside one in float32."""

from __future__ import annotations

import time

import numpy as np

from hansa.base.lazy import torch
from hansa.base.threads import one_thread
from hansa.engine import Block, Job, Trainer, choose_strategy

_MOST = 32
_TURNS = 5
_STEPS = 2


def step_share(job: Job) -> float:
    """CPU time of a step of training in bfloat16 as a share of that in float32, measured here.

    The least of a few tries in turn, with one client or as many as are stacked, 32 at most. The
    job's own models stay as they are.
    """
    asked, job.strategy = job.strategy, choose_strategy(job)
    least = {"float32": np.inf, "bfloat16": np.inf}
    try:
        block = job.bench(min(_MOST, job.network.clients) if job.strategy == "stacked" else 1)
    finally:
        job.strategy = asked
    trainer = block.trainer
    assert isinstance(trainer, Trainer)
    try:
        with one_thread():
            for turn in range(_TURNS):
                for precision in least:
                    settings = job.train.model_copy(update={"precision": precision})
                    seconds = _seconds(trainer.like(settings, job.rounds), block)
                    if turn:  # the first of each fills caches
                        least[precision] = min(least[precision], seconds)
    finally:
        trainer.close()
    return float(least["bfloat16"] / least["float32"])


def _seconds(trainer: Trainer, block: Block) -> float:
    """CPU time of a few steps; on another device, time."""
    on_cpu = trainer.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    if not on_cpu:
        torch.accelerator.synchronize()
    began = clock()
    trainer.train(block, 0, steps=_STEPS)
    if not on_cpu:
        torch.accelerator.synchronize()
    return clock() - began


def remark_on(share: float, device: str) -> str:
    """What to say of a step that takes as long as one in float32, or longer; else nothing."""
    if share < 1:
        return ""
    why = "casts of so small a model outweigh what they save"
    known = torch.cpu.get_capabilities()
    if device == "cpu" and not any(has for name, has in known.items() if "bf16" in name):
        why = "this CPU has no instructions for bfloat16"
    return f"train.precision: a bfloat16 step takes {share:.2f} of a float32 one here: {why}"
