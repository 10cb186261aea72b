"""Runs that learn and forget in one folder, by a file.

::

    config.yaml, environment.json, summary.json, report.html   as of any run
    trained/        the run that was trained, or a copy of one, as it is after the request
    receipt.json    the request's own
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.files import writing
from hansa.base.telling import doing
from hansa.data import label_histogram
from hansa.engine import Job
from hansa.ensemble.condensation import Condensation
from hansa.ensemble.synthetic import SyntheticLayout
from hansa.experiment.hosting import HostedWork, Hosting
from hansa.experiment.prepare import prepare
from hansa.experiment.run import resume as train_on
from hansa.experiment.run import run as train
from hansa.experiment.start import ENDED
from hansa.forget.case import Case
from hansa.forget.cohorts import InCohorts
from hansa.forget.forget_file import ForgetFile
from hansa.forget.method import Forgetting
from hansa.forget.page import IMAGES, RECEIPT
from hansa.forget.quickdrop import QuickDrop
from hansa.forget.request import Request, check_request, class_numbers
from hansa.forget.requests import Requests
from hansa.forget.retrain import Retrain
from hansa.forget.run import forget
from hansa.forget.shards import Shards
from hansa.forget.trained import open_trained
from hansa.metrics import Metric, MetricSet
from hansa.report import RunFolder
from hansa.report.folder import is_held, is_run

TRAINED = "trained"
Say = Callable[[str], None]
_TENTHS = 10
_OPTIONS = {"class": "classes", "client": "clients", "sample": "samples", "method": "method"}
"""What options of ``hansa forget RUN`` are called in a file."""


def begin(
    settings: ForgetFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda what: None,
    report: bool = True,
) -> RunFolder:
    """Train a model, or take a copy of one, and have it forget, in a new run folder.

    Args:
        settings: the file, or its content.
        out: the run folder; by default a new one under ``runs/``.
        say: is told how far it is.
        report: write the page at the end.

    Raises:
        ConfigError: a setting that cannot work, before anything is trained.
        DataError: the data are missing or damaged.
        RunError: something failed on the way.
    """
    return _hosted_work(say).begin(settings, out, report)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda what: None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run that was interrupted: training from its checkpoint, a request from scratch.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    return _hosted_work(say).resume(run, report, changes)


def check(chosen: ForgetFile) -> None:
    """All that can be known before anything is trained.

    Raises:
        ConfigError: settings that cannot work; names the field.
    """
    metrics = _metrics(chosen)
    if chosen.trained is not None:
        if is_held(chosen.trained):
            problem = "is being changed by another process"
            raise ConfigError("run", str(chosen.trained), problem, "wait until that has ended")
        run = open_trained(chosen.trained, tidy=False)
        _check_metrics(metrics, run.job)
        with _in_a_file():
            request = _requested(chosen, run.class_names)
            _check_request(request, run.requests.past, run.job)
            _check_way(chosen, run.case(request))
        return
    file = chosen.learning()
    if not file.checkpoint.every:
        problem = "keeps no state of the run, and it is that which forgets"
        raise ConfigError("run.checkpoint.every", 0, problem, f"such as {file.rounds}")
    if file.privacy is not None:
        problem = "is differentially private, and forgetting would train on its examples uncounted"
        raise ConfigError("run.privacy", None, problem, "a run without privacy")
    try:
        job = prepare(file)
    except ConfigError as error:
        raise error.under("run") from None
    if (task := job.dataset.spec.task) != "classification":
        problem, fix = "is no classification, which alone is forgotten", "labels that are classes"
        raise ConfigError("run.data", task, problem, fix)
    if not job.servers:
        problem = "has no server, and only what was trained with servers is made to forget"
        raise ConfigError("run.algorithm", None, problem, "quickdrop, cpfl or another federated")
    method = job.algorithm
    if isinstance(method, InCohorts) and job.servers > 1 and method.merge == "none":
        problem = "leaves each cohort's server with a model, and the run with none of them all"
        raise ConfigError("run.algorithm.merge", "none", problem, "distill or average")
    _check_metrics(metrics, job)
    with _in_a_file():
        request = _requested(chosen, tuple(job.dataset.class_names))
        _check_request(request, Request(), job)
        if not isinstance(method, InCohorts):  # cohorts are not there before training
            _check_way(chosen, _foreseen(job, request, file.rounds))


def _hosted_work(say: Say) -> HostedWork[ForgetFile, None]:
    def work(hosting: Hosting, chosen: ForgetFile, prepared: None) -> None:
        _work(hosting, chosen, say)

    return HostedWork(ForgetFile, check, work)


def _work(hosting: Hosting, chosen: ForgetFile, say: Say) -> None:
    place = hosting.folder.path / TRAINED
    _trained(place, chosen, say)
    receipt = _served(place, chosen, say)
    hosting.folder.write_json(RECEIPT, receipt)
    images = Requests(place).folders[-1] / IMAGES
    if images.exists():
        shutil.copyfile(images, hosting.folder.path / IMAGES)
    cost = receipt["cost"]["total"]
    hosting.facts = lambda: {
        "method": receipt["method"]["name"],
        "what": receipt["what"],
        "goal": receipt["status"],
        "rounds": cost["rounds"],
        "seconds": cost["seconds"],
        "bytes_sent": cost["bytes"],
        "final": receipt["figures"]["after"],
        "before": receipt["figures"]["before"],
    }


def _trained(place: Path, chosen: ForgetFile, say: Say) -> None:
    """Take the training to its end, or its copy, whatever is there of it already."""
    if is_run(place) and (RunFolder.open(place).summary or {}).get("status") in ENDED:
        return
    if chosen.trained is not None:
        doing(f"copying {chosen.trained}")
        part = place.with_name(f"{TRAINED}.part")
        with writing(part):
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(chosen.trained, part, ignore=shutil.ignore_patterns(".lock"))
            part.rename(place)
    elif is_run(place):
        train_on(place, None, _rounds(chosen, say), report=False)
    else:
        shutil.rmtree(place, ignore_errors=True)  # it was killed before it was a run
        train(chosen.learning(), place, _rounds(chosen, say), report=False)


def _rounds(chosen: ForgetFile, say: Say) -> Callable[[int, dict[str, float]], None]:
    """Says each tenth of the rounds of training."""
    rounds, said = chosen.learning().rounds, [-1]

    def tell(done: int, figures: dict[str, float]) -> None:
        if (tenth := done * _TENTHS // rounds) > said[0]:
            said[0] = tenth
            say(f"training, round {done} of {rounds}")

    return tell


def _served(place: Path, chosen: ForgetFile, say: Say) -> dict[str, Any]:
    """The receipt of the request, now or of before an interrupt."""
    run = open_trained(place)
    request = _requested(chosen, run.class_names)
    for receipt in run.requests.receipts[_before(chosen) :]:
        if Request.parse(receipt["request"]) == request:
            return receipt
    say("forgetting")
    return forget(
        place, request, _way(chosen, run.job), chosen.oracle, chosen.controls, tell=say,
        metrics=_metrics(chosen),
    )  # fmt: skip


def _before(chosen: ForgetFile) -> int:
    """How many requests a run had that was copied."""
    return 0 if chosen.trained is None else len(Requests(chosen.trained).receipts)


def _way(chosen: ForgetFile, job: Job) -> Forgetting:
    if chosen.method is not None:
        return Forgetting.resolve(chosen.method)
    return Shards() if job.servers > 1 else QuickDrop()


def _check_way(chosen: ForgetFile, case: Case) -> None:
    """Refuse a method that cannot serve the request, or an oracle that cannot be trained."""
    _way(chosen, case.job).check(case)
    if chosen.oracle:
        Retrain().check(case)


def _check_metrics(metrics: list[Metric], job: Job) -> None:
    MetricSet((*job.evaluate.metrics, *metrics), job.dataset.spec).try_out()


@contextlib.contextmanager
def _in_a_file() -> Iterator[None]:
    """Have errors name what they are about, and the ways out, as a file does."""
    try:
        yield
    except ConfigError as error:
        options = "|".join(_OPTIONS)
        fix = re.sub(rf"--({options})\b", lambda option: f"{_OPTIONS[option[1]]}:", error.fix)
        field = _OPTIONS.get(error.field, error.field)
        raise ConfigError(field, error.value, error.problem, fix) from None


def _metrics(chosen: ForgetFile) -> list[Metric]:
    try:
        return [Metric.resolve(name) for name in chosen.metrics]
    except ConfigError as error:
        raise error.under("metrics") from None


def _requested(chosen: ForgetFile, names: tuple[str, ...]) -> Request:
    words = [str(one) for one in chosen.classes]
    return Request.of(class_numbers(words, names, "classes"), chosen.clients, chosen.samples)


def _check_request(request: Request, past: Request, job: Job) -> None:
    parts, spec = list(job.parts), job.dataset.spec
    histogram = label_histogram(job.dataset.train.targets.cpu().numpy(), parts, spec.classes)
    check_request(request, past, histogram, parts, tuple(job.dataset.class_names))


def _foreseen(job: Job, request: Request, rounds: int) -> Case:
    """The request as it will be, once the run is trained: with nothing of what it will have made,
    but for where clients' images will lie."""
    server = job.block(np.arange(job.network.clients, job.nodes))
    how, layout = getattr(job.algorithm, "condensation", None), None
    if isinstance(how, Condensation) and job.roster.labels is not None:
        held = job.roster.labels[: job.network.clients]
        layout = SyntheticLayout.of(held, how.scale, job.dataset.spec.shape)
    imaged = np.arange(job.network.clients if layout is not None else 0)
    return Case(job, request, Request(), rounds, server, Path(), layout, imaged)
