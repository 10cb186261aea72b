"""Parties have a plan and their own holding, and come to what they come to together."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import CheckpointError, ConfigError, WireError
from hansa.engine import Job
from hansa.engine.holding import NotHeld
from hansa.engine.plan import Plan
from hansa.engine.roster import NotTold, Roster
from hansa.engine.runtimes.dealing import (
    FOLDER,
    deal,
    party,
    remove_dealt,
)
from hansa.engine.runtimes.own_secrets import SECRETS, own_secrets
from hansa.engine.runtimes.plan_file import read_plan
from hansa.engine.runtimes.runtime import split_nodes
from hansa.experiment import resume, run

MARKED = {"name": "canaries", "clients": [1, 4], "count": 2}
JOBS: dict[str, dict[str, Any]] = {
    "peers": {"algorithm": "jwins"},
    "servers": {"algorithm": "fedavg", "clock": {"name": "modelled", "spread": 0.5}},
    "held": {
        "algorithm": {"name": "fedavg", "stop": {"patience": 1, "window": 1}},
        "evaluate": {"every": 1, "local_validation": 0.2},
    },
    "splits": {"algorithm": "dpsgd", "data": {"name": "digits", "validation": 0.1, "public": 0.1}},
    "attacked": {"algorithm": "dpsgd", "attack": {"name": "sign_flip", "nodes": [1]}},
    "marked": {"algorithm": "fedavg", "data": {"name": "digits", "markers": [MARKED]}},
}


@pytest.mark.parametrize("name", JOBS)
def test_whoever_holds_all_ends_where_the_job_itself_does(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    job = make_job(JOBS[name])
    deal(tmp_path, job, [np.arange(job.nodes)])
    same = party(tmp_path, 0)
    same.joined = same.gathered([same.tells()])
    assert (job.attackers is not None) == (name == "attacked") == (same.attackers is not None)
    assert len(same.held) == len(job.held)
    ours, theirs = host(same), host(job)
    assert torch.equal(ours[0].rows, theirs[0].rows)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert mine["events"] == other["events"]
        for key, value in other["values"].items():
            assert np.array_equal(mine["values"][key], value, equal_nan=True), key
        for key, value in other["counters"].items():
            assert np.array_equal(mine["counters"][key], value, equal_nan=True), key


@pytest.mark.parametrize("name", JOBS)
def test_a_party_has_its_own_examples_and_no_others(
    make_job: Callable[..., Job], tmp_path: Path, name: str
) -> None:
    job = make_job(JOBS[name])
    groups = split_nodes(job.nodes, 3, job.servers)
    deal(tmp_path, job, groups)
    parties = [party(tmp_path, k) for k in range(3)]
    tells = [one.tells() for one in parties]
    for one, ids in zip(parties, groups, strict=True):
        mine = [int(i) for i in ids if i < job.network.clients]
        for attribute in ("parts", "held"):
            whole, own = getattr(job, attribute), getattr(one, attribute)
            for client in range(job.network.clients) if len(whole) else ():
                if client not in mine:
                    with pytest.raises(NotHeld, match=f"client {client} are not held here"):
                        own[client]
                    continue
                theirs = job.dataset.gather(job.dataset.train, torch.from_numpy(whole[client]))
                ours = one.dataset.gather(one.dataset.train, torch.from_numpy(own[client]))
                assert all(map(torch.equal, ours, theirs))
        groups_here = [job.parts, job.held] if len(job.held) else [job.parts]
        assert len(one.dataset.train) == sum(len(g[c]) for g in groups_here for c in mine)
        for full, some in zip(job.dataset.planted, one.dataset.planted, strict=True):
            assert (some.client, some.marker) == (full.client, full.marker)
            index = some.index if full.client in mine else full.index[:0]
            labels = one.dataset.train.targets[torch.from_numpy(index)]
            assert labels.tolist() == some.labels.tolist()
            assert (full.labels.tolist() if full.client in mine else []) == some.labels.tolist()
        one.joined = one.gathered(tells)
        for what, value in job.roster.arrays.items():
            assert np.array_equal(one.joined.arrays[what], value), what
        assert one.joined.nbytes == job.roster.nbytes
        for ours, theirs in zip(one.dataset.limits, job.dataset.limits, strict=True):
            assert torch.equal(ours, theirs)


def test_a_plan_has_nobodys_examples(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job(JOBS["splits"])
    deal(tmp_path, job, [np.arange(job.nodes)])
    plan = read_plan(tmp_path / FOLDER)
    assert len(plan.dataset.train) == 0
    assert type(plan) is Plan
    for split in ("test", "validation", "public"):
        ours, theirs = getattr(plan.dataset, split), getattr(job.dataset, split)
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)


def test_what_is_dealt_is_private_and_goes(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job()
    deal(tmp_path, job, split_nodes(job.nodes, 2))
    folder = tmp_path / FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    deal(tmp_path, job, split_nodes(job.nodes, 4))  # others than before, and more of them
    assert len(list(folder.iterdir())) == 5
    file = folder / "worker-1.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="corrupt"):
        party(tmp_path, 1)
    remove_dealt(tmp_path)
    assert not folder.exists()
    with pytest.raises(CheckpointError, match="missing"):
        party(tmp_path, 0)


def test_a_model_that_no_other_process_can_build_is_refused(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job()
    job.form = None
    with pytest.raises(ConfigError, match="object of this process"):
        deal(tmp_path, job, [np.arange(job.nodes)])


def test_no_part_of_a_plan_is_forgotten() -> None:
    """Threads and workers are each worker's own, and who gets a file has one owner, so that all
    agree; all else is in the file."""
    told = read_plan.__code__.co_consts + read_plan.__code__.co_names
    names = {word for part in told for word in (part if isinstance(part, tuple) else (part,))}
    assert {field.name for field in fields(Plan)} - names <= {"threads", "workers", "agrees"}


def test_what_was_not_told_is_not_in_the_roster(make_job: Callable[..., Job]) -> None:
    silent, sizes = make_job().roster, make_job({"algorithm": "fedavg"}).roster
    for attribute in ("sizes", "held", "labels"):
        with pytest.raises(NotTold, match=r"dpsgd asks .* must_tell = frozenset"):
            getattr(silent, attribute)
    assert (silent.told, silent.nbytes) == (frozenset(), 0)
    assert len(sizes.sizes) == 9  # the server has none
    with pytest.raises(NotTold, match="fedavg asks for the labels"):
        _ = sizes.labels
    assert sizes.event() == {"told": ["sizes"], "clients": 8, "bytes": 8 * 2 * 8}


def test_a_client_that_told_nothing_is_missed() -> None:
    said = {"clients": np.array([0, 2]), "sizes": np.array([3, 4])}
    with pytest.raises(NotTold, match="client 1"):
        Roster.of([said], 4, 3, frozenset({"sizes"}), "fedavg")


@pytest.mark.parametrize(
    "damage",
    [
        {"clients": np.array([0, 1])},
        {"clients": np.array([2, 2])},
        {"clients": np.array([2, -1])},
        {"clients": np.array([2, 9])},
        {"clients": None},
        {"sizes": np.array([3, -4])},
        {"sizes": np.array([3.0, 4.0])},
        {"sizes": np.array([3])},
        {"sizes": [3, 4]},
        {"labels": np.array([[3], [4]])},
    ],
    ids=str,
)
def test_a_party_tells_of_its_own_clients_and_what_it_is_asked(damage: dict[str, Any]) -> None:
    """Whatever another worker says of itself, nobody else's figures change by it."""
    first = {"clients": np.array([0]), "sizes": np.array([5])}
    second: dict[str, Any] = {"clients": np.array([1, 2]), "sizes": np.array([3, 4])}
    asked = frozenset({"sizes"})
    assert Roster.of([first, second], 3, 3, asked, "fedavg").sizes.tolist() == [5, 3, 4]
    with pytest.raises(WireError):
        Roster.of([first, {**second, **damage}], 3, 3, asked, "fedavg")


