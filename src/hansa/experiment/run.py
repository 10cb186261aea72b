"""Runs an experiment: makes its folder, hosts it, and leaves tables, pictures and a summary."""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base import child
from hansa.base.component import Component
from hansa.base.errors import CheckpointError, ConfigError, HansaError
from hansa.base.files import lock
from hansa.base.paths import short
from hansa.data import label_histogram
from hansa.engine import Collector, Job, Launch, choose_strategy, latest, read_manifest
from hansa.engine.collect import Progress
from hansa.experiment.environment import describe_environment
from hansa.experiment.prepare import prepare
from hansa.experiment.remarks import remarks
from hansa.experiment.runfile import RunFile
from hansa.models import ParameterLayout
from hansa.report import RunFolder
from hansa.topology import likely

RESUMABLE = ("rounds", "runtime", "checkpoint", "device")
"""What may be set anew when a run is resumed: the rest would make it another run."""
_EDGES_SHOWN = 4000
_SPECTRUM_LIMIT = 2000  # nodes; the spectrum of a huge sparse ring takes longer than the run


def run(
    settings: RunFile | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    progress: Progress | None = None,
    report: bool = True,
) -> RunFolder:
    """Run an experiment from its first round to its last.

    Args:
        settings: a run file or its path, an algorithm's name, or settings as plain data.
        out: the run folder; by default a new one under ``runs/``.
        progress: is called after each round with the rounds done and the latest figures.
        report: write ``report.html`` at the end.

    Raises:
        ConfigError: a setting that cannot work, before anything starts.
        DataError: the data are missing or damaged.
        RunError: something failed on the way; all that was measured is in the folder.
    """
    chosen = settings if isinstance(settings, RunFile) else RunFile.of(settings)
    job = prepare(chosen)
    job.strategy, timing = choose_strategy(job)
    config = chosen.dump()
    config["train"]["strategy"] = job.strategy
    config["plugins"] = sorted({*chosen.plugins} | _plugins_of(chosen))
    environment = describe_environment(job, timing)
    folder = RunFolder.create(out or default_folder(chosen), config, environment)
    _describe(job, chosen, folder)
    folder.write_json("remarks.json", remarks(chosen, job))
    return _host(chosen, job, folder, None, 0.0, progress, report)


