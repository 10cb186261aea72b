"""Phases in worker processes, and jobs as files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.streams import Streams
from hansa.combine.ensemble import Place, prepare
from hansa.combine.ensemble.ensemble_settings import federated_adam
from hansa.combine.ensemble.rule_model import RuleModel
from hansa.combine.ensemble.run import ensemble
from hansa.data import Digits
from hansa.engine import (
    Algorithm,
    CheckpointSettings,
    EvaluateSettings,
    Job,
    Network,
    Processes,
    Simulate,
    TrainSettings,
    WallClock,
)
from hansa.engine.runtimes.dealing import deal, party
from hansa.ensemble import Residual, Rule, initial_rule
from hansa.experiment.played import Alone
from hansa.models import MLP, Model, initial_model
from hansa.topology import Ring

from .conftest import QUICK, made_up, quick


def a_job(rule_or_model: Rule | Model) -> tuple[Job, Model]:
    """A small job of phase 2 (of a rule) or of phase 1 (of a model), and its module's form."""
    streams, scores = Streams(4), made_up()
    form: Model
    if isinstance(rule_or_model, Rule):
        dataset, parts = scores.dataset(rule_or_model, "scores"), scores.parts
        module = initial_rule(rule_or_model, scores.panel, streams)
        form = RuleModel.of(rule_or_model, scores.panel)
        algorithm: Algorithm = federated_adam(0.1)
    else:
        dataset, parts = Digits().load(streams), [np.arange(9), np.arange(9, 40)]
        module = initial_model(rule_or_model, dataset.spec, streams)
        form, algorithm = rule_or_model, Alone(model=rule_or_model)
    servers = algorithm.servers(len(parts))
    job = Job(
        rounds=3,
        streams=streams,
        dataset=dataset,
        parts=parts,
        module=module,
        network=Network(Ring(), len(parts) + servers, streams, servers),
        algorithm=algorithm,
        clock=WallClock(),
        train=TrainSettings(batch_size=7),
        evaluate=EvaluateSettings(every=2, average_model=False),
        checkpoint=CheckpointSettings(every=3, keep=1),
    )
    return job, form


@pytest.mark.parametrize("of", [Residual(), MLP(hidden=(8,))], ids=lambda of: of.name)
def test_a_job_comes_back_as_it_was(of: Rule | Model, tmp_path: Path) -> None:
    job, form = a_job(of)
    job.form = form
    deal(tmp_path, job, [np.arange(job.nodes)])
    found = party(tmp_path, 0)
    found.joined = job.roster
    for ours, theirs in zip(found.parts, job.parts, strict=True):
        assert np.array_equal(ours, theirs)
    ours, theirs = found.block(np.arange(2)), job.block(np.arange(2))
    assert torch.equal(ours.rows, theirs.rows)
    assert torch.equal(
        found.dataset.gather(found.dataset.test, torch.arange(5))[0],
        job.dataset.gather(job.dataset.test, torch.arange(5))[0],
    )
    dealt = torch.from_numpy(np.concatenate(job.parts))
    assert torch.equal(found.dataset.train.inputs, job.dataset.train.inputs[dealt])
    assert torch.equal(found.dataset.test.targets, job.dataset.test.targets)
    assert (found.train, found.algorithm, found.rounds) == (job.train, job.algorithm, 3)
    file = tmp_path / "parties/plan.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="corrupt"):
        party(tmp_path, 0)


def test_a_run_has_at_most_a_worker_for_each_node() -> None:
    place = Place(Processes(workers=4))
    assert place.runtime_for(9) == Processes(workers=4)
    assert place.runtime_for(3) == Processes(workers=3)
    assert place.runtime_for(1) == Simulate()
    with pytest.raises(ConfigError, match="more than the 4 nodes") as caught:
        prepare(quick(runtime={"name": "processes", "workers": 5}))
    assert caught.value.field == "runtime.workers"


@pytest.mark.slow  # test_combine_judging.py and test_combine_peers.py have its parts
def test_phase_2_and_baselines_in_processes_are_the_same_to_the_bit(tmp_path: Path) -> None:
    forms = [{"name": "mlp", "hidden": [k]} for k in (8, 9, 10, 11)]  # so phase 1 is here
    given = (
        QUICK
        | {"models": forms}
        | {"rules": ["average", "voting", "per_class"], "choose": "robust"}
        | {"aggregate": {"rounds": 8, "every": 4, "folds": 2}}
        | {"baselines": {"methods": ["fedadam"], "rounds": 3, "every": 3}}
    )
    here = ensemble(given, tmp_path / "here", report=False)
    apart = given | {"runtime": {"name": "processes", "workers": 2}}
    there = ensemble(apart, tmp_path / "there", report=False)
    for folder in ("rule_per_class", "rule_voting", "judging"):
        assert (there.path / folder / "logs" / "worker-1.log").exists()
        assert not (there.path / folder / "parties").exists()
    assert (there.path / "baselines" / "fedadam" / "logs" / "worker-1.log").exists()
    assert not (there.path / "rule_per_class" / "job.safetensors").exists()
    for file in (here.path / "ensemble").iterdir():
        assert file.read_bytes() == (there.path / "ensemble" / file.name).read_bytes()
    assert (here.path / "table.md").read_text() == (there.path / "table.md").read_text()
