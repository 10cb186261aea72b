"""What a run will take on this machine: seconds and memory, from a few steps taken beforehand.

A client's steps of a round, a batch of measuring and a copy of some rows are timed, what takes long
only once, in two steps and on fewer examples; what a run does of each is known from its settings.
Clients that stop early, wait for one another or are away are not foreseen: it is what the run takes
if all that was asked is done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.lazy import torch
from hansa.base.threads import lanes, one_thread
from hansa.data.dealing.deal import sizes_of
from hansa.engine import Job, Trainer, choose_strategy
from hansa.models import ParameterLayout

_MOST = 64  # rows of small models at a time: the more, the less each costs
_STEPS = (2, 20)  # the second only where it is not long, and a round has as many
_TURNS = 3
_EXAMPLES = (50, 500)  # the second only where it is not long
_ENOUGH = 3.0  # seconds after which a thing is not timed again
_COPIED = 32 << 20
_RECORDING = 95e6  # bytes that the libraries take which write figures, once they are loaded


@dataclass(frozen=True)
class Calibration:
    """What was timed, in CPU seconds of one thread (on another device than the CPU: seconds).

    Attributes:
        step: one step of one client.
        example: one example measured with one model.
        byte: one byte of a model's numbers, mixed.
        decoded: bytes of the test examples as models take them.
        side: how many of the first two are done side by side.
    """

    step: float
    example: float
    byte: float
    decoded: int
    side: int


def calibrated(job: Job) -> Calibration:
    """Time it; the job's own models stay as they are."""
    asked, job.strategy = job.strategy, choose_strategy(job)
    try:
        k = min(_MOST, job.network.clients) if job.strategy == "stacked" else 1
        block = job.bench(k)
    finally:
        job.strategy = asked
    trainer = block.trainer
    assert isinstance(trainer, Trainer)
    on_cpu = trainer.device.type == "cpu"
    side = lanes() if on_cpu else 1
    test = job.dataset.test
    rows = torch.zeros(max(1, _COPIED // trainer.layout.nbytes), trainer.layout.size)
    try:
        with one_thread():
            # What a round begins with is shared by its steps: two of them tell too much of it.
            step, most = 0.0, max(1, int(job.train.asked(sizes_of(job.parts)).max()))
            for few in {min(steps, most): None for steps in _STEPS}:
                if step * k * few > _ENOUGH:
                    break
                spent = _least(partial(trainer.train, block, 0, steps=few), on_cpu)
                step = spent / (few * k)
            example, size = 0.0, job.evaluate.batch_size
            for some in _EXAMPLES:
                part = test.take(np.arange(min(len(test), some)))
                if not len(part) or example * k * len(part) > _ENOUGH:
                    break
                spent = _least(partial(trainer.evaluate, block.rows, part, size), on_cpu)
                example = spent / (k * len(part))
            byte = _least(lambda: rows.mul_(0.5).add_(rows), on_cpu) / (4 * rows.numel())
        decoded = trainer.kept_bytes(test)
    finally:
        trainer.close()
    return Calibration(step, example, byte, decoded, side)


def forecast(job: Job) -> dict[str, Any]:
    """Seconds and megabytes of a run in the present process, and what they were reckoned from.

    Returns:
        ``seconds`` in all, ``training``, ``measuring`` and ``exchange``, of them; ``memory_mb``
        at its highest, this process's present memory among it; ``step_ms`` and
        ``measured_example_us`` of one thread. Empty where nothing trains in steps.
    """
    clients, layout = job.network.clients, ParameterLayout.of(job.module)
    steps = job.train.asked(sizes_of(job.parts))
    if not steps.any():
        return {}
    found = calibrated(job)
    working = min(1.0, job.algorithm.working(clients) / clients)
    training = float(steps.sum()) * working * job.rounds * found.step / found.side
    models = job.servers or min(clients, job.evaluate.nodes or clients)
    models += bool(job.evaluate.average_model and models > 1)
    times = sum(map(job.evaluates, range(job.rounds + 1)))
    measuring = times * models * len(job.dataset.test) * found.example / found.side
    numbers = 4 * layout.size
    if job.servers:
        lines = 2 * working * clients
    else:
        lines = (job.network.graph(0).edges if job.algorithm.uses_topology else 0) + clients
    exchange = job.rounds * lines * numbers * found.byte
    kept = job.servers or clients
    held = 2.0 * kept + (working * clients if job.servers else 0)
    slots = len(job.train.optimizer.slots) * (working * clients if job.servers else clients)
    # Examples are scaled and laid out anew, each time into another copy, while they are decoded.
    beside = _RECORDING + 3 * found.decoded
    memory = _resident() + beside + held * numbers + 4.0 * slots * layout.trainable
    return {
        "seconds": round(training + measuring + exchange, 2),
        "training": round(training, 2),
        "measuring": round(measuring, 2),
        "exchange": round(exchange, 2),
        "memory_mb": round(memory / 1e6),
        "step_ms": round(1e3 * found.step, 4),
        "measured_example_us": round(1e6 * found.example, 3),
        "side_by_side": found.side,
    }


def _least(work: Callable[[], object], on_cpu: bool) -> float:
    """Seconds of the quickest of a few calls, of which the first fills caches."""
    clock = time.process_time if on_cpu else time.perf_counter
    tries: list[float] = []
    while len(tries) <= _TURNS and sum(tries) < _ENOUGH:
        began = clock()
        work()
        if not on_cpu:
            torch.accelerator.synchronize()
        tries.append(clock() - began)
    return min(tries)


def _resident() -> int:
    """Bytes of this process now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
