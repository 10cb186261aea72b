"""``hansa combine cut`` and ``evaluate``: a smaller size of a run or an artefact, and its worth."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.byte_size import byte_size
from hansa.base.errors import CheckpointError, ConfigError
from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.cut import Cut
from hansa.combine.merge.cut import cut as write_cut
from hansa.combine.merge.measuring_sizes import Measuring, row
from hansa.combine.merge.merge_file import MergeFile
from hansa.combine.merge.merge_tasks import TaskSuite
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.opening import open_models
from hansa.combine.merge.recounted_cut import recounted
from hansa.combine.merge.recounting import Recounting, statistics_of
from hansa.experiment.whose_run import whose
from hansa.report import RunFolder
from hansa.weights.composition import StoredPlan
from hansa.weights.model_folder import ModelFolder

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Merged:
    """An artefact, and the run that it is of, if it is one's."""

    artefact: Artefact
    run: RunFolder | None
    settings: MergeFile | None

    @classmethod
    def open(cls, path: Path) -> Merged:
        """A run of ``hansa combine merge``, or an artefact, of a run or by itself.

        Raises:
            ConfigError: it is neither, or its artefact was not finished.
        """
        run = next((run for run in map(_run, (path, path.parent)) if run is not None), None)
        inside = path / "artefact"
        artefact = Artefact.open(inside if inside.is_dir() else path)
        settings = None if run is None else MergeFile.parse(run.config)
        return cls(artefact, run, settings)

    def recounting(self) -> Recounting | None:
        """How batch normalization is counted anew, as the run does; None where there is none.

        Raises:
            ConfigError: there is some, and the run that says how to count is not there.
        """
        if not statistics_of(self.artefact.form()):
            return None
        if self.settings is None or self.settings.rebn is None or self.run is None:
            problem = "has batch normalization, whose statistics a run counts anew"
            raise ConfigError("artefact", str(self.artefact.path), problem, "cut the run itself")
        tasks = self.settings.tasks
        suite = tasks.suite(self.settings.seed, self.run.path / "models", lambda text: None)
        assert suite.make is not None
        return Recounting.load(self.settings.rebn, suite.tasks, suite.make)

    def label(self, algorithm: str | None) -> str:
        """The algorithm that was named, or the first."""
        if algorithm is None:
            return next(iter(self.artefact.algorithms))
        self.artefact.algorithm(algorithm)
        return algorithm


def _run(path: Path) -> RunFolder | None:
    """The run in a folder, if it is one of this verb's."""
    try:
        run = RunFolder.open(path)
    except CheckpointError:
        return None
    return run if run.config.get("verb") == "merge" else None


def cut(
    merged: Path,
    out: Path,
    size: float | None = None,
    budget: str | int | None = None,
    algorithm: str | None = None,
    task: str | None = None,
) -> dict[str, Any]:
    """Write a size, or one task's model at it.

    Args:
        merged: a run, or an artefact.
        out: a new file; with ``task`` a new folder.
        task: whose model is written alone.

    Returns:
        ``algorithm``, ``size`` (in models), ``bytes`` of what was written, and what they are.

    Raises:
        ConfigError: the size is out of reach (names the least), or something is there already.
    """
    if (size is None) == (budget is None):
        problem = "is not said" if size is None else "is said twice"
        raise ConfigError("size", size, problem, "--size 2.0, or --budget 3.2GiB, one of the two")
    opened = Merged.open(merged)
    label = opened.label(algorithm)
    order, linkage, seed = "greedy", None, 0
    if opened.settings is not None:
        chosen = opened.settings
        order, linkage, seed = chosen.order, chosen.linkage, chosen.seed
    amount = None if budget is None else byte_size(budget)
    recounting = opened.recounting()
    if task is None:
        done = write_cut(opened.artefact, label, out, size=size, budget=amount, order=order,
                         linkage=linkage, seed=seed)  # fmt: skip
        done = recounted(done, recounting, opened.artefact.form(), amount)
        return {**_facts_of(done), "path": str(out)}
    names = [member.name for member in opened.artefact.members]
    if task not in names:
        raise ConfigError("task", task, "is not in the artefact", f"one of {', '.join(names)}")
    if out.exists():
        raise ConfigError("out", str(out), "exists already", "name a new folder")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".cut-") as folder:
        whole = Path(folder) / "whole.safetensors"
        done = write_cut(opened.artefact, label, whole, size=size, budget=amount, order=order,
                         linkage=linkage, seed=seed)  # fmt: skip
        form = opened.artefact.form(names.index(task))
        done = recounted(done, recounting, opened.artefact.form())
        written = MergedModels.open(whole).write(task, out, form)
    files = [written] if written.is_file() else [f for f in written.rglob("*") if f.is_file()]
    total = sum(file.stat().st_size for file in files)
    return {**_facts_of(done), "task": task, "bytes": total, "path": str(written)}


