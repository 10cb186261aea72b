"""Cohorts as shards: a cohort trained again without a client is that of a run without it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.experiment import RunFile, run
from hansa.experiment.prepare import prepare
from hansa.forget import QuickDrop, Request, Retrain, Shards
from hansa.forget import run as run_
from hansa.forget.requests import fingerprint
from hansa.forget.run import forget, relearn
from hansa.forget.trained import Trained, default_method, open_trained

COHORTS = (0, 1, 2, 0, 1, 2, 0, 1)
SETTINGS: dict[str, Any] = {
    "seed": 5,
    "nodes": 8,
    "rounds": 6,
    "data": {
        "name": "digits",
        "normalize": "standardize",
        "public": 0.1,
        "partition": {"name": "dirichlet", "alpha": 0.3, "min_samples": 11},
    },
    "model": {"name": "mlp", "hidden": [8]},
    "algorithm": {
        "name": "cpfl",
        "cohorts": {"name": "given", "members": COHORTS},
        "stop": {"window": 2, "patience": 2, "min_delta": 0.02},
        "distillation": {"epochs": 10, "batch_size": 16, "lr": 0.01},
        "server": {"name": "adam", "lr": 0.03},
    },
    "train": {
        "local_steps": 4,
        "batch_size": 16,
        "drop_last": False,
        "strategy": "looped",
        "optimizer": {"name": "sgd", "lr": 0.2},
    },
    "evaluate": {"every": 6, "local_validation": 0.1},
    "checkpoint": {"every": 6},
}


def variant(**changes: Any) -> dict[str, Any]:
    """The settings with others of the algorithm."""
    return {**SETTINGS, "algorithm": {**SETTINGS["algorithm"], **changes}}


def without(*clients: int) -> dict[str, Any]:
    """The settings of a run in which clients take no part from the start."""
    members = [-1 if client in clients else k for client, k in enumerate(COHORTS)]
    return variant(cohorts={"name": "given", "members": members})


@pytest.fixture(scope="session")
def _cpfl(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "cpfl"
    run(SETTINGS, path, report=False)
    return path


@pytest.fixture
def cohorts(_cpfl: Path, tmp_path: Path) -> Path:
    """A run folder of one's own, in three cohorts."""
    path = tmp_path / "run"
    shutil.copytree(_cpfl, path)
    return path


def state(trained: Trained) -> dict[str, torch.Tensor]:
    """All that servers keep."""
    block = trained.server
    return {"merged": trained.row, "rows": block.rows, **block.kept}


def assert_same(one: Trained, other: Trained, cohorts: tuple[int, ...] = (0, 1, 2)) -> None:
    """The same models, to the bit, in these cohorts and merged."""
    others, at = state(other), torch.tensor(cohorts)
    assert torch.equal(one.row, other.row)
    for name, value in state(one).items():
        if name != "merged":
            assert torch.equal(value[at].nan_to_num(), others[name][at].nan_to_num()), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"merge": "average", "select": "last", "stop": None, "sampled": 2},
        {"class_weights": "uniform", "failure": 0.3, "on_failed_round": "skip"},
    ],
    ids=["distilled", "averaged, sampled", "failures"],
)
@pytest.mark.parametrize("strategy", ["looped", "stacked"])
def test_what_is_left_is_the_run_without_the_client(
    tmp_path: Path, changes: dict[str, Any], strategy: str
) -> None:
    """To the bit, though the scratch run's leaver still has its data: none of it is used."""
    apart = without(3)["algorithm"] | changes
    trains = {"train": {**SETTINGS["train"], "strategy": strategy}}
    run(variant(**changes) | trains, tmp_path / "run", report=False)
    run({**SETTINGS, **trains, "algorithm": apart}, tmp_path / "scratch", report=False)
    before = open_trained(tmp_path / "run")
    receipt = forget(tmp_path / "run", Request.of(clients=[3]))
    after, scratch = open_trained(tmp_path / "run"), open_trained(tmp_path / "scratch")
    assert receipt["method"]["name"] == "shards"
    assert receipt["story"]["trained_again"] == [0]
    assert receipt["model_after"] == fingerprint(scratch.row)
    assert_same(after, scratch)
    assert torch.equal(after.server.rows[1:], before.server.rows[1:])
    assert not torch.equal(after.server.rows[0], before.server.rows[0])


