"""Which way of running many models is used here.

The two differ in the last bits of a sum, and the same seed has to give the same result: so the
choice is made by what the model is, never by a clock, whose answer another load could turn.
"""

from __future__ import annotations

import numpy as np

from hansa.base.errors import ConfigError, OwnCodeError, RunError
from hansa.engine.job import Job
from hansa.engine.training.bench import Strategy
from hansa.engine.training.gradients import has_convolution, mixes_examples, supports_stacking

_NODES = 2


def choose_strategy(job: Job) -> Strategy:
    """The strategy for a job.

    Models are stacked where they can be, but for convolutions on a CPU, which gain little by it
    and lose where they are large.

    Raises:
        ConfigError: stacking was asked for, and the model does not stack.
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
        return asked
    if job.nodes - job.servers == 1 or not stacks:
        return "looped"
    if job.device == "cpu" and has_convolution(job.module):
        return "looped"
    return "stacked" if _is_stacked_well(job) else "looped"


def _is_stacked_well(job: Job) -> bool:
    """Whether a step of a few stacked models works: some operation may have no batched form."""
    before = job.strategy
    job.strategy = "stacked"
    try:
        block = job.bench(min(_NODES, job.nodes - job.servers))
    finally:
        job.strategy = before
    try:
        block.trainer.train(block, 0, np.arange(len(block)), steps=1)  # present or not
    except (OwnCodeError, RunError):  # what fails in any way says so when it is trained
        return False
    finally:
        block.trainer.close()
    return True
