"""The job of a site whose examples nobody else has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hansa.base.streams import Streams
from hansa.data.dataset import Dataset
from hansa.engine import Job
from hansa.engine.holding import Holding, Parts
from hansa.experiment.prepare import Frame, check_parts, completed


def own_job(
    frame: Frame,
    dataset: Dataset,
    kept: Mapping[int, np.ndarray],
    held: Mapping[int, np.ndarray],
    holds_back: bool,
    secret: bytes | None,
) -> Job:
    """A site's job; it lacks what the others tell.

    Args:
        kept: what each client here trains on, by its id.
        held: what each keeps back to measure models.
        holds_back: whether clients of this run keep any back.
        secret: seeds what the site draws for itself.
    """
    run, clients = frame.run, frame.network.clients
    if kept:
        check_parts(kept, run)
    holding = Holding(
        np.array(sorted(kept), dtype=np.int64),
        dataset.train,
        tuple(kept.values()),
        np.arange(len(dataset.train)),
        tuple(held.values()),
        secret=secret,
    )
    back = Parts(held, clients) if holds_back else ()
    job = completed(frame, dataset, Parts(kept, clients), back)
    job.streams = Streams(run.seed, secret)
    job.numbered = holding.numbers
    return job
