"""Algorithms among peers where messages get lost and nodes are away: the same wherever they run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

import hansa
from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.experiment.remarks import of_faults
from hansa.experiment.replays import replay_of

MakeJob = Callable[..., Job]
LOSS = {"loss": 0.1}
AWAY = {"absent": {"1": [[1, 3]], "5": [[0, 2], [3, None]]}, "loss": 0.1}
TOLERANT: dict[str, dict[str, Any]] = {
    "dpsgd": {},
    "el_local": {},
    "el_oracle": {},
    "jwins": {},
    "topk": {"accumulation": True},
    "random_sampling": {},
    "skiptrain": {"train_rounds": 1, "sync_rounds": 1},
    "skiptrain_constrained": {"budget": 3, "train_rounds": 1, "sync_rounds": 1},
    "greedy": {"budget": 3, "algorithm": {"name": "jwins"}},
    "local_sgd": {"period": 2},
    "centralized": {},
    "isolated": {},
    "secure_dpsgd": {"keys": "seeded"},
}
"""Those among peers that can do without a message, with settings that make them exchange."""


def settings(name: str, faults: Any, **more: Any) -> dict[str, Any]:
    algorithm = {"name": name, **TOLERANT.get(name, {})}
    return {"algorithm": algorithm, "faults": faults, "topology": {"name": "regular", "degree": 4},
            "clock": {"name": "modelled", "bandwidth": 1e5}, **more}  # fmt: skip


def test_each_algorithm_among_peers_says_whether_it_can_do_without_a_message() -> None:
    rooms = ("hansa.learn.gossip.", "hansa.learn.secure.")
    found = {n: m for n, m in catalogue("algorithm").items() if m.__module__.startswith(rooms)}
    assert set(TOLERANT) | {"choco", "adpsgd"} == set(found)
    for name in TOLERANT:
        assert found[name](**TOLERANT[name]).tolerates_loss, name
    assert not found["choco"]().tolerates_loss


@pytest.mark.parametrize("name", [*TOLERANT])
def test_losses_are_the_same_however_nodes_are_split(
    make_job: MakeJob, host: Callable[..., Any], host_apart: Callable[..., Any], name: str
) -> None:
    changes = settings(name, LOSS, rounds=4)
    whole, reports = host(make_job(changes))
    clean, _ = host(make_job(settings(name, None, rounds=4)))
    lossy = name != "isolated"
    assert torch.equal(whole.rows, clean.rows) is not lossy
    assert (int(whole.state["messages_missing"].sum()) > 0) is lossy
    events = [e for report in reports for e in report["events"] if e["kind"] == "missing"]
    missing = sum(len(e["senders"]) for e in events if e["outcome"] != "wait")
    assert missing == int(whole.state["messages_missing"].sum())
    assert torch.equal(whole.state["bytes_sent"], clean.state["bytes_sent"]) or name in (
        "jwins", "topk", "greedy", "secure_dpsgd"
    )  # fmt: skip
    for workers in (2, 3):
        rows, state, posts = host_apart(lambda: make_job(changes), workers)
        assert torch.equal(rows, whole.rows)
        for key, value in whole.state.items():
            assert torch.equal(state[key], value), key
        assert [post.dropped for post in posts] == [{}] * workers


@pytest.mark.parametrize("name", ["dpsgd", "jwins", "skiptrain", "local_sgd"])
@pytest.mark.parametrize("policy", ["wait", "renormalise", "skip"])
def test_a_policy_of_the_run_file_holds_everywhere(
    make_job: MakeJob,
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    name: str,
    policy: str,
) -> None:
    changes = settings(name, {"loss": 0.3, "on_missing": policy, "patience": 2.0}, rounds=3)
    whole, _ = host(make_job(changes))
    rows, state, _ = host_apart(lambda: make_job(changes), 3)
    assert torch.equal(rows, whole.rows)
    for key, value in whole.state.items():
        assert torch.equal(state[key], value), key
    if policy == "wait":  # all comes, later
        clean, _ = host(make_job(settings(name, None, rounds=3)))
        assert torch.equal(whole.rows, clean.rows)
        for key in ("bytes_sent", "bytes_received", "messages_sent"):
            assert torch.equal(whole.state[key], clean.state[key])
        assert int(whole.state["bytes_resent"].sum()) > 0
        assert float(whole.state["modelled_time"].max()) > float(clean.state["modelled_time"].max())


@pytest.mark.parametrize("name", ["dpsgd", "jwins", "skiptrain"])
def test_nodes_that_are_away_come_back_as_they_left(
    make_job: MakeJob, host: Callable[..., Any], host_apart: Callable[..., Any], name: str
) -> None:
    changes = settings(name, AWAY)
    whole, reports = host(make_job(changes))
    samples = np.stack([report["counters"]["samples"] for report in reports])
    trained = np.diff(samples, axis=0, prepend=0) > 0
    away = np.zeros_like(trained)
    away[1:3, 1] = away[0:2, 5] = away[3:, 5] = True
    assert not trained[away].any()
    assert trained[0][~away[0]].all()
    rows, state, _ = host_apart(lambda: make_job(changes), 3)
    assert torch.equal(rows, whole.rows)
    for key, value in whole.state.items():
        assert torch.equal(state[key], value), key


def test_clients_that_are_away_are_not_invited(
    make_job: MakeJob, host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    changes = {"algorithm": "fedavg", "faults": {"absent": AWAY["absent"]}, "rounds": 4}
    whole, reports = host(make_job(changes))
    samples = np.stack([report["counters"]["samples"] for report in reports])
    trained = np.diff(samples, axis=0, prepend=0) > 0
    expected = np.ones((4, 9), dtype=bool)
    expected[1:3, 1] = expected[0:2, 5] = expected[3:, 5] = expected[:, 8] = False
    assert np.array_equal(trained, expected)
    rows, state, _ = host_apart(lambda: make_job(changes), 3)
    assert torch.equal(rows, whole.rows)
    for key, value in whole.state.items():
        assert torch.equal(state[key], value), key


def test_what_goes_wrong_on_purpose_is_said(make_job: MakeJob) -> None:
    faults = {"loss": 0.1, "lost": [[0, 1, 2]], "absent": {"1": [[0, 1]]}, "on_missing": "skip"}
    lines = of_faults(make_job({"faults": faults}).faults, 5)
    assert lines == [
        "faults: 10 % of all messages are lost, on_missing: skip",
        "faults: messages lost by name: 1, on_missing: skip",
        "faults: away in some rounds: node 1",
    ]
    assert of_faults(None, 5) == []


def test_what_is_to_go_wrong_after_the_last_round_is_said(make_job: MakeJob) -> None:
    faults = {"lost": [[4, 1, 2], [5, 1, 2]], "absent": {"1": [[0, 1], [7, None]]}}
    lines = of_faults(make_job({"faults": faults}).faults, 5)
    assert lines[-1] == "faults: after the last of 5 rounds, and so never: 2"


def test_absence_by_faults_is_that_of_churn(make_job: MakeJob, host: Callable[..., Any]) -> None:
    regular = {"name": "regular", "degree": 4}
    away = {"absent": AWAY["absent"]}
    faulty, _ = host(make_job({"topology": regular, "faults": away}))
    churned, _ = host(make_job({"topology": {"name": "churn", "topology": regular, **away}}))
    assert torch.equal(faulty.rows, churned.rows)


@pytest.mark.parametrize("around", [None, "skiptrain", "local_sgd"])
def test_choco_refuses_losses_and_says_why(make_job: MakeJob, around: str | None) -> None:
    algorithm: dict[str, Any] = {"name": "choco"}
    if around:
        algorithm = {"name": around, "algorithm": algorithm}
    with pytest.raises(ConfigError, match="public copies") as caught:
        make_job({"algorithm": algorithm, "faults": LOSS})
    assert caught.value.field == "faults.loss"
    assert "on_missing: wait" in caught.value.fix
    with pytest.raises(ConfigError) as caught:
        make_job({"algorithm": algorithm, "faults": {"lost": [[0, 1, 2]], "on_missing": "self"}})
    assert caught.value.field == "faults.lost"


def test_choco_waits_for_what_is_sent_again(make_job: MakeJob, host: Callable[..., Any]) -> None:
    faults = {"loss": 0.2, "on_missing": "wait"}
    whole, _ = host(make_job({"algorithm": "choco", "faults": faults}))
    clean, _ = host(make_job({"algorithm": "choco"}))
    assert torch.equal(whole.rows, clean.rows)
    assert int(whole.state["messages_resent"].sum()) > 0


def test_who_does_not_use_the_topology_cannot_have_nodes_away(make_job: MakeJob) -> None:
    with pytest.raises(ConfigError, match="does not use the topology") as caught:
        make_job({"algorithm": "el_local", "faults": {"absent": {"1": [[0, 1]]}}})
    assert caught.value.field == "faults.absent"


def left(path: Path) -> tuple[torch.Tensor, list[Any], list[Any]]:
    """(models, figures of the nodes, the messages that were lost) of a run."""
    run = hansa.open_run(path).trained()
    table = run.folder.metrics().filter(polars.col("node").is_not_null())
    figures = table.sort("round", "name", "node").drop("time").rows()
    events = [event for event in run.folder.events() if event["kind"] == "missing"]
    lost = [
        (event["round"], event["of"], event["exchange"], event["outcome"], pair)
        for event in events
        for pair in zip(event["senders"], event["receivers"], strict=True)
    ]
    return run.block.models()[1], figures, sorted(lost)


@pytest.mark.parametrize(
    "name", ["dpsgd", "jwins", pytest.param("skiptrain", marks=pytest.mark.slow)]
)
def test_a_lossy_run_is_the_same_in_processes_and_again_from_its_events(
    tmp_path: Path, small: Callable[..., dict[str, Any]], name: str
) -> None:
    """Through the run file, with nodes that are away besides."""
    changes = settings(name, {"loss": 0.15, "absent": {"2": [[1, 2]]}}, rounds=3)
    run = small({**changes, "checkpoint": {"every": 3}})
    hansa.run(run, tmp_path / "one", report=False)
    apart = {**run, "runtime": {"name": "processes", "workers": 2}}
    hansa.run(apart, tmp_path / "apart", report=False)
    one, two = left(tmp_path / "one"), left(tmp_path / "apart")
    assert torch.equal(one[0], two[0])
    assert one[1] == two[1]
    assert one[1]
    assert one[2] == two[2]
    assert one[2]
    again = hansa.run(replay_of(tmp_path / "apart"), tmp_path / "again", report=False)
    assert again.summary is not None
    assert again.summary["equal"] is True
    assert again.summary["compared"]["models"] == len(one[0])
    assert left(tmp_path / "again")[2] == one[2]


def test_a_resumed_run_loses_the_same_messages(
    tmp_path: Path, small: Callable[..., dict[str, Any]]
) -> None:
    run = small({**settings("dpsgd", LOSS, rounds=4), "checkpoint": {"every": 2}})
    hansa.run(run, tmp_path / "whole", report=False)
    hansa.run({**run, "rounds": 2}, tmp_path / "parts", report=False)
    hansa.resume(tmp_path / "parts", {"rounds": 4}, report=False)
    whole, parts = (left(tmp_path / name) for name in ("whole", "parts"))
    assert torch.equal(whole[0], parts[0])
    assert whole[2] == parts[2]
    blocks = [hansa.open_run(tmp_path / name).trained().block for name in ("whole", "parts")]
    assert torch.equal(*(block.state["messages_missing"] for block in blocks))