def test_the_oracle_trains_everything_and_is_the_same_model(cohorts: Path) -> None:
    receipt = forget(cohorts, Request.of(clients=[4]), oracle=True)
    assert receipt["distance_to_oracle"]["parameters_l2"] == 0
    cost, oracle = receipt["cost"], receipt["oracle_cost"]
    assert cost["distillation"]["sample_gradients"] == 10 * 144  # epochs, public examples
    assert cost["distillation"] | {"seconds": 0} == oracle["distillation"] | {"seconds": 0}
    assert cost["retraining"]["sample_gradients"] < 0.6 * oracle["retraining"]["sample_gradients"]
    assert receipt["story"]["clients"] == 2
    assert cost["retraining"]["bytes"] > 0


def test_requests_follow_each_other(cohorts: Path, tmp_path: Path) -> None:
    """Of the same cohort, of another, and of the last in a cohort, which is dissolved."""
    before = open_trained(cohorts)
    assert forget(cohorts, Request.of(clients=[3]))["story"]["trained_again"] == [0]
    assert forget(cohorts, Request.of(clients=[0, 5]))["story"]["trained_again"] == [0, 2]
    receipt = forget(cohorts, Request.of(clients=[2]))
    assert receipt["story"]["dissolved"] == [2]
    assert receipt["story"]["trained_again"] == []
    assert receipt["cost"]["retraining"]["sample_gradients"] == 0
    assert receipt["story"]["merged"]["teachers"] == 2
    after = open_trained(cohorts)
    assert after.requests.past == Request.of(clients=[0, 2, 3, 5])
    run(without(0, 2, 3, 5), tmp_path / "scratch", report=False)
    # Of nodes without cohort 2 the run has two servers: the first two are the same.
    scratch = open_trained(tmp_path / "scratch")
    assert scratch.job.servers == 2
    assert torch.equal(after.row, scratch.row)
    assert torch.equal(after.server.rows[:2], scratch.server.rows)
    assert torch.equal(after.server.rows[1], before.server.rows[1])
    assert forget(cohorts, Request.of(clients=[2]))["repeated"]
    with pytest.raises(ConfigError, match="already forgotten"):
        forget(cohorts, Request.of(clients=[2, 6]))


def test_retraining_leaves_cohorts_that_shards_go_on_from(cohorts: Path, tmp_path: Path) -> None:
    forget(cohorts, Request.of(clients=[3]), Retrain())
    forget(cohorts, Request.of(clients=[5]))
    run(without(3, 5), tmp_path / "scratch", report=False)
    assert_same(open_trained(cohorts), open_trained(tmp_path / "scratch"))


def test_a_sample_trains_its_own_cohort_again(cohorts: Path) -> None:
    trained = open_trained(cohorts)
    sample = int(trained.job.parts[4][0])
    receipt = forget(cohorts, Request.of(samples=[sample]), oracle=True)
    assert receipt["story"]["trained_again"] == [1]
    assert receipt["story"]["clients"] == 3
    assert receipt["distance_to_oracle"]["parameters_l2"] == 0


def test_a_class_that_all_hold_trains_all_again(cohorts: Path) -> None:
    receipt = forget(cohorts, Request.of(classes=[3]))
    assert receipt["story"]["all"]
    assert receipt["figures"]["after"]["forget"] < receipt["figures"]["before"]["forget"]


def test_nothing_of_the_leavers_cohort_stays_in_the_folder(cohorts: Path) -> None:
    trained = open_trained(cohorts)
    olds = [trained.row, trained.server.rows[0], trained.server.kept["federated.best"][0]]
    forget(cohorts, Request.of(clients=[0]))
    assert not list((cohorts / "checkpoints").glob("*"))
    size = trained.row.numel()
    for path in cohorts.rglob("*.safetensors"):
        for value in load_file(path).values():
            if value.ndim == 2 and value.shape[1] == size:
                for row in value:
                    assert not any(torch.equal(row, old) for old in olds)