def resume(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run from its latest checkpoint (or from the start if it has none).

    Args:
        changes: settings to replace, only among :data:`RESUMABLE`.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged; it is named.
    """
    folder = RunFolder.open(path)
    config = {**folder.config, **(changes or {})}
    for key, value in config.items():
        if key not in RESUMABLE and value != folder.config.get(key):
            raise ConfigError(
                key, None, "cannot change when a run is resumed", f"only {', '.join(RESUMABLE)}"
            )
    chosen = RunFile.parse(config)
    ended = folder.summary or {}
    if ended.get("status") == "finished" and ended.get("rounds", 0) >= chosen.rounds:
        problem = f"the run in {folder.path} has finished its {ended['rounds']} rounds"
        raise ConfigError("rounds", chosen.rounds, problem, "a larger number")
    if (folder.path / "requests").exists():
        problem = "the run was made to forget, and training on would teach it all of that anew"
        raise ConfigError("resume", str(path), problem, "begin a new run without those data")
    job = prepare(chosen)
    checkpoint = latest(folder.path / "checkpoints")
    done, elapsed = 0, 0.0
    if checkpoint is not None:
        manifest = read_manifest(checkpoint)
        done, elapsed = int(manifest["round"]), float(manifest.get("seconds", 0.0))
    if done >= chosen.rounds:
        raise ConfigError("rounds", chosen.rounds, f"round {done} is done already", "a larger one")
    if changes:
        folder.reconfigure(config)  # workers, and whoever resumes next, read it there
    return _host(chosen, job, folder, checkpoint, elapsed, progress, report, done)


def _host(
    chosen: RunFile,
    job: Job,
    folder: RunFolder,
    checkpoint: Path | None,
    elapsed: float,
    progress: Progress | None,
    report: bool,
    resumed_at: int | None = None,
) -> RunFolder:
    """Host a job in its folder to the end, however it ends."""
    try:
        with lock(folder.path / ".lock", wait=False):
            if resumed_at is not None:
                folder.truncate(resumed_at)
                folder.event("resumed", round=resumed_at)
            collector = Collector(job, folder, elapsed)
            if progress is not None:
                collector.progress = lambda done, figures: progress(
                    done, {**figures, "bytes_sent": float(collector.bytes_sent)}
                )
            status = "failed"
            try:
                command = _worker_command(folder)
                checkpoints = folder.path / "checkpoints"
                chosen.runtime.run(job, Launch(collector, checkpoints, checkpoint, command))
                status = "finished"
            except KeyboardInterrupt:
                status = "interrupted"
                raise
            except HansaError as error:
                folder.event("failed", error=str(error), type=type(error).__name__)
                raise
            finally:
                collector.close()
                folder.finish(_summary(chosen, folder, collector, status))
                if report and collector.final:
                    from hansa.report.page import write_report

                    write_report(folder)
    except BlockingIOError:
        raise CheckpointError(f"{folder.path}: another process is running in this folder") from None
    return folder


def _summary(
    chosen: RunFile, folder: RunFolder, collector: Collector, status: str
) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    summary = {
        "run_dir": str(folder.path),
        "verb": "learn",
        "algorithm": short(type(chosen.algorithm).name),
        "nodes": chosen.nodes,
        "rounds": collector.rounds_done,
        "seconds": round(collector.seconds, 3),
        "bytes_sent": collector.bytes_sent,
        **collector.spent,
        "final": _finite(collector.final),
        "status": status,
    }
    if collector.best:
        summary["best"] = _finite(collector.best)
    return summary


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures fit for strict JSON: what is not finite becomes None."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _describe(job: Job, chosen: RunFile, folder: RunFolder) -> None:
    """Leave the topology and the split of the data where the report finds them."""
    sizes = [len(part) for part in job.parts]
    partition: dict[str, Any] = {"sizes": sizes}
    if classes := job.dataset.spec.classes:
        names = job.dataset.class_names or tuple(map(str, range(classes)))
        targets = job.dataset.train.targets.cpu().numpy()
        histogram = label_histogram(targets, job.parts, classes)
        partition |= {"classes": list(names), "histogram": histogram.tolist()}
    folder.write_json("partition.json", partition)
    if planted := job.dataset.planted:
        folder.write_json("markers.json", [one.dump() for one in planted])
    if not job.algorithm.uses_topology:
        return
    graph = job.network.graph(0)
    weights = likely(graph)
    rule = getattr(job.algorithm, "weights", "metropolis_hastings")
    edges = list(zip(graph.indices.tolist(), graph.receivers.tolist(), strict=True))
    if graph.symmetric:
        edges = [(i, j) for i, j in edges if i < j]
    shown: dict[str, Any] = {
        "nodes": job.nodes,
        "edges": edges[:_EDGES_SHOWN],
        "directed": not graph.symmetric,
        "changing": bool(chosen.topology.changing),
        "weights": rule if graph.weights is None else "the file's",
        "rounds_shown": [0],
    }
    if job.nodes <= _SPECTRUM_LIMIT:
        shown["second_eigenvalue"] = weights.second_eigenvalue()
        shown["spectral_gap"] = weights.spectral_gap
    folder.write_json("topology.json", shown)


def plan(chosen: RunFile, job: Job) -> dict[str, Any]:
    """What a run would do, in numbers, without running it."""
    layout = ParameterLayout.of(job.module)
    sizes = [len(part) for part in job.parts]
    facts: dict[str, Any] = {
        "algorithm": short(type(chosen.algorithm).name),
        "nodes": job.network.clients,
        **({"servers": job.servers} if job.servers else {}),
        "rounds": job.rounds,
        "model_parameters": layout.trainable,
        "model_bytes": layout.nbytes,
        "train_examples": len(job.dataset.train),
        "validation_examples": len(job.dataset.validation or ()),
        "test_examples": len(job.dataset.test),
        "task": job.dataset.spec.task,
        **({"classes": job.dataset.spec.classes} if job.dataset.spec.classes else {}),
        "examples_per_node": {"min": min(sizes), "max": max(sizes)},
        "steps_per_node": job.rounds * int(chosen.train.asked(np.array(sizes)).max()),
    }
    if planted := job.dataset.planted:
        facts["marked_examples"] = sum(len(one.index) for one in planted)
    if job.algorithm.uses_topology:
        graph = job.network.graph(0)
        facts["neighbours"] = {
            "min": int(graph.in_degrees.min()),
            "max": int(graph.in_degrees.max()),
        }
    facts["remarks"] = remarks(chosen, job)
    return facts


def _worker_command(folder: RunFolder) -> Any:
    """How a worker of this run is started."""

    def command(index: int) -> Sequence[str]:
        return child.command("hansa.experiment.worker", f"--run={folder.path.resolve()}")

    return command


def default_folder(chosen: RunFile) -> Path:
    """A new name under ``runs/``."""
    parts = (type(chosen.algorithm).name, type(chosen.data).name)
    words = [re.sub(r"\W+", "-", name.rpartition(":")[2]) for name in parts]  # a name may be a path
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return unused(Path("runs") / "-".join([*words, stamp]))


def unused(base: Path) -> Path:
    """This path, or with a number behind it the first that does not exist."""
    path, again = base, 1
    while path.exists():
        again += 1
        path = base.with_name(f"{base.name}-{again}")
    return path


def _plugins_of(value: Any) -> set[str]:
    """Where the components that are not hansa's own come from, so that workers can load them."""
    found: set[str] = set()
    if isinstance(value, Component):
        module = type(value).__module__
        if not module.startswith("hansa.") and ":" not in type(value).name:
            file = getattr(sys.modules.get(module), "__file__", None)
            found.add(str(Path(file).resolve()) if file and "." not in module else module)
    if hasattr(value, "model_fields_set"):
        for field in type(value).model_fields:
            found |= _plugins_of(getattr(value, field))
    elif isinstance(value, tuple):
        for item in value:
            found |= _plugins_of(item)
    return found
