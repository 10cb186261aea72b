"""How a run ends: why, with which models, and what a checkpoint keeps of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hansa
from hansa.base.errors import ConfigError, OwnCodeError
from hansa.engine import Block, Ending, Job, Outcome, Script, read_manifest
from hansa.engine.runtimes.checkpoint import load_block, save_block, seal
from hansa.experiment.trained import open_trained, settings_of
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.models import ParameterLayout

N = 8


class Tires(DPSGD):
    """D-PSGD that has enough after some rounds and comes to the even nodes' models, doubled."""

    enough: int = 2
    says: Any = "all are tired"

    def round(self, block: Block, t: int) -> Script:
        yield from super().round(block, t)
        return self.says if t + 1 == self.enough else None

    def finish(self, block: Block, t: int) -> Ending:
        yield from ()
        even = block.ids[block.ids % 2 == 0]
        at = torch.from_numpy(block.positions(even))
        return Outcome(even, 2 * block.rows[at], "merged")


def tires(make_job: Callable[..., Job], **settings_: Any) -> Job:
    job = make_job({"rounds": 5})
    return replace(job, algorithm=Tires(**settings_))


def test_a_text_ends_the_run_and_nothing_goes_on(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    block, reports = host(tires(make_job))
    assert len(reports) == 2
    assert [report["outcome"] for report in reports] == [
        None,
        {"which": "merged", "reason": "all are tired"},
    ]
    at, rows = block.models()
    assert at.tolist() == [0, 2, 4, 6]
    assert torch.equal(rows, 2 * block.rows[::2])
    whole, reports = host(tires(make_job, enough=9))
    assert len(reports) == 5
    assert whole.outcome.reason == ""
    assert whole.outcome.which == "merged"


@pytest.mark.parametrize("says", [7, "", True])
def test_what_is_no_reason_is_refused(
    make_job: Callable[..., Job], host: Callable[..., Any], says: Any
) -> None:
    with pytest.raises(OwnCodeError, match="its round returns"):
        host(tires(make_job, says=says))


def test_without_an_outcome_the_models_are_the_residents(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    block, _ = host(make_job({"rounds": 1}))
    at, rows = block.models()
    assert at.tolist() == list(range(N))
    assert rows is block.rows
    assert block.outcome == Outcome()


def parts_of(cuts: list[int]) -> list[np.ndarray]:
    return [part for part in np.split(np.arange(N), sorted(cuts)) if len(part)]


@settings(max_examples=15, deadline=None)
@given(
    saved=st.lists(st.integers(1, N - 1), max_size=3),
    loaded=st.lists(st.integers(1, N - 1), max_size=3),
    owners=st.sets(st.integers(0, N - 1)),
)
def test_any_split_reads_the_outcome_that_any_other_wrote(
    make_job: Callable[..., Job],
    tmp_path_factory: pytest.TempPathFactory,
    saved: list[int],
    loaded: list[int],
    owners: set[int],
) -> None:
    root, job = tmp_path_factory.mktemp("outcome"), make_job({})
    size = ParameterLayout.of(job.module).size
    rows = torch.arange(N, dtype=torch.float32).unsqueeze(1).repeat(1, size)
    entries = []
    for ids in parts_of(saved):
        block = job.block(ids)
        mine = np.array(sorted(owners & set(ids.tolist())), dtype=np.int64)
        block.outcome = Outcome(mine, rows[torch.from_numpy(mine)], "best", "why not")
        entries.append(save_block(block, root, 3))
        block.trainer.close()
    seal(root, 3, entries, keep=1)
    for ids in parts_of(loaded):
        block = job.block(ids)
        load_block(block, root / "round-000003", read_manifest(root / "round-000003"))
        assert block.outcome is not None
        assert block.outcome.facts() == {"which": "best", "reason": "why not"}
        at, models = block.models()
        assert block.ids[at].tolist() == sorted(owners & set(ids.tolist()))
        assert torch.equal(models, rows[torch.from_numpy(block.ids[at])])
        block.trainer.close()


def test_a_stopped_run_says_why_and_opens_with_its_models(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rule = {"window": 1, "patience": 1, "min_delta": 10.0}
    changes = {
        "rounds": 9,
        "algorithm": {"name": "fedavg", "stop": rule, "select": "best"},
        "evaluate": {"every": 1, "local_validation": 0.2},
        "checkpoint": {"every": 9},
    }
    folder = hansa.run(small(changes), tmp_path / "run", report=False)
    assert folder.summary is not None
    assert folder.summary["rounds"] < 9
    assert folder.summary["ended"] == "the clients' validation loss no longer falls"
    run = open_trained(folder, settings_of(folder))
    assert run.block.outcome is not None
    assert run.block.outcome.which == "best"
    row = ParameterLayout.of(run.job.module).flatten(run.module())
    assert torch.equal(row, run.block.models()[1][0])


def test_a_finished_run_without_an_outcome_is_refused(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Nobody takes the last models for the best ones."""
    folder = hansa.run(small({"rounds": 1, "checkpoint": {"every": 1}}), tmp_path, report=False)
    assert open_trained(folder, settings_of(folder)).block.outcome == Outcome()
    manifest = tmp_path / "checkpoints" / "round-000001" / "manifest.json"
    facts = json.loads(manifest.read_text())
    for entry in facts["files"]:
        entry["outcome"] = None
    manifest.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="does not say what the run came to"):
        open_trained(folder, settings_of(folder))


def test_a_longer_run_goes_on_from_the_models_and_ends_anew(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    best = {"algorithm": {"name": "fedavg", "select": "best"}, "checkpoint": {"every": 2}}
    changes = {**best, "evaluate": {"every": 1, "local_validation": 0.2}}
    hansa.run(small({**changes, "rounds": 2}), tmp_path / "short", report=False)
    hansa.resume(tmp_path / "short", {"rounds": 4}, report=False)
    hansa.run(small({**changes, "rounds": 4}), tmp_path / "whole", report=False)
    folders = [hansa.RunFolder.open(tmp_path / name) for name in ("short", "whole")]
    runs = [open_trained(folder, settings_of(folder)) for folder in folders]
    assert torch.equal(*(run.block.models()[1] for run in runs))