def test_workers_secrets_are_private_and_stay_until_the_run_ends(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job()
    secrets = own_secrets(tmp_path, 2)
    assert len(set(secrets)) == 2
    assert stat.S_IMODE((tmp_path / SECRETS).stat().st_mode) == 0o600
    assert own_secrets(tmp_path, 2) == secrets  # who resumes draws as before
    assert not set(own_secrets(tmp_path, 3)) & set(secrets)
    deal(tmp_path, job, split_nodes(job.nodes, 2), secrets)
    one, two = party(tmp_path, 0), party(tmp_path, 1)
    assert one.streams.private
    assert one.streams.integer("graph", 1) == two.streams.integer("graph", 1)
    draws = {streams.own.integer("batches", 1, 0) for streams in (one.streams, two.streams)}
    assert job.streams.own.integer("batches", 1, 0) not in draws
    assert len(draws) == 2
    for text in (repr(one), repr(one.holding(np.arange(4), secrets[0])), repr(one.plan)):
        assert secrets[0].hex() not in text
        assert repr(secrets[0]) not in text
    assert not one.plan.streams.private


def test_a_run_with_secrets_is_another_each_time_and_leaves_none(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    runtime = {"name": "processes", "workers": 2, "own_secrets": True, "deadline": 600}
    accuracies = []
    for name in ("one", "two"):
        settings = small({"rounds": 2, "runtime": runtime, "topology": {"name": "ring"}})
        folder = run(settings, tmp_path / name, report=False)
        accuracies.append(folder.summary["final"]["loss"])
        assert not {SECRETS, FOLDER} & {path.name for path in folder.path.iterdir()}
    assert accuracies[0] != accuracies[1]


def test_what_a_killed_run_left_goes_when_it_is_resumed(
    small: Callable[..., dict[str, Any]], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    settings = small({"rounds": 2, "checkpoint": {"every": 1}})
    folder = run(settings, tmp_path / "run", report=False).path
    deal(folder, make_job(), split_nodes(8, 2))  # as a coordinator leaves it that is killed
    own_secrets(folder, 2)
    resume(folder, {"rounds": 3}, report=False)
    assert not {SECRETS, FOLDER} & {path.name for path in folder.iterdir()}
