"""Which way of running many models is faster here: a quick measurement."""

from __future__ import annotations

import time

import numpy as np

from hansa.base.errors import ConfigError, RunError
from hansa.base.lazy import torch
from hansa.engine.job import Job
from hansa.engine.training.bench import Strategy
from hansa.engine.training.gradients import has_convolution, mixes_examples, supports_stacking

_NODES = 16
_STEPS = 2
_TRIES = 4
_MARGIN = 3
"""How much faster the less likely way must be: a choice that noise could turn would not repeat."""


def choose_strategy(job: Job) -> tuple[Strategy, dict[str, float]]:
    """The strategy for a job, and what was measured: seconds a node-step by strategy.

    On a CPU small dense models are expected to win stacked and convolutions looped; the
    measurement overrules the expectation only by a wide margin.
    """
    asked = job.train.strategy
    stacks = supports_stacking(job.module) and not job.tried.chance
    if not job.train.drop_last and mixes_examples(job.module):
        stacks = False  # smaller batches are filled up when they are stacked
    if asked == "stacked" and not stacks:
        raise ConfigError(
            "train.strategy",
            asked,
            "the model has buffers, random draws or a recurrent layer, which do not stack, or a "
            "batch norm while train.drop_last is false",
            "looped, or auto",
        )
    if asked != "auto":
        return asked, {}
    clients = job.nodes - job.servers
    if clients == 1 or not stacks:
        return "looped", {}
    likely: Strategy = "stacked"
    if job.device == "cpu" and has_convolution(job.module):
        likely = "looped"
    other: Strategy = "looped" if likely == "stacked" else "stacked"
    seconds: dict[str, float] = {}
    for name in (likely, other):
        try:
            seconds[name] = _seconds(job, name)
        except RunError:
            if name == "looped":
                raise  # the model itself fails
            seconds[name] = float("inf")  # some operation of it does not stack
    chosen = other if seconds[other] * _MARGIN < seconds[likely] else likely
    return chosen, seconds


def _seconds(job: Job, strategy: Strategy) -> float:
    """Seconds a node-step takes, the best of some tries after a warm-up."""
    before = job.strategy
    job.strategy = strategy
    try:
        block = job.bench(min(_NODES, job.nodes - job.servers))
    finally:
        job.strategy = before
    try:
        everyone = np.arange(len(block))  # present or not
        block.trainer.train(block, 0, everyone, steps=1)
        best = float("inf")
        for _ in range(_TRIES):
            began = time.perf_counter()
            block.trainer.train(block, 0, everyone, steps=_STEPS)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - began)
    finally:
        block.trainer.close()
    return best / (_STEPS * len(block))