def test_an_interrupt_leaves_the_run_as_it_was(
    cohorts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_trained(cohorts)
    with monkeypatch.context() as patch:
        patch.setattr(run_, "settle", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forget(cohorts, Request.of(clients=[0]))
    assert_same(open_trained(cohorts), before)
    assert not open_trained(cohorts).requests.past


def test_one_cohort_is_retraining(tmp_path: Path) -> None:
    """And a client keeps its id there, too."""
    single = variant(cohorts=1)
    run(single, tmp_path / "run", report=False)
    with pytest.raises(ConfigError, match="learn one model"):
        forget(tmp_path / "run", Request.of(clients=[3]), Shards())
    forget(tmp_path / "run", Request.of(clients=[3]), Retrain())
    members = [-1 if client == 3 else 0 for client in range(8)]
    run(variant(cohorts={"name": "given", "members": members}), tmp_path / "apart", report=False)
    one, other = open_trained(tmp_path / "run"), open_trained(tmp_path / "apart")
    assert torch.equal(one.row, other.row)


def test_retraining_keeps_what_clients_hold_back(tmp_path: Path) -> None:
    """A run that picks its best model by validation loss can be retrained, and starts from it."""
    average = {"name": "fedavg", "select": "best"}
    run({**SETTINGS, "algorithm": average}, tmp_path / "run", report=False)
    before = open_trained(tmp_path / "run")
    assert torch.equal(before.row, before.server.kept["federated.best"][0])
    receipt = forget(tmp_path / "run", Request.of(clients=[3]), Retrain())
    after = open_trained(tmp_path / "run")
    assert receipt["model_after"] == fingerprint(after.row)
    assert torch.equal(after.row, after.server.kept["federated.best"][0])


def refused(folder: Path, request: Request, method: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        forget(folder, request, method)
    assert not list((folder / "requests").glob("*"))


def test_what_cannot_be_done_is_explained_beforehand(cohorts: Path, tmp_path: Path) -> None:
    one = Request.of(clients=[0])
    refused(cohorts, one, QuickDrop(), "--method shards.*--method retrain")
    with pytest.raises(ConfigError, match="nothing from which"):
        relearn(cohorts, one)
    few = tmp_path / "few"
    run(variant(min_updates=2, on_failed_round="stop"), few, report=False)
    refused(few, Request.of(clients=[2]), None, "cohort 2 is left with 1 clients")
    apart = tmp_path / "apart"
    run(variant(merge="none"), apart, report=False)
    refused(apart, one, None, "merge: distill or average")


def test_a_cohort_without_validation_examples_is_refused(tmp_path: Path) -> None:
    """Its stopping rule would have nobody to ask."""
    uneven = {"data": {**SETTINGS["data"], "partition": {"name": "quantity", "alpha": 0.3}}}
    held = np.array([len(h) for h in prepare(RunFile.parse(variant(cohorts=1) | uneven)).held])
    silent, votes = int(held.argmin()), int(held.argmax())
    assert held[silent] == 0 < held[votes]
    members = [int(client in (silent, votes)) for client in range(8)]
    listed = variant(cohorts={"name": "given", "members": members})
    run(listed | uneven, tmp_path / "run", report=False)
    refused(tmp_path / "run", Request.of(clients=[votes]), None, "validation examples")


def test_from_the_command_line(
    cohorts: Path, capsys: pytest.CaptureFixture[str], opened: Trained
) -> None:
    assert default_method(cohorts) == "shards"
    assert default_method(opened.folder.path) == "quickdrop"
    assert main(["forget", str(cohorts), "--client", "6", "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["method"] == {"name": "shards"}
    assert main(["forget", str(cohorts), "--client", "1", "--method", "sga"]) == 2
    assert "--method shards" in capsys.readouterr().err
    assert main(["forget", str(cohorts), "--history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forgotten"] == {"clients": [6]}


@pytest.mark.parametrize(
    ("members", "says"),
    [((0, 1), "lists 2 clients of 8"), ((-2,) * 8, "no cohort"), ((-1,) * 8, "no client takes")],
)
def test_given_cohorts_are_checked(members: tuple[int, ...], says: str) -> None:
    listed = variant(cohorts={"name": "given", "members": members})
    with pytest.raises(ConfigError, match=says):
        prepare(RunFile.parse(listed))


def test_a_gap_in_given_cohorts_is_a_cohort_without_clients(tmp_path: Path) -> None:
    gap = variant(cohorts={"name": "given", "members": [0, 2, 2, 0, 2, 2, 0, -1]})
    folder = run(gap, tmp_path / "run", report=False)
    names = open_trained(tmp_path / "run")
    assert names.job.servers == 3
    event = next(e for e in folder.events() if e["kind"] == "distilled")
    assert event["teachers"] == 2
    initial = names.job.block(np.arange(names.job.nodes)).rows[1]
    assert torch.equal(names.server.rows[1], initial)
