"""A run through Flower is the run that hansa does itself: models, bytes, modelled time, losses."""

import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from hansa.base.errors import CheckpointError, ConfigError, RunError, WireError
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.holding import NotHeld
from hansa.experiment import RunFile, prepare, resume, run
from hansa.interop.flower import HansaStrategy, client_app, server_app
from hansa.interop.flower.client import Own
from hansa.interop.flower.common import figures
from hansa.interop.flower.letters import Letter
from hansa.interop.flower.settings import for_flower, to_text
from hansa.learn.federated import waves

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"


class Normed(torch.nn.Sequential):
    """A network whose statistics clients keep."""

    def __init__(self) -> None:
        super().__init__(
            torch.nn.Flatten(),
            torch.nn.Linear(64, 9),
            torch.nn.BatchNorm1d(9),
            torch.nn.Linear(9, 10),
        )


class Frozen(torch.nn.Sequential):
    """A network whose first layer is not trained: it is no part of what travels."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.Linear(9, 10))
        self[1].requires_grad_(False)


WALL = ("round_seconds", "seconds")
MEASURED = ("accuracy", "accuracy_std", "loss", "loss_std", "measuring_bytes")
CASES: dict[str, dict[str, Any]] = {
    "fedavg": {"algorithm": {"name": "fedavg", "sampled": 3}},
    "adaptive clients": {
        "algorithm": {"name": "fedavg", "sampled": 4},
        "train": {"optimizer": {"name": "adam", "lr": 0.01}, "strategy": "looped"},
    },
    "fedprox": {"algorithm": {"name": "fedprox", "mu": 0.1}},
    "fednova": {"algorithm": {"name": "fednova", "sampled": 5}},
    "scaffold": {"algorithm": {"name": "scaffold", "sampled": 3}},
    "fedadam": {"algorithm": {"name": "fedadam", "sampled": 4}},
    "momentum sent down": {"algorithm": {"name": "fedavg", "global_momentum": 0.5}},
    "lossy both ways, two messages each": {
        "algorithm": {
            "name": "scaffold",
            "sampled": 3,
            "codec": {"name": "qsgd", "bits": 4},
            "download": {"name": "uniform", "bits": 8},
        }
    },
    "lossless": {"algorithm": {"name": "fedavg", "codec": "lossless", "download": "lossless"}},
    "late, failing and surplus clients": {
        "algorithm": {
            "name": "fedavg",
            "sampled": 2,
            "over_selection": 2.0,
            "failure": 0.3,
            "on_failed_round": "skip",
        }
    },
    "validating": {
        "algorithm": {"name": "fedavg", "select": "best", "stop": {"window": 1, "patience": 1}},
        "evaluate": {"every": 2, "local_validation": 0.2},
    },
    "cohorts": {
        "algorithm": {"name": "cpfl", "cohorts": 2, "merge": "average"},
        "evaluate": {"every": 2, "local_validation": 0.2},
    },
    "edge servers": {
        "algorithm": {"name": "hierarchical", "edges": 2, "edge_rounds": 2, "orphans": "rehome"},
    },
    "frozen tensors": {
        "algorithm": {"name": "fedadam", "sampled": 3},
        "model": {"name": "module", "path": f"{__file__}:Frozen"},
    },
    "own statistics": {
        "algorithm": {"name": "fedavg", "sampled": 3, "buffers": "local"},
        "model": {"name": "module", "path": f"{__file__}:Normed"},
    },
}


def server_rows(folder: Path) -> list[torch.Tensor]:
    """The servers' models after each round."""
    found = []
    for path in sorted(folder.glob("checkpoints/round-*/*.safetensors")):
        saved = load_file(path)
        found.append(saved["rows"])
    return found


def metrics(folder: Any) -> polars.DataFrame:
    table = folder.metrics()
    table = table.filter(~polars.col("name").is_in(WALL)).drop("time")
    return table.sort("round", "name", "node")


@pytest.fixture
def through_flower(grid: Any, tmp_path: Path) -> Callable[..., Any]:
    def go(chosen: dict[str, Any], **more: Any) -> Any:
        strategy = HansaStrategy(RunFile.parse(chosen), tmp_path / "flower")
        nodes = grid(client_app(), chosen["nodes"])
        return strategy.start(nodes, **more), strategy.folder, nodes

    return go