def _facts_of(done: Cut) -> dict[str, Any]:
    return {
        "algorithm": done.algorithm, "size": done.size, "bytes": done.bytes,
        "payload": done.payload, "loss": done.loss, "ledger": vars(done.ledger),
    }  # fmt: skip


def evaluate(merged: Path, run: Path | None = None) -> dict[str, Any]:
    """Accuracy by task: of a cut anew, of a run as it was measured.

    Args:
        merged: a cut, or a run.
        run: the run whose tasks judge the cut; None: the one in whose folder it lies.

    Returns:
        ``curve`` (rows) and ``fine_tuned`` (accuracy by task).

    Raises:
        ConfigError: there is no run, nobody judges, or the cut is of other tasks.
    """
    own = _run(merged) if merged.is_dir() else None
    if own is not None:
        final = (own.summary or {}).get("final") or {}
        if not final.get("references"):
            fix = "a run with tasks that are judged"
            raise ConfigError("run", str(merged), "has measured nothing", fix)
        tuned = final["references"]["fine_tuned"]["by_task"]
        return {"curve": final["curve"], "fine_tuned": tuned}
    judging, settings, suite = judged_by(merged, run)
    if suite.judge is None:
        fix = "tasks of the kind own, with a score"
        raise ConfigError("run", str(judging.path), "has tasks that nobody judges", fix)
    stored = StoredPlan.open(merged)
    models = MergedModels(stored)
    _same_tasks(merged, models, suite)
    opened = open_models(suite.base, suite.models, settings.heads)
    measuring = Measuring(suite, judging.path / "measured")

    def state(task: str) -> Mapping[str, Tensor]:
        return opened.as_stored(task, models.state_dict(task))

    tuned = measuring.by_task(opened.state)
    facts = models.plan.facts
    stored_bytes = sum(entry.bytes for entry in stored.entries.values())
    one = {"algorithm": facts["algorithm"]["label"], "bytes": merged.stat().st_size,
           "reached": stored_bytes / facts["unit"]}  # fmt: skip
    return {"curve": [{**one, **row(measuring.by_task(state), tuned)}], "fine_tuned": tuned}


@dataclass(frozen=True)
class TaskModels:
    """The models of a cut with what is known of their tasks.

    Attributes:
        suite: the tasks; its ``inputs`` are there.
        base: what they were fine-tuned from, filled, to evaluate.
        models: each task's, to evaluate; they share storage.
        bytes: of the cut's file.
    """

    suite: TaskSuite
    base: nn.Module
    models: Mapping[str, nn.Module]
    bytes: int


def task_models(merged: Path, run: Path | None = None) -> TaskModels:
    """Networks of a cut's tasks, with the examples that tell tasks apart.

    Args:
        merged: a cut of a run of ``hansa combine merge``.
        run: that run; None: the one in whose folder it lies.

    Raises:
        ConfigError: there is no run, its tasks' networks have heads of their own or examples do
            not tell whose they are, or the cut is of other tasks.
    """
    if merged.is_dir():
        if (other := whose(merged)) and _run(merged) is None:
            problem = f"is a run of hansa {other}, whose models were not merged"
            raise ConfigError("cut", str(merged), problem, f"hansa combine merge {merged} first")
        fix = f"hansa combine cut {merged} --size 2 --out two.safetensors"
        raise ConfigError("cut", str(merged), "is a folder, of which no size is cut", fix)
    judging, _, suite = judged_by(merged, run)
    if suite.inputs is None or suite.make is None:
        problem = "has tasks whose examples do not tell whose they are"
        fix = "a merge of a run of hansa learn with data.partition natural (tasks: sites)"
        raise ConfigError("run", str(judging.path), problem, fix)
    models = MergedModels.open(merged)
    _same_tasks(merged, models, suite)
    base = suite.make()
    folder = ModelFolder.open(suite.base)
    base.load_state_dict({entry.stored: folder.read(n) for n, entry in folder.entries.items()})
    return TaskModels(suite, base.eval(), models.modules(suite.make), merged.stat().st_size)


def judged_by(merged: Path, run: Path | None) -> tuple[RunFolder, MergeFile, TaskSuite]:
    """The run whose tasks judge a cut, its file, and the tasks.

    Raises:
        ConfigError: there is none.
    """
    places = [run] if run is not None else [merged.parent, merged.parent.parent]
    judging = next((one for one in map(_run, places) if one is not None), None)
    if judging is None:
        problem = "lies in no run of hansa combine merge" if run is None else "is no such run"
        raise ConfigError("run", str(run or merged), problem, "--run RUN: whose tasks judge it")
    settings = MergeFile.parse(judging.config)
    suite = settings.tasks.suite(settings.seed, judging.path / "models", lambda text: None)
    return judging, settings, suite


def _same_tasks(merged: Path, models: MergedModels, suite: TaskSuite) -> None:
    if models.names != suite.tasks:
        problem = f"is of {', '.join(models.names)}, and the run of {', '.join(suite.tasks)}"
        raise ConfigError("cut", str(merged), problem, "a cut of this run")
