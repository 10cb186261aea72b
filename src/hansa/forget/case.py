"""A request on a run, as it is looked at before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hansa.engine import Block, Job
from hansa.ensemble.synthetic import SyntheticLayout
from hansa.forget.request import Request
from hansa.forget.run_plan import RunPlan


@dataclass(frozen=True)
class Case:
    """What is known where the request is made, and where the run's data are dealt out.

    Attributes:
        job: the run's.
        request: what is to be forgotten now.
        past: what was forgotten before, and must not be used again.
        done: rounds of training that there were.
        server: the servers' nodes as they are now.
        checkpoint: all nodes as they are now.
        layout: where clients' synthetic images lie; None if the run made none.
        imaged: int64, ids of the clients that have some, ascending.
        number: which request of the run it is.
    """

    job: Job
    request: Request
    past: Request
    done: int
    server: Block
    checkpoint: Path
    layout: SyntheticLayout | None = None
    imaged: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    number: int = 1

    @property
    def plan(self) -> RunPlan:
        """What all parties know of the run."""
        return RunPlan.of_job(self.job, self.done)

    @property
    def gone(self) -> Request:
        """What must not be used from now on."""
        return self.request | self.past

    @property
    def updates_every(self) -> int:
        """Every how many rounds the server kept the clients' updates; 0: it kept none."""
        return int(getattr(self.job.algorithm, "keep_updates", 0))

    def remaining(
        self, groups: Sequence[np.ndarray], without: Request | None = None
    ) -> list[np.ndarray]:
        """The clients' examples, an index array each, less what requests cover.

        Args:
            without: the requests; by default the present one and those before.
        """
        gone = self.gone if without is None else without
        labels, kept = self.job.dataset.train.targets.cpu().numpy(), []
        for client, group in enumerate(groups):
            index = np.asarray(group)
            kept.append(index[~gone.covers(client, index, labels[index])])
        return kept

    def images_remain(self) -> bool:
        """Whether a client has a synthetic image of what remains."""
        if self.layout is None:
            return False
        counts = self.layout.counts[self.imaged].copy()
        counts[np.isin(self.imaged, self.gone.clients)] = 0
        counts[:, list(self.gone.classes)] = 0
        return bool(counts.any())

    def examples_remain(self) -> bool:
        """Whether a client has an original example of what remains."""
        return any(map(len, self.remaining(self.job.parts)))
