"""Runs of merges: models are made or opened, an artefact is built, sizes are cut and judged.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    models/       the models, where they are made here
    artefact/     all that a size is cut from, without the models
    measured/     a file for each end of the curve, and for each algorithm and size
    cuts/         the file of each size, where they are kept
    merge.json    blocks, trees, groups, bytes and the forecast
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.artefact_building import build_artefact
from hansa.combine.merge.block_layout import merged_names
from hansa.combine.merge.explaining import explained
from hansa.combine.merge.measuring_sizes import ENDS, Measuring, check_gain, end, margin, row
from hansa.combine.merge.merge_file import MergeFile
from hansa.combine.merge.merge_tasks import TaskSuite
from hansa.combine.merge.opening import OpenModels, check_weights, open_models
from hansa.combine.merge.page import EXPLAINED
from hansa.combine.merge.recounting import Recounting, check_statistics, statistics_of
from hansa.combine.merge.scales import variants
from hansa.combine.merge.size_points import Point, SizePoints, points
from hansa.experiment.hosting import HostedWork, Hosting
from hansa.report import RunFolder
from hansa.weights.blocks import blocks_of, parts_of

Say = Callable[[str], None]
ARTEFACT, MODELS, MEASURED, CUTS = "artefact", "models", "measured", "cuts"


def merge(
    settings: MergeFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Merge models into every size that is asked, in a new run folder.

    Raises:
        ConfigError: models or settings that cannot work, before anything is made or written; tasks
            that fine-tuning hardly helps.
        DataError, RunError: models could not be made.
    """
    return _hosted_work(say).begin(settings, out, report)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run that was interrupted: what was made and measured is kept.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    return _hosted_work(say).resume(run, report, changes)


def _hosted_work(say: Say) -> HostedWork[MergeFile, OpenModels | None]:
    def work(hosting: Hosting, chosen: MergeFile, brought: OpenModels | None) -> None:
        _Work(hosting, chosen, say).do(brought)

    return HostedWork(MergeFile, check, work)


def check(chosen: MergeFile) -> OpenModels | None:
    """All that can be checked before anything is made: models that are brought along are read.

    Raises:
        ConfigError: models or settings that cannot work; names the field.
    """
    chosen.check()
    brought = chosen.tasks.brought()
    if brought is None:
        return None
    opened = open_models(*brought, chosen.heads)
    check_statistics(opened.base, chosen.rebn, chosen.tasks.has_module)
    chosen.check(len(opened.models))
    _check_budgets(chosen, opened)
    _parts(chosen, opened)
    check_weights(opened)
    return opened


def _check_budgets(chosen: MergeFile, opened: OpenModels) -> None:
    """A budget that not even one model fits into is refused before anything is read."""
    least = max(folder.bytes for folder in opened.models.values())
    for budget in chosen.budgets:
        if budget <= least:
            problem = f"is not more than one model, of {least} bytes"
            raise ConfigError("budgets", budget, problem, f"above {least} bytes, with a header")


def _kept(chosen: MergeFile, opened: OpenModels) -> tuple[str, ...]:
    """How the names of tensors begin that are not merged."""
    return (*chosen.heads, *statistics_of(opened.base))


def _parts(chosen: MergeFile, opened: OpenModels) -> Any:
    names = merged_names(opened.base, _kept(chosen, opened))
    if not names:
        raise ConfigError("heads", list(chosen.heads), "leave nothing to merge", "name fewer")
    rows = 4096 if chosen.blocks != "tensor" else None
    return parts_of(opened.base, blocks_of(names, chosen.blocks), rows)


