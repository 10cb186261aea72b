"""A run that was trained, opened to be changed: its plan, its server's models and its requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.engine import Block, Job, Runtime
from hansa.engine.runtimes.checkpoint import shelved
from hansa.ensemble.condensation import Condensation
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.experiment import trained
from hansa.experiment.runfile import RunFile, run_kind
from hansa.experiment.start import ENDED
from hansa.forget.case import Case
from hansa.forget.request import Request
from hansa.forget.requests import Requests
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Trained:
    """A run that was trained, as it is now.

    Attributes:
        settings: its file.
        job: the run as it was trained.
        runtime: where its nodes live now.
        checkpoint: its state, of which each worker reads its own nodes' part.
        done: rounds of training that there were.
        server: the servers' nodes; of clients nothing is read here.
        layout: where clients' synthetic images lie; None if the run made none.
        imaged: int64, ids of the clients who have some, ascending.
    """

    folder: RunFolder
    settings: RunFile
    job: Job
    runtime: Runtime
    checkpoint: Path
    done: int
    server: Block
    requests: Requests
    layout: SyntheticLayout | None
    imaged: np.ndarray

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, where the data say so."""
        return tuple((self.folder.read_json("partition.json") or {}).get("classes", ()))

    @property
    def row(self) -> Tensor:
        """float32 [D]: the model that the run came to, or that its last request left."""
        return self.server.models()[1][0].clone()

    def case(self, request: Request) -> Case:
        """A request in this run, for methods to look at before anything is done."""
        return Case(
            job=self.job,
            request=request,
            past=self.requests.past - request,  # what was asked for before may be asked for again
            number=len(self.requests.folders) + 1,
            done=self.done,
            server=self.server,
            checkpoint=self.checkpoint,
            layout=self.layout,
            imaged=self.imaged,
        )


def open_trained(path: str | Path, runtime: Runtime | None = None, tidy: bool = True) -> Trained:
    """A run in its present state: as trained, or as its last request left it.

    Args:
        runtime: where its nodes are to live; none: where they lived when it was trained.
        tidy: also delete what its requests have replaced, for whoever holds the folder.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: nothing can be forgotten from such a run; says why.
    """
    folder = RunFolder.open(path)
    chosen = _settings(folder)
    if tidy and (folder.summary or {}).get("status") in ENDED:
        Requests(folder.path).purge()
    if chosen.privacy is not None:
        problem = "is differentially private, and forgetting would train on its examples uncounted"
        raise ConfigError("run", str(path), problem, "begin a new run without what is to go")
    run = trained.open_trained(folder, chosen)
    job = run.job
    if (task := job.dataset.spec.task) != "classification":
        problem = f"only classifiers can be made to forget, and its data are for {task}"
        raise ConfigError(
            "run", str(path), problem, "begin a new run without the data that are to go"
        )
    if not job.servers:
        problem = "only what was trained with servers can be made to forget"
        fix = "algorithm: quickdrop, or cpfl, or another federated one"
        raise ConfigError("run", str(path), problem, fix)
    if job.servers > 1 and len(run.block.models()[1]) > 1:
        raise ConfigError(
            "run",
            str(path),
            f"its {job.servers} servers have a model each, and the run has none of them all",
            "algorithm: cpfl with merge: distill or average",
        )
    where = runtime or chosen.runtime
    try:
        where.check(job.nodes)
    except ConfigError as error:
        raise error.under("runtime") from None
    imaged, layout = shelved(run.checkpoint, SHELF), None
    how = getattr(job.algorithm, "condensation", None)
    if isinstance(how, Condensation) and len(imaged):
        assert job.roster.labels is not None  # it classifies
        layout = SyntheticLayout.of(
            job.roster.labels[: chosen.nodes], how.scale, job.dataset.spec.shape
        )
    return Trained(
        folder, chosen, job, where, run.checkpoint, run.done, run.block, Requests(folder.path),
        layout, imaged,
    )  # fmt: skip


def default_method(path: str | Path) -> str:
    """The name of the method that fits a run: ``shards`` with several cohorts, or ``quickdrop``."""
    chosen = _settings(RunFolder.open(path))
    return "shards" if chosen.algorithm.servers(chosen.nodes) > 1 else "quickdrop"


def _settings(folder: RunFolder) -> RunFile:
    """The file of a run of the learn verb."""
    if (folder.summary or {}).get("verb") == "combine":
        fix = f"hansa combine remove {folder.path} --client 3"
        problem = "is an ensemble, of which a client can be left out"
        raise ConfigError("run", str(folder.path), problem, fix)
    if fix := run_kind(folder.config).forgets.format(run=folder.path):
        problem = "is no run of hansa learn, and its models cannot be made to forget"
        raise ConfigError("run", str(folder.path), problem, fix)
    return trained.settings_of(folder)
