"""Adapters for one's own tasks: one a task that has something to be trained on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from hansa.base.errors import ConfigError
from hansa.base.pretrained import OWN_CODE_ONLY
from hansa.base.streams import Streams
from hansa.route.adapter_training import AdapterTraining, train_adapter
from hansa.route.base_models import generates, open_model
from hansa.route.sources.own_files import check_candidates
from hansa.route.sources.task_folder import read_tasks, read_training


def train_adapters(
    tasks: Path, base: Path, out: Path, settings: AdapterTraining,
    say: Callable[[str], None] = lambda text: None,
) -> list[str]:  # fmt: skip
    """Train what is missing in a pool; returns the names of what was trained.

    Each adapter's random numbers follow from its name, so that it does not matter which were there.

    Raises:
        ConfigError: a training text stands in a test set, no task can be trained, or the base
            cannot be used, before anything is trained.
    """
    read = read_tasks(tasks)
    training = read_training(tasks, read)
    if not training:
        raise ConfigError("tasks", str(tasks), "have no train.jsonl", "TASKS/NAME/train.jsonl")
    causal = generates(base)
    if not causal:
        for name, examples in training.items():
            check_candidates(name, examples)
    own = {task.name: task.own or task.name for task in read if task.name in training}
    missing = {name: called for name, called in own.items() if not (out / called).is_dir()}
    out.mkdir(parents=True, exist_ok=True)
    for name, called in missing.items():
        model = open_model(base)  # afresh, so that nothing of the one before is left
        drawn = Streams(settings.seed).integer(f"adapter {called}") % 2**31

        def heard(step: int, steps: int, loss: float, called: str = called) -> None:
            say(f"adapter {called}: step {step} of {steps}, loss {loss:.3f}")

        with warnings.catch_warnings():  # of libraries about each other
            warnings.simplefilter("ignore", FutureWarning)
            train_adapter(
                model.module, tokenizer_of(base), training[name],
                settings.model_copy(update={"seed": drawn}), out / called, told=heard,
            )  # fmt: skip
    return list(missing.values())


def tokenizer_of(base: Path) -> object:
    """The base's own tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base, local_files_only=True, **OWN_CODE_ONLY)