class _Work:
    """A run under way."""

    def __init__(self, hosting: Hosting, chosen: MergeFile, say: Say) -> None:
        self.folder, self.chosen, self.say = hosting.folder, chosen, say
        self.about: dict[str, Any] = {}
        self.ends: dict[str, dict[str, Any]] = {}
        self.curve: list[dict[str, Any]] = []
        hosting.facts = self.facts

    def facts(self) -> dict[str, Any]:
        """What the summary says, as far as the work has come."""
        final = {"curve": self.curve, "references": self.ends} if self.curve or self.ends else {}
        return {**self.about, **({"final": final} if final else {})}

    def do(self, brought: OpenModels | None) -> None:
        """Models (those brought along are open), artefact, ends of the curve, and its points."""
        chosen, path = self.chosen, self.folder.path
        suite = chosen.tasks.suite(chosen.seed, path / MODELS, self.say)
        opened = brought or open_models(suite.base, suite.models, chosen.heads)
        check_statistics(opened.base, chosen.rebn, suite.make is not None)
        chosen.check(len(opened.models))
        self.about = {
            "models": len(opened.models),
            "tasks": list(suite.tasks),
            "model_bytes": opened.model_bytes,
            "uploaded_bytes": opened.uploaded_bytes,
            "notes": list(suite.notes),
        }
        measuring = Measuring(suite, path / MEASURED)
        if suite.judge is not None:
            self._ends(suite, opened, measuring)
        artefact = self._artefact(opened, suite)
        recounting = None
        if statistics_of(opened.base) and chosen.rebn is not None and suite.make is not None:
            recounting = Recounting.load(chosen.rebn, suite.tasks, suite.make)
        sizes = SizePoints(
            artefact, opened, measuring, chosen.order, chosen.linkage, chosen.seed, path / CUTS,
            chosen.keeps, recounting,
        )  # fmt: skip
        self._points(sizes)
        self.about["cuts"] = [
            str(file.relative_to(path)) for file in sorted((path / CUTS).glob("*.safetensors"))
        ]
        if not self.about["cuts"]:
            shutil.rmtree(path / CUTS, ignore_errors=True)
        first = next(iter(self.tried.values()))
        about = explained(artefact, next(iter(first.values())), chosen.order, self.curve)
        self.folder.write_json(EXPLAINED, about)

    def _ends(self, suite: TaskSuite, opened: OpenModels, measuring: Measuring) -> None:
        """What the base and the fine-tuned models come to, whatever is merged later."""
        for key in ENDS:
            self.say(f"measuring {'the base' if key == 'zero_shot' else 'fine-tuned models'}")
            chosen = {task: None if key == "zero_shot" else task for task in suite.tasks}
            figures = measuring.kept(
                key,
                lambda: {"by_task": measuring.by_task(lambda task: opened.state(chosen[task]))},  # noqa: B023
            )
            self.ends[key] = end(figures["by_task"])
        self.about["margin"] = margin(self.ends["fine_tuned"]["by_task"], suite.examples)
        check_gain(self.ends, self.chosen.least_gain)

    def _artefact(self, opened: OpenModels, suite: TaskSuite) -> Artefact:
        chosen = self.chosen
        self.tried: dict[str, dict[float | None, str]] = {}
        labelled = {}
        for name, scaled in variants(chosen.named(), chosen.tune).items():
            self.tried[name] = {}
            for scale, algorithm in scaled.items():
                label = name if scale is None else f"{name} at {scale:g}"
                labelled[label], self.tried[name][scale] = algorithm, label
        self.say("building the artefact")
        began = time.process_time()
        artefact = build_artefact(
            list(opened.models.values()),
            opened.base,
            self.folder.path / ARTEFACT,
            labelled,
            parts=_parts(chosen, opened),
            heads=_kept(chosen, opened),
            names=suite.tasks,
            linkage=chosen.linkage,
            seed=chosen.seed,
        )
        self.about["artefact_seconds"] = time.process_time() - began
        return artefact

    def _points(self, sizes: SizePoints) -> None:
        chosen = self.chosen
        wanted = {
            name: points(
                sizes.artefact, next(iter(labels.values())), chosen.sizes, chosen.budgets,
                chosen.order, chosen.linkage, chosen.seed,
            )
            for name, labels in self.tried.items()
        }  # fmt: skip
        artefact = sizes.artefact
        self._reachable(wanted, artefact.kept_bytes / artefact.unit)
        self.about["tuning_evaluations"] = 0
        for name, asked in wanted.items():
            for point in (replace(one, algorithm=name) for one in asked):
                self.say(f"{name} at {point.size:.4g} models")
                figures = sizes.measuring.kept(point.name, lambda: self._point(sizes, point))  # noqa: B023
                self.about["tuning_evaluations"] += figures.get("tuning_evaluations", 0)
                measured = {key: figures[key] for key in _SHOWN if key in figures}
                judged = {}
                if "by_task" in figures:
                    judged = row(figures["by_task"], self.ends["fine_tuned"]["by_task"])
                size = point.size if point.budget is None else figures["reached"]
                least = {"least": True} if point.least else {}
                self.curve.append({"algorithm": name, "size": size, **least, **measured, **judged})

    def _reachable(self, wanted: Mapping[str, list[Point]], apart: float) -> None:
        """Sizes that were asked and that no algorithm reaches are refused, by the least of all.

        Args:
            apart: how many models what no merge saves takes, such as heads: one model and the
                heads of all stand for size 1.
        """
        chosen = self.chosen
        least = min((p for each in wanted.values() for p in each), key=lambda point: point.size)
        if not chosen.budgets and chosen.sizes and max(chosen.sizes) + apart >= least.size:
            return
        if all(point.least for each in wanted.values() for point in each):
            field, asked = ("sizes", chosen.sizes) if chosen.sizes else ("budgets", chosen.budgets)
            problem = f"is out of reach: the least is {least.size:.4f} models"
            problem += " and a header" * (field == "budgets")
            raise ConfigError(field, max(asked or (0,)), problem, "more, or other algorithms")

    def _point(self, sizes: SizePoints, point: Point) -> dict[str, Any]:
        """One point; where scales are tuned, the best of them on validation examples."""
        labels = self.tried[point.algorithm]
        scale, best, tried = next(iter(labels)), -1.0, 0
        for one, label in labels.items() if len(labels) > 1 else ():
            figures = sizes.measured(point, label, "validation")
            accuracy = sum(figures["by_task"].values()) / len(figures["by_task"])
            tried += 1
            if accuracy > best:
                scale, best = one, accuracy
        figures = sizes.measured(point, labels[scale])
        if tried:
            figures |= {"scale": scale, "validation_accuracy": best, "tuning_evaluations": tried}
        return figures


_SHOWN = (
    "reached",
    "bytes",
    "payload",
    "loss",
    "ledger",
    "scale",
    "validation_accuracy",
    "seconds",
)
