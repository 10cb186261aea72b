"""Worker processes that are killed: the others go on, those come back, and it can be replayed."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest

from hansa.base.component import catalogue, find
from hansa.base.errors import ConfigError, RunError
from hansa.engine import Job
from hansa.engine.runtimes.crashes import check_crashes
from hansa.engine.runtimes.strikes import MOMENTS, Strike
from hansa.engine.wrapper import Wrapper
from hansa.experiment import RunFile, prepare, resume, run
from hansa.experiment.replays import replay_of
from hansa.learn.gossip.local_sgd import LocalSGD
from hansa.report import RunFolder

pytestmark = pytest.mark.usefixtures("nothing_left")
LONG = 300.0  # seconds; only a test that fails waits so long


@pytest.fixture
def struck(small: Callable[..., Any], tmp_path: Path) -> Callable[..., RunFolder]:
    """Plays a run in processes whose workers are struck."""

    def go(on_crash: str, strikes: tuple[Strike, ...], workers: int = 4, **more: Any) -> RunFolder:
        settings = small({"evaluate.every": 1, "checkpoint": {"every": 2}, **more})
        settings["runtime"] = {
            "name": "processes",
            "workers": workers,
            "deadline": LONG,
            "on_crash": on_crash,
        }
        chosen = RunFile.of(settings)
        object.__setattr__(chosen.runtime, "_strikes", strikes)
        return run(chosen, tmp_path / "run", report=False)

    return go


def measured(folder: RunFolder) -> dict[int, int]:
    """How many nodes' accuracy is recorded, by round."""
    own = (polars.col("name") == "accuracy") & polars.col("node").is_not_null()
    return dict(folder.metrics().filter(own).group_by("round").len().sort("round").rows())


