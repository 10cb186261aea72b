"""A run that was trained, opened to be changed: its job, nodes and requests as they are now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.engine import Block, Job, Outcome
from hansa.engine.history import UPDATES
from hansa.ensemble.condensation import Condensation
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.experiment import trained
from hansa.experiment.runfile import RunFile
from hansa.experiment.start import ENDED
from hansa.forget.federation import Federation
from hansa.forget.request import Request
from hansa.forget.requests import Requests
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Trained:
    """A run that was trained, as it is now."""

    folder: RunFolder
    job: Job
    block: Block
    done: int
    requests: Requests
    layout: SyntheticLayout | None

    @property
    def keeps(self) -> int:
        """Every how many rounds the server kept the clients' updates; 0: it kept none."""
        return int(getattr(self.job.algorithm, "keep_updates", 0))

    @property
    def images(self) -> dict[int, Tensor]:
        """Copies of the clients' rows of synthetic images."""
        if self.layout is None or SHELF not in self.block.shelves:
            return {}
        ids, rows = self.block.shelves[SHELF].all()
        return dict(zip(ids.tolist(), rows.to(self.block.rows.device), strict=True))

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, where the data say so."""
        return tuple((self.folder.read_json("partition.json") or {}).get("classes", ()))

    @property
    def row(self) -> Tensor:
        """float32 [D]: the model that the run came to, or that its last request left."""
        return self.block.models()[1][0].clone()

    def settle(self, row: Tensor, nodes: Block | None = None) -> None:
        """Put a model [D] in the place of the run's, and all other ``nodes`` as they are now."""
        block = self.block = nodes or self.block
        rows, first = row.unsqueeze(0), np.array([block.clients])
        if self.job.servers == 1:
            self.job.algorithm.adopt(block, rows)
        block.outcome = replace(block.outcome or Outcome(), ids=first, rows=rows)

    def federation(self, request: Request) -> Federation:
        """Its clients and server, for one request."""
        return Federation(
            job=self.job,
            row=self.row,
            layout=self.layout,
            images=self.images,
            request=request,
            past=self.requests.past - request,  # what was asked for before may be asked for again
            updates=self.block.kept[UPDATES][0] if self.keeps else None,
            updates_every=self.keeps,
            done=self.done,
            number=len(self.requests.folders) + 1,
            trained=self.block,
        )


def open_trained(path: str | Path) -> Trained:
    """A run in its present state: as trained, or as its last request left it.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: nothing can be forgotten from such a run; says why.
    """
    folder = RunFolder.open(path)
    chosen = _settings(folder)
    if (folder.summary or {}).get("status") in ENDED:
        Requests(folder.path).purge()
    run = trained.open_trained(folder, chosen)
    job, block = run.job, run.block
    if (task := job.dataset.spec.task) != "classification":
        problem = f"only classifiers can be made to forget, and its data are for {task}"
        raise ConfigError(
            "run", str(path), problem, "begin a new run without the data that are to go"
        )
    if not job.servers:
        problem = "only what was trained with servers can be made to forget"
        fix = "algorithm: quickdrop, or cpfl, or another federated one"
        raise ConfigError("run", str(path), problem, fix)
    if job.servers > 1 and len(block.models()[1]) > 1:
        raise ConfigError(
            "run",
            str(path),
            f"its {job.servers} servers have a model each, and the run has none of them all",
            "algorithm: cpfl with merge: distill or average",
        )
    how = getattr(job.algorithm, "condensation", None)
    layout = None
    if isinstance(how, Condensation) and SHELF in block.shelves:
        assert job.roster.labels is not None  # it classifies
        layout = SyntheticLayout.of(
            job.roster.labels[: chosen.nodes], how.scale, job.dataset.spec.shape
        )
    requests = Requests(folder.path)
    requests.scrub_withheld(layout)
    return Trained(folder, job, block, run.done, requests, layout)


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
    return trained.settings_of(folder)
