"""What a site draws for itself: another party has the run file, all shared examples and a secret of
its own, and still computes neither the site's batches nor its keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hansa.engine import Job
from hansa.engine.training.batches import Batching
from hansa.engine.training.feed import Feed
from hansa.experiment import RunFile, prepare
from hansa.experiment.sites.parties import SharedParty
from hansa.learn.secure.key_agreement import own_keys

SITE = np.array([0])
SECRET, OTHERS = bytes(range(32)), bytes(range(1, 33))
RUN: dict[str, Any] = {
    "nodes": 4,
    "rounds": 1,
    "seed": 3,
    "data": "digits",
    "model": {"name": "mlp", "hidden": [4]},
    "topology": {"name": "regular", "degree": 2},
    "algorithm": {"name": "secure_dpsgd", "keys": "seeded"},
}


@pytest.fixture(scope="module")
def whole() -> Job:
    """The run as everybody can prepare it."""
    return prepare(RunFile.parse(RUN), place=False)


def draws(whole: Job, secret: bytes | None, round: int = 0) -> tuple[list[int], bytes]:
    """(the examples that the site trains on in a round, its key) with this secret."""
    job = SharedParty(whole, SITE, secret).job
    block = job.block(SITE)
    own_keys(block, "seeded")
    steps = np.array([3])
    feed = Feed(job.dataset, Batching(8), block, np.array([0]), steps, round, torch.device("cpu"))
    return feed._index.ravel().tolist(), block.state["secure.key"].numpy().tobytes()


def test_who_does_not_know_a_sites_secret_does_not_know_what_it_draws(whole: Job) -> None:
    batches, key = draws(whole, SECRET)
    assert draws(whole, SECRET) == (batches, key)  # an interrupted site goes on as before
    for guess in (None, OTHERS):  # by the run's seed, as in a simulation; by a secret of one's own
        theirs, their_key = draws(whole, guess)
        assert theirs != batches
        assert their_key != key
    assert draws(whole, SECRET, 1)[0] != batches


def test_what_all_draw_alike_follows_from_the_runs_seed_whatever_secrets_sites_have(
    whole: Job,
) -> None:
    jobs = [SharedParty(whole, SITE, secret).job for secret in (None, SECRET, OTHERS)]
    graphs = [job.network.graph(0) for job in jobs]
    assert all(np.array_equal(graph.indices, graphs[0].indices) for graph in graphs)
    assert len({job.streams.integer("initial model") for job in jobs}) == 1
    blocks = [job.block(SITE) for job in jobs]
    assert all(torch.equal(block.rows, blocks[0].rows) for block in blocks)