@pytest.mark.parametrize("case", CASES)
def test_the_trajectory_is_that_of_our_own_runtime(
    case: str, settings: Any, through_flower: Any, tmp_path: Path
) -> None:
    chosen = settings(**CASES[case])
    own = run(chosen, tmp_path / "own", report=False)
    _, folder, _ = through_flower(chosen)
    ours, theirs = server_rows(own.path), server_rows(folder.path)
    assert len(ours) == len(theirs) > 0
    for t, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert torch.equal(a, b), f"round {t + 1}"
    ours, theirs = metrics(own), metrics(folder)
    if case == "own statistics":  # what clients keep, they alone could measure
        seen = ~polars.col("name").is_in(MEASURED)
        ours, theirs = ours.filter(seen), theirs.filter(seen)
        assert any(
            "statistics are those of the start" in e.get("text", "") for e in folder.events()
        )
    else:
        assert folder.summary["final"] == own.summary["final"]
    assert ours.equals(theirs)
    assert folder.summary["bytes_sent"] == own.summary["bytes_sent"]


def test_a_round_in_waves(
    settings: Any, through_flower: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "_WAVE_BYTES", 1)
    chosen = settings(algorithm={"name": "scaffold", "sampled": 4})
    own = run(chosen, tmp_path / "own", report=False)
    _, folder, nodes = through_flower(chosen)
    assert metrics(own).equals(metrics(folder))
    assert nodes.asked == 6 + 4 * 4  # everyone once at the start, then who was invited


def test_only_those_invited_are_asked_and_rounds_and_models_come_back(
    settings: Any, through_flower: Any
) -> None:
    chosen = settings(algorithm={"name": "fedavg", "sampled": 2})
    seen = []

    def look(done: int, model: ArrayRecord) -> MetricRecord:
        seen.append((done, model["fc1.weight"].numpy().shape))
        return MetricRecord({"looked": done})

    result, folder, nodes = through_flower(chosen, num_rounds=3, evaluate_fn=look)
    assert nodes.asked == 6 + 3 * 2
    assert [done for done, _ in seen] == [0, 1, 2, 3]  # the initial model first, as Flower does
    assert result.train_metrics_clientapp.keys() == {1, 2, 3}
    assert result.evaluate_metrics_serverapp[1]["looked"] == 1
    assert result.evaluate_metrics_serverapp[2]["accuracy"] > 0
    assert folder.summary["rounds"] == 3
    assert (folder.path / "report.html").exists()
    row = np.concatenate([a.numpy().ravel() for a in result.arrays.values()])
    assert np.array_equal(row, server_rows(folder.path)[-1][0].numpy())


def test_a_server_app_goes_by_its_file_and_by_flowers_run_config(
    run_file: Any, grid: Any, tmp_path: Path
) -> None:
    from flwr.app import Context

    config = {"set.rounds": 1, "set.algorithm.name": "fedadam", "out": str(tmp_path / "run")}
    path = run_file()
    server_app(path)(grid(client_app(), 6), Context(1, 0, {}, RecordDict(), config))
    assert (tmp_path / "run" / "config.yaml").exists()
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "fedadam" in text
    assert "rounds: 1" in text


def test_the_example_runs(grid: Any, tmp_path: Path) -> None:
    from flwr.app import Context

    app = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    apps = {}
    for role, place in app["components"].items():
        module, name = place.split(":")
        apps[role] = runpy.run_path(str(EXAMPLE / f"{module}.py"))[name]
    assert set(app["config"]) == {"out", "set"}
    config = {"set.rounds": 2, "out": str(tmp_path / "run")}
    apps["serverapp"](grid(apps["clientapp"], 6), Context(1, 0, {}, RecordDict(), config))
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("name", ["dpsgd", "secure_dpsgd", "centralized"])
def test_peers_are_refused(name: str, settings: Any) -> None:
    with pytest.raises(ConfigError, match="has no rounds"):
        HansaStrategy(RunFile.parse({"algorithm": {"name": "fedbuff", "concurrency": 4}}))
    with pytest.raises(ConfigError, match="has no server"):
        HansaStrategy(RunFile.parse(settings(algorithm={"name": name})))


def test_too_few_flower_nodes_are_named(settings: Any, grid: Any, tmp_path: Path) -> None:
    strategy = HansaStrategy(RunFile.parse(settings()), tmp_path / "run", wait=0.1)
    with pytest.raises(ConfigError, match="Flower has 4"):
        strategy.start(grid(client_app(), 4))


def test_clients_that_do_not_come_are_waited_for_and_then_named(
    settings: Any, grid: Any, tmp_path: Path
) -> None:
    strategy = HansaStrategy(RunFile.parse(settings()), tmp_path / "run", wait=0.1)
    with pytest.raises(ConfigError, match=r"there are \[0, 1, 5\]"):
        strategy.start(grid(client_app(), 6, [5, 1, 0]))


