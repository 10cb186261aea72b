"""Real processes whose links are attested: killed, started again, of another policy, and equal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hansa.attest.simulation import SimulatedRoot
from hansa.engine.runtimes.strikes import Strike
from hansa.experiment import RunFile
from hansa.experiment.run import run
from hansa.experiment.sites.site_file import SiteFile
from hansa.report import RunFolder

from ..experiment.sites import GATED, models_of, sites
from .attested_runs import run_file
from .attested_sites import HARDWARE, POLICY, policy_at

RUN: dict[str, Any] = {
    "nodes": 4, "rounds": 3, "topology": {"name": "regular", "degree": 2},
    "evaluate": {"every": 3},
}  # fmt: skip


@pytest.fixture(autouse=True)
def simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")


def simulate_here() -> None:
    """What a user would write before the command."""
    os.environ["HANSA_SIMULATED_TEE"] = "1"


def attested(folder: Path, policy: str = POLICY, name: str = "policy.yaml") -> dict[str, Any]:
    """The channel of a site that simulates with the root in the folder."""
    root = folder / "root"
    if not root.exists():
        SimulatedRoot.generate().save(root)
    attester = {"name": "simulated", "root": str(root)}
    file = policy_at(folder, policy, name)
    return {"name": "attested", "policy": str(file), "attester": attester}


@pytest.mark.slow
def test_four_sites_come_to_the_models_of_a_simulation(tmp_path: Path) -> None:
    channel = attested(tmp_path)
    with sites(tmp_path, RUN, [[0], [1], [2], [3]], lambda k: {"channel": channel}) as made:
        made.start(before=simulate_here)
        made.finish()
        folders = [RunFolder.open(made.out(k)) for k in range(4)]
        for k, folder in enumerate(folders):
            assert folder.summary["tee"] == "simulated"
            assert "[tee: simulated]" in made.said(k)
            (overhead,) = [event for event in folder.events() if event["kind"] == "overhead"]
            assert overhead["causes"]["vouch"] > 1000
    settings = RunFile.parse(RUN)
    plain = run(settings, tmp_path / "plain", report=False)
    ours = models_of([folder.path for folder in folders], settings)
    assert torch.equal(ours, models_of([plain.path], settings))


@pytest.mark.slow
def test_a_site_of_another_policy_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    def each(k: int) -> dict[str, Any]:
        odd = POLICY + "vmpl: 1\n"
        channel = attested(tmp_path, odd, "odd.yaml") if k == 2 else attested(tmp_path)
        return {"channel": channel, "least": 2, "patience": {"start": 15.0, "peer": 60.0}}

    run_settings = {**RUN, "nodes": 3, "faults": None}
    with sites(tmp_path, run_settings, [[0], [1], [2]], each) as made:
        made.start(before=simulate_here)
        assert made.status(2) != 0
        assert "polic" in made.said(2)
        assert made.status(0) == made.status(1) == 0, made.said(0)
        assert RunFolder.open(made.out(0)).summary["status"] == "finished"


@pytest.mark.slow
def test_a_site_that_is_killed_and_started_again_is_attested_anew(tmp_path: Path) -> None:
    (tmp_path / "gated.py").write_text(GATED)
    settings = {
        **RUN, "nodes": 3, "rounds": 8, "plugins": [str(tmp_path / "gated.py")],
        "algorithm": {"name": "gated", "gate": str(tmp_path / "go")},
    }  # fmt: skip
    channel = attested(tmp_path)
    with sites(tmp_path, settings, [[0], [1], [2]], lambda k: {"channel": channel}) as made:
        made.start(before=simulate_here)
        made.at_gate(1)
        process = made.processes[1]
        assert process is not None
        process.kill()
        process.join()
        made.start(1, before=simulate_here)
        (tmp_path / "go").touch()
        made.finish()
        events = RunFolder.open(made.out(1)).events()
        assert [event for event in events if event["kind"] == "rejoined"]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_with_a_key_and_evidence_of_its_own(
    tmp_path: Path,
) -> None:
    settings = RunFile.load(run_file(tmp_path, rounds=30, checkpoint={"every": 2}))
    changes = {"on_crash": "restart", "workers": 4}
    runtime = settings.runtime.model_copy(update=changes)
    slow = [Strike(k, t, "training", "slow", 0.1) for k in (0, 2, 3) for t in range(30)]
    strikes = (Strike(1, 2, "training", "crash"), *slow)
    object.__setattr__(runtime, "_strikes", strikes)
    chosen = settings.model_copy(update={"runtime": runtime})
    folder = run(chosen, tmp_path / "out", report=False)
    kinds = [event["kind"] for event in folder.events()]
    assert "worker lost" in kinds
    assert "rejoined" in kinds
    assert folder.summary["status"] == "finished"


@pytest.mark.slow
def test_evidence_is_shown_anew_every_round(tmp_path: Path) -> None:
    once = run(run_file(tmp_path, rounds=8), tmp_path / "once", report=False)
    settings = RunFile.load(tmp_path / "run.yaml")
    channel = settings.runtime.channel.model_copy(
        update={"reattest": type(settings.runtime.channel.reattest)(rounds=1)}
    )
    runtime = settings.runtime.model_copy(update={"channel": channel})
    often = run(settings.model_copy(update={"runtime": runtime}), tmp_path / "often", report=False)

    def vouched(folder: RunFolder) -> int:
        (event,) = [event for event in folder.events() if event["kind"] == "overhead"]
        return int(event["vouch"])

    assert vouched(often) > 2 * vouched(once)
    assert often.summary["final"] == once.summary["final"]


def test_a_site_file_whose_channel_cannot_work_is_refused(tmp_path: Path) -> None:
    channel = attested(tmp_path, HARDWARE)
    with sites(tmp_path, RUN, [[0, 1], [2, 3]], lambda k: {"channel": channel}) as made:
        with pytest.raises(Exception, match=r"channel\.policy.*takes no simulated evidence"):
            SiteFile.load(made.file(0))
        made.change(0, channel="secret")
        with pytest.raises(Exception, match="sites have keys"):
            SiteFile.load(made.file(0))
