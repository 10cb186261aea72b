"""Clients of robust inference train on their own examples only, wherever they live.

Of the verbs route, audit and infer this is the one run that the engine could place in workers.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hansa.data.dataset import Split
from hansa.engine import Job, Simulate
from hansa.engine.runtimes.checkpoint import save_block
from hansa.engine.runtimes.runtime import Launch, split_nodes
from hansa.infer.robust.trained_clients import AloneSettings, TrainedClients
from hansa.models import MLP

from ..engine.apart import parties_of, play_apart


def test_clients_that_train_alone_need_their_own_examples_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, alone = (MLP(hidden=(8,)), MLP(hidden=(5,))), AloneSettings(epochs=2, strategy="looped")
    clients = TrainedClients(members=5, models=models, local=alone)
    here = clients.answers(3, tmp_path / "here", lambda said: None)
    places: list[int] = []

    def apart(self: Simulate, job: Job, launch: Launch) -> None:
        """As the runtime with workers: plans and holdings in files, all else spoiled."""
        groups = split_nodes(job.nodes, job.nodes)
        train = job.dataset.train
        copy = Split(train.inputs.clone(), train.targets.clone())
        dealt = replace(job, dataset=replace(job.dataset, train=copy))
        parties = parties_of(dealt, tmp_path, groups)
        places.extend(len(one.dataset.train) for one in parties)
        blocks, _ = play_apart(parties, groups)
        entries = [save_block(block, launch.checkpoints, job.rounds) for block in blocks]
        launch.collector.seal(launch.checkpoints, job.rounds, entries)

    monkeypatch.setattr(Simulate, "run", apart)
    there = clients.answers(3, tmp_path / "there", lambda said: None)
    assert len(places) == 5
    assert max(places) < sum(places) / 3  # each has a part, not the whole
    assert here.server is not None
    assert there.server is not None
    assert torch.equal(here.test, there.test)
    assert torch.equal(here.server, there.server)