def test_two_flower_nodes_of_one_number_are_refused(
    settings: Any, grid: Any, tmp_path: Path
) -> None:
    strategy = HansaStrategy(RunFile.parse(settings()), tmp_path / "run", wait=0.1)
    with pytest.raises(ConfigError, match="partition-id"):
        strategy.start(grid(client_app(), 6, [0, 1, 2, 3, 4, 4]))


def test_batteries_are_refused(settings: Any, through_flower: Any) -> None:
    with pytest.raises(ConfigError, match="has batteries"):
        through_flower(settings(clock={"name": "phones", "battery_share": 0.5}))


def test_losses_are_refused(settings: Any, through_flower: Any) -> None:
    with pytest.raises(ConfigError, match="letter is whole") as caught:
        through_flower(settings(faults={"loss": 0.1, "on_missing": "wait"}))
    assert caught.value.field == "faults"


def test_a_client_of_another_run_file_says_so(
    settings: Any, grid: Any, run_file: Any, tmp_path: Path
) -> None:
    strategy = HansaStrategy(RunFile.parse(settings()), tmp_path / "run")
    nodes = grid(client_app(run_file(seed=6, rounds=9)), 6)
    with pytest.raises(RunError, match="rounds, seed: not the same") as found:
        strategy.start(nodes)
    assert found.value.node is not None


def test_a_client_of_the_same_run_file_works(
    settings: Any, grid: Any, run_file: Any, tmp_path: Path
) -> None:
    strategy = HansaStrategy(RunFile.parse(settings(rounds=1)), tmp_path / "run")
    strategy.start(grid(client_app(run_file(rounds=1, checkpoint={"every": 0})), 6))
    assert strategy.folder is not None


def test_what_goes_wrong_at_a_client_is_told(settings: Any, through_flower: Any) -> None:
    train = {"local_steps": 3, "optimizer": {"name": "sgd", "lr": 1e9}, "strategy": "looped"}
    with pytest.raises(RunError, match="training loss is") as found:
        through_flower(settings(train={**train, "on_divergence": "stop"}))
    assert found.value.round is not None


def test_a_round_is_done_once(settings: Any, grid: Any, tmp_path: Path) -> None:
    nodes = grid(client_app(), 6)
    HansaStrategy(RunFile.parse(settings()), tmp_path / "a").start(nodes)
    with pytest.raises(RunError, match="has already done 4 rounds"):
        HansaStrategy(RunFile.parse(settings()), tmp_path / "b").start(nodes)


def test_a_run_of_flowers_is_not_resumed_here(settings: Any, through_flower: Any) -> None:
    _, folder, _ = through_flower(settings(rounds=1))
    with pytest.raises(ConfigError, match="is started by Flower"):
        resume(folder.path, {"rounds": 2})
    with pytest.raises(CheckpointError, match="no state of nodes"):
        resume(folder.path, {"rounds": 2, "runtime": {"name": "simulate"}})


def test_other_peoples_messages_are_refused() -> None:
    with pytest.raises(WireError, match="not one of hansa's"):
        Letter.unpack(RecordDict({"arrays": ArrayRecord({})}))


def test_start_takes_nothing_that_the_run_file_says(settings: Any, grid: Any) -> None:
    strategy = HansaStrategy(RunFile.parse(settings()))
    with pytest.raises(ConfigError, match="initial_arrays"):
        strategy.start(grid(client_app(), 6), ArrayRecord({}))
    with pytest.raises(NotImplementedError, match="call start"):
        strategy.aggregate_train(1, list[Message]())


def test_a_client_keeps_its_own_examples_and_goes_by_the_servers_figures(settings: Any) -> None:
    chosen = for_flower(RunFile.parse(settings(data={"name": "digits", "normalize": "unit"})))
    job = prepare(chosen)
    said = figures(job)
    twice = np.asarray(2 * said["figures"]["scale"])
    said["figures"]["scale"] = twice  # what no look at the data would give
    common = unpack_control(pack_control("letter", **said))
    own = Own(to_text(chosen))
    parties = [own.party(client, common) for client in (1, 4)]
    for client, one in zip((1, 4), parties, strict=True):
        assert len(one.dataset.train) == len(job.parts[client])
        with pytest.raises(NotHeld):
            _ = one.parts[0]
        assert torch.equal(one.dataset.scale, job.dataset.scale * 2)
        assert np.array_equal(one.block(np.array([client])).sizes, job.roster.sizes)
        assert one.tried == job.tried
    with pytest.raises(ConfigError, match="clients"):
        own.party(17, common)