def of_kind(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [event for event in folder.events() if event["kind"] == kind]


def same_again(folder: RunFolder, tmp_path: Path) -> None:
    """A replay is equal, and so is what its summary says that went wrong."""
    again = run(replay_of(folder.path), tmp_path / "again", report=False)
    assert again.summary is not None
    assert folder.summary is not None
    assert again.summary["equal"] is True
    assert again.summary["faults"] == folder.summary["faults"]
    assert folder.summary["faults"]["nodes_lost"] > 0


@pytest.mark.slow
def test_the_others_go_on_without_a_worker_that_was_killed(
    struck: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """One missing message ended the whole run before."""
    folder = struck("continue", (Strike(1, 2, "training", "crash"),), rounds=6)
    (lost,) = of_kind(folder, "lost")
    assert (lost["round"], lost["nodes"], lost["worker"]) == (3, [2, 3], 1)
    assert measured(folder) == {1: 8, 2: 8, 3: 6, 4: 6, 5: 6, 6: 6}
    silent = {sender for e in of_kind(folder, "missing") for sender in e["senders"]}
    assert silent == {2, 3}
    assert folder.summary is not None
    assert folder.summary["status"] == "finished"
    assert folder.summary["saved"] == 6  # with the last part of those who are gone
    same_again(folder, tmp_path)


@pytest.mark.slow  # test_engine_fault_matrix.py brings one back
def test_all_workers_are_killed_in_turn_and_come_back(
    struck: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """Each at another moment of a round; what was lost is recorded, and replayed to the bit."""
    rounds = 24
    strikes = [Strike(k, 2 + 5 * k, moment, "crash") for k, moment in enumerate(MOMENTS)]
    strikes += [
        Strike(k, t, "training", "slow", 0.15, incarnation=again)
        for k in range(4)
        for t in range(rounds)
        for again in (0, 1)
    ]
    folder = struck("restart", tuple(strikes), rounds=rounds)
    lost, back = of_kind(folder, "lost"), of_kind(folder, "rejoined")
    assert sorted(event["worker"] for event in lost) == [0, 1, 2, 3]
    assert sorted(event["worker"] for event in back) == [0, 1, 2, 3]
    counts = measured(folder)
    assert sorted(counts) == list(range(1, rounds + 1))
    for gone, there in zip(
        sorted(lost, key=lambda e: e["worker"]),
        sorted(back, key=lambda e: e["worker"]),
        strict=True,
    ):
        assert gone["round"] < there["at"] <= rounds + 1
        assert there["from"] <= gone["round"]
        own = (polars.col("name") == "accuracy") & (polars.col("node") == gone["nodes"][0])
        rows = set(folder.metrics().filter(own)["round"])
        away = set(range(gone["round"], there["at"]))
        assert rows == set(range(1, rounds + 1)) - away
    same_again(folder, tmp_path)


@pytest.mark.slow
def test_a_worker_that_dies_at_every_start_ends_the_run(
    struck: Callable[..., RunFolder],
) -> None:
    strikes = tuple(
        Strike(1, t, "training", "crash", incarnation=k) for k in range(4) for t in range(40)
    )
    slow = tuple(Strike(0, t, "training", "slow", 0.2) for t in range(40))
    with pytest.raises(RunError, match="was started 3 times in vain"):
        struck("restart", (*strikes, *slow), workers=2, rounds=40)


@pytest.mark.parametrize(
    ("algorithm", "node"),
    [
        ("fedavg", "node 8, a server"),
        pytest.param("centralized", "node 0, through which all learn", marks=pytest.mark.slow),
    ],
)
def test_without_its_hub_a_run_ends(
    struck: Callable[..., RunFolder], algorithm: str, node: str
) -> None:
    strikes = (Strike(0, 2, "training", "crash"),)  # both nodes live there
    with pytest.raises(RunError, match=f"hosts {node}, without which nobody can go on"):
        struck("continue", strikes, workers=2, rounds=4, algorithm=algorithm)


def test_who_is_a_hub() -> None:
    for name, hubs in (("centralized", [0]), ("fedavg", [8]), ("hierarchical", [8])):
        assert find("algorithm", name).parse({}).hubs(8).tolist() == hubs  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_run_waits_for_the_node_that_all_learn_through(
    struck: Callable[..., RunFolder], tmp_path: Path
) -> None:
    folder = struck(
        "restart",
        (Strike(0, 2, "receiving", "crash"),),
        workers=2,
        rounds=6,
        algorithm="centralized",
    )
    (lost,), (back,) = of_kind(folder, "lost"), of_kind(folder, "rejoined")
    assert 0 in lost["nodes"]
    assert back["at"] - lost["round"] <= 2
    same_again(folder, tmp_path)


@pytest.mark.slow
def test_a_server_that_was_never_saved_cannot_be_waited_for(
    struck: Callable[..., RunFolder],
) -> None:
    strikes, more = (Strike(0, 2, "training", "crash"),), {"algorithm": "fedavg", "rounds": 4}
    with pytest.raises(RunError, match=r"node 8, a server, whose model was never saved"):
        struck("restart", strikes, workers=2, checkpoint={"every": 0}, **more)


def test_a_run_waits_for_its_server(struck: Callable[..., RunFolder], tmp_path: Path) -> None:
    """A round without it would be none: nobody begins another once it is known to be gone."""
    strikes = (Strike(2, 2, "receiving", "crash"), Strike(2, 5, "training", "crash", incarnation=1))
    folder = struck("restart", strikes, workers=3, rounds=8, algorithm="fedavg")
    lost, back = of_kind(folder, "lost"), of_kind(folder, "rejoined")
    assert [event["worker"] for event in lost + back] == [2, 2, 2, 2]
    assert all(8 in event["nodes"] for event in lost + back)
    for gone, there in zip(lost, back, strict=True):
        assert there["at"] - gone["round"] <= 2  # others may have begun one
    same_again(folder, tmp_path)


@pytest.mark.slow  # its quick sibling is in test_engine_replay
@pytest.mark.parametrize(
    ("on_crash", "orphans"), [("restart", "rehome"), ("continue", "rehome"), ("continue", "wait")]
)
def test_a_run_goes_on_without_an_edge_server(
    struck: Callable[..., RunFolder], tmp_path: Path, on_crash: str, orphans: str
) -> None:
    """Edge 9 dies with clients 1 and 5; those of its own that live elsewhere wait or get another
    edge, and the cloud goes on."""
    edges = [[0, 1, 2], [3, 4, 5], [6, 7]]
    method = {"name": "hierarchical", "edges": edges, "edge_rounds": 2, "orphans": orphans}
    folder = struck(on_crash, (Strike(1, 2, "receiving", "crash"),), rounds=8, algorithm=method)
    (lost,) = of_kind(folder, "lost")
    assert lost["nodes"] == [1, 5, 9]
    assert folder.summary is not None
    assert folder.summary["rounds"] == 8
    assert len(of_kind(folder, "rejoined")) == (on_crash == "restart")
    served = folder.metrics().filter(polars.col("name") == "client_server")
    after = served.filter((polars.col("node") == 2) & (polars.col("round") > lost["round"]))
    homes = {int(value) for value in after["value"]}
    if orphans == "rehome":
        assert homes & {10, 11}
    else:
        assert not homes
    same_again(folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("on_crash", ["continue", "restart"])
def test_what_a_run_goes_on_from_stands_in_for_a_worker_that_saved_nothing_since(
    small: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_crash: str
) -> None:
    """However its files were split."""
    path = tmp_path / "run"
    run(small({"rounds": 4, "checkpoint": {"every": 2, "keep": 1}}), path, report=False)
    runs = importlib.import_module("hansa.experiment.run")
    host_job = runs.host_job

    def hosted(job: Job, runtime: Any, *more: Any) -> None:
        object.__setattr__(runtime, "_strikes", (Strike(1, 4, "sending", "crash"),))
        host_job(job, runtime, *more)

    monkeypatch.setattr(runs, "host_job", hosted)
    runtime = {"name": "processes", "workers": 3, "on_crash": on_crash, "deadline": LONG}
    folder = resume(path, {"rounds": 10, "runtime": runtime}, report=False)
    (lost,) = of_kind(folder, "lost")
    assert (lost["round"], lost["saved"]) == (5, 4)
    assert [event["from"] for event in of_kind(folder, "rejoined")] == [4] * (on_crash == "restart")
    assert folder.summary is not None
    assert (folder.summary["status"], folder.summary["saved"]) == ("finished", 10)
    monkeypatch.undo()
    again = run(replay_of(path), tmp_path / "again", report=False)
    assert again.summary is not None
    assert again.summary["equal"] is True
    assert again.summary["compared"]["models_of_round"] == 10


SURVIVES = {
    "centralized", "cpfl", "dpsgd", "el_local", "el_oracle", "fedadagrad", "fedadam", "fedavg",
    "fedavgm", "fednova", "fedprox", "fedyogi", "greedy", "hierarchical", "isolated", "jwins",
    "local_sgd", "quickdrop", "random_sampling", "rex", "scalefl", "skiptrain",
    "skiptrain_constrained", "topk",
}  # fmt: skip
"""Algorithms that go on without a worker: each is done again to the bit in test_engine_replay."""
CANNOT = {
    "adpsgd": "has no rounds",
    "choco": "public copies",
    "fedbuff": "has no rounds",
    "rex_async": "has no rounds",
    "scaffold": "a client's control",
    "secure_dpsgd": "leaves masks that nobody can take away",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"budget": 3},
    "skiptrain_constrained": {"budget": 3},
}


def test_every_algorithm_goes_on_without_a_worker_or_says_why_not() -> None:
    ours = {n: m for n, m in catalogue("algorithm").items() if m.__module__.startswith("hansa.")}
    assert ours.keys() == SURVIVES | CANNOT.keys()
    for name, method in ours.items():
        inner = {"algorithm": "dpsgd"} if issubclass(method, Wrapper) else {}
        algorithm = method(**{**SETTINGS.get(name, {}), **inner})
        for on_crash in ("continue", "restart"):
            if name in SURVIVES:
                check_crashes(on_crash, algorithm, False, False)
                continue
            with pytest.raises(ConfigError, match=CANNOT[name]) as caught:
                check_crashes(on_crash, algorithm, False, False)
            assert "on_crash: stop" in caught.value.fix
            around = LocalSGD(algorithm=algorithm)
            with pytest.raises(ConfigError, match=CANNOT[name]):
                check_crashes(on_crash, around, False, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithm": "choco"}, "cannot go on without a worker: it adds differences"),
        ({"algorithm": "adpsgd", "clock": "modelled"}, "has no rounds"),
        ({"faults": {"on_missing": "wait"}}, "messages of a worker that is gone are needed"),
        ({"attack": {"name": "a_little_is_enough", "share": 0.25}}, "agree with each other"),
    ],
)
def test_runs_that_cannot_go_on_without_a_worker_say_so(
    small: Callable[..., Any], changes: dict[str, Any], words: str
) -> None:
    runtime = {"name": "processes", "workers": 2, "on_crash": "continue"}
    settings = small({}) | changes | {"runtime": runtime}
    with pytest.raises(ConfigError, match=words) as caught:
        prepare(RunFile.parse(settings))
    assert caught.value.field == "runtime.on_crash"
    prepare(RunFile.parse(settings | {"runtime": {**runtime, "on_crash": "stop"}}))
