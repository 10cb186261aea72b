"""What merged models come to: accuracy by task, the ends of the curve, and how sure a figure is."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import read_facts
from hansa.base.errors import ConfigError
from hansa.base.files import write_json
from hansa.combine.merge.merge_tasks import Split, TaskSuite

if TYPE_CHECKING:
    from torch import Tensor

ENDS = ("zero_shot", "fine_tuned")
_REMEDY = "remove it, to measure it anew"


@dataclass(frozen=True)
class Measuring:
    """A suite and the folder in which figures are kept as soon as they are measured."""

    suite: TaskSuite
    place: Path

    def by_task(
        self, states: Callable[[str], Mapping[str, Tensor]], split: Split = "test"
    ) -> dict[str, float]:
        """Accuracy of every task, with the state dict that ``states`` gives of it."""
        judge = self.suite.judge
        if judge is None:
            raise ValueError("nobody judges")
        return {task: judge(task, states(task), split) for task in self.suite.tasks}

    def kept(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Figures under a name: those of before an interrupt, or new ones, kept at once.

        Raises:
            CheckpointError: the file is not whole.
        """
        file = self.place / f"{_slug(name)}.json"
        if file.exists():
            return read_facts(file, _REMEDY)
        began = time.process_time()
        figures = measure()
        figures = {**figures, "seconds": time.process_time() - began}
        write_json(file, figures)
        return figures


def end(by_task: Mapping[str, float]) -> dict[str, Any]:
    """An end of the curve."""
    return {"accuracy": sum(by_task.values()) / len(by_task), "by_task": dict(by_task)}


def row(by_task: Mapping[str, float], tuned: Mapping[str, float]) -> dict[str, Any]:
    """Accuracy, and its share of the fine-tuned models': the mean over tasks, and the worst.

    A task that fine-tuning itself never gets right has no share, and is left out of it.
    """
    shares = {task: by_task[task] / tuned[task] for task in by_task if tuned[task] > 0}
    worst = min(shares, key=lambda task: shares[task])
    return {
        "accuracy": sum(by_task.values()) / len(by_task),
        "normalised": sum(shares.values()) / len(shares),
        "worst": shares[worst],
        "worst_task": worst,
        "by_task": dict(by_task),
    }


def check_gain(ends: Mapping[str, Mapping[str, Any]], least: float) -> None:
    """Refuse tasks that fine-tuning hardly helps: every algorithm would look good at every size.

    Raises:
        ConfigError: the gain is below ``least``, which is not 0; fine-tuned models are never right.
    """
    if not ends["fine_tuned"]["accuracy"]:
        problem = "no fine-tuned model is ever right at its task, so that there is nothing to keep"
        raise ConfigError("tasks", None, problem, "check the heads, and what score reads")
    gain = ends["fine_tuned"]["accuracy"] - ends["zero_shot"]["accuracy"]
    if not least or gain >= least:
        return
    problem = f"fine-tuning gains {100 * gain:.1f} points over the base, so that a curve of what "
    problem += "merging loses shows nothing"
    fix = "other tasks or heads; or go on with --resume RUN --set least_gain=0"
    raise ConfigError("least_gain", least, problem, fix)


def margin(by_task: Mapping[str, float], examples: Mapping[str, int]) -> float:
    """The standard error of the mean accuracy over tasks, each of so many examples; 0: unknown."""
    if not examples:
        return 0.0
    variances = [share * (1 - share) / examples[task] for task, share in by_task.items()]
    return math.sqrt(sum(variances)) / len(variances)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")
