"""What clients make of one common model, and whose examples judge it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from hansa.base.errors import ConfigError
from hansa.combine.merge.merge_tasks import MergeTasks
from hansa.experiment.run import run
from hansa.experiment.runfile import RunFile
from hansa.experiment.trained import open_trained, settings_of
from hansa.report import RunFolder


def silent(text: str) -> None:
    pass


def states(suite):
    return {
        name: load_file(path / "model.safetensors")
        for name, path in {"base": suite.base, **suite.models}.items()
    }


def trained(tmp_path, **more):
    settings = {
        "algorithm": "fedavg", "nodes": 3, "rounds": 2, "model": "logistic",
        "data": {
            "name": "digits_views", "views": ["mirror", "invert", "parity"],
            "partition": {"name": "natural", "choose": "first"},
        },
        "train": {"local_steps": 20, "optimizer": {"name": "sgd", "lr": 0.05}},
    } | more  # fmt: skip
    run(RunFile.parse(settings), tmp_path / "run", report=False)
    return {"name": "sites", "run": str(tmp_path / "run")}


def test_a_common_model_is_made_each_clients_own(tmp_path):
    """As plain steps of SGD from the server's model would, on the client's own examples."""
    sites = trained(tmp_path)
    with pytest.raises(ConfigError, match="its clients no models") as caught:
        MergeTasks.resolve(sites).check()
    assert "personalise" in caught.value.fix
    own = MergeTasks.resolve({**sites, "personalise": 40, "lr": 0.1})
    own.check()
    suite = own.suite(0, tmp_path / "own", silent)
    again = own.suite(0, tmp_path / "again", silent)
    held, same = states(suite), states(again)
    folder = RunFolder.open(tmp_path / "run")
    opened = open_trained(folder, settings_of(folder))
    for name, tensor in opened.module().state_dict().items():
        assert torch.allclose(held["base"][name], tensor)
    for site, view in zip(suite.tasks, ("mirror", "invert", "parity"), strict=True):
        assert all(torch.equal(held[site][name], same[site][name]) for name in held[site])
        x, y = suite.inputs(site, "test")
        assert len(y) == suite.examples[site]
        plain, labels = opened.job.dataset, opened.job.dataset.test.groups
        rows = torch.from_numpy(np.flatnonzero(labels == plain.group_names.index(view)))
        assert torch.equal(x, plain.gather(plain.test, rows)[0])
        network = suite.make()
        network.load_state_dict(held[site])
        with torch.no_grad():
            wanted = float((network(x).argmax(1) == y).double().mean())
        assert suite.judge(site, held[site], "test") == pytest.approx(wanted)
        assert suite.judge(site, held[site], "test") > suite.judge(site, held["base"], "test")
        inputs, classes = suite.inputs(site, "own")
        node = int(site[-1])
        network.load_state_dict(held["base"])
        before = functional.cross_entropy(network(inputs), classes)
        network.load_state_dict(held[site])
        assert functional.cross_entropy(network(inputs), classes) < before
        assert len(classes) == len(opened.job.parts[node])


def test_sites_without_owners_have_no_tasks_to_route_to(tmp_path):
    sites = trained(
        tmp_path, algorithm="isolated", data={"name": "digits", "partition": {"name": "iid"}}
    )
    assert MergeTasks.resolve(sites).suite(0, tmp_path / "own", silent).inputs is None
    with pytest.raises(ConfigError, match="steps that nobody takes"):
        MergeTasks.resolve({**sites, "lr": 0.1}).check()


def test_private_runs_are_not_personalised_uncounted(tmp_path):
    privacy = {"name": "central", "noise": 1.0, "clip": 1.0, "delta": 1e-5}
    weighed = {"name": "fedavg", "weighting": "uniform"}
    sites = trained(tmp_path, algorithm=weighed, privacy=privacy)
    with pytest.raises(ConfigError, match="differentially private"):
        MergeTasks.resolve({**sites, "personalise": 5}).check()
