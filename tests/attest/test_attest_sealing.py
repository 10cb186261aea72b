"""Sealed checkpoints: what opens, what does not, and what is refused when a run is resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.attest.sealing import CHAIN, Sealing, run_of
from hansa.base.errors import CheckpointError, ConfigError
from hansa.engine.runtimes.checkpoint import MANIFEST, sealed
from hansa.experiment.run import resume, run
from hansa.experiment.runfile import RunFile

from .attested_runs import run_file

KEY, ABOUT = bytes(range(32)), {"round": 3, "nodes": [0, 1]}


@given(data=st.binary(max_size=300), at=st.integers(0), change=st.integers(1, 255))
def test_what_was_sealed_opens_and_nothing_else(data: bytes, at: int, change: int) -> None:
    sealing = Sealing(KEY, "run")
    whole = sealing.seal(data, ABOUT)
    assert sealing.open(whole, ABOUT) == data
    assert data not in whole or len(data) < 8
    damaged = bytearray(whole)
    damaged[at % len(whole)] ^= change
    for other in (bytes(damaged), whole[: at % len(whole)], whole + b"x"):
        with pytest.raises(CheckpointError):
            sealing.open(other, ABOUT)


def test_pieces_of_a_long_part_are_in_order_and_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.attest.sealing._PIECE", 100)
    sealing = Sealing(KEY, "run")
    data = bytes(range(250))
    whole = sealing.seal(data, ABOUT)
    assert sealing.open(whole, ABOUT) == data
    head = len(whole) - 250 - 3 * 16
    first, second, third = whole[head : head + 116], whole[head + 116 : head + 232], whole[-66:]
    for body in (second + first + third, first + second, first + third, first * 2 + third):
        with pytest.raises(CheckpointError):
            sealing.open(whole[:head] + body, ABOUT)


@pytest.mark.parametrize(
    ("sealing", "about"),
    [
        (Sealing(KEY[::-1], "run"), ABOUT),
        (Sealing(KEY, "another"), ABOUT),
        (Sealing(KEY, "run"), {**ABOUT, "round": 2}),
        (Sealing(KEY, "run"), {**ABOUT, "nodes": [2, 3]}),
    ],
)
def test_a_part_of_another_key_run_round_or_node_does_not_open(
    sealing: Sealing, about: dict[str, Any]
) -> None:
    whole = Sealing(KEY, "run").seal(b"models", ABOUT)
    with pytest.raises(CheckpointError, match="altered or moved"):
        sealing.open(whole, about)


def chained(root: Path, sealing: Sealing, rounds: int) -> list[dict[str, Any]]:
    """Facts of so many checkpoints, each linked to the one before."""
    made = []
    for done in range(1, rounds + 1):
        facts: dict[str, Any] = {"round": done, "files": [], "so_far": {"best": 0.1 * done}}
        facts["chain"] = sealing.link(root, facts)
        sealing.linked(root, {**facts["chain"], "round": done})
        made.append(facts)
    return made


def test_the_newest_is_taken_and_an_older_one_is_not(tmp_path: Path) -> None:
    sealing = Sealing(KEY, run_of(tmp_path))
    first, second, third = chained(tmp_path, sealing, 3)
    sealing.check(tmp_path / "round-000003", third)
    with pytest.raises(CheckpointError, match="rolled back: checkpoint 2 of round 3"):
        sealing.check(tmp_path / "round-000001", first)
    for change in ({"round": 9}, {"so_far": {"best": 9.0}}, {"files": [{"file": "x"}]}):
        with pytest.raises(CheckpointError, match="altered"):
            sealing.check(tmp_path / "round-000003", third | change)
    with pytest.raises(CheckpointError, match="altered"):
        sealing.check(tmp_path / "round-000003", third | {"chain": second["chain"]})
    with pytest.raises(CheckpointError, match="no link"):
        sealing.check(tmp_path / "round-000003", {"round": 3, "files": []})
    with pytest.raises(CheckpointError, match="altered"):
        Sealing(KEY, "0" * 32).check(tmp_path / "round-000003", third)
    (tmp_path / CHAIN).unlink()
    with pytest.raises(CheckpointError, match="is gone"):
        sealing.check(tmp_path / "round-000003", third)


def test_one_that_was_killed_between_a_checkpoint_and_its_note_goes_on(tmp_path: Path) -> None:
    sealing = Sealing(KEY, run_of(tmp_path))
    chained(tmp_path, sealing, 1)
    facts: dict[str, Any] = {"round": 2, "files": []}
    facts["chain"] = sealing.link(tmp_path, facts)
    sealing.check(tmp_path / "round-000002", facts)  # and notes it
    assert json.loads((tmp_path / CHAIN).read_text())["round"] == 2
    sealing.check(tmp_path / "round-000002", facts)


def test_a_chain_that_was_altered_is_refused(tmp_path: Path) -> None:
    sealing = Sealing(KEY, run_of(tmp_path))
    first, _ = chained(tmp_path, sealing, 2)
    chain = json.loads((tmp_path / CHAIN).read_text())
    head = first["chain"]["tag"]
    (tmp_path / CHAIN).write_text(json.dumps(chain | {"number": 0, "round": 1, "head": head}))
    with pytest.raises(CheckpointError, match="altered"):
        sealing.check(tmp_path / "round-000001", first)
    (tmp_path / CHAIN).write_text("[]")
    with pytest.raises(CheckpointError, match="no chain"):
        run_of(tmp_path)


# A run


@pytest.fixture
def simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")


def sealing_run(folder: Path) -> RunFile:
    """Of four nodes in two processes, checkpointed in every round."""
    settings = RunFile.load(run_file(folder, checkpoint={"every": 1, "keep": 3}))
    channel = settings.runtime.channel.model_copy(update={"seal": True})
    runtime = settings.runtime.model_copy(update={"channel": channel})
    return settings.model_copy(update={"runtime": runtime})


@pytest.mark.slow
@pytest.mark.usefixtures("simulating")
def test_a_sealed_run_is_resumed_to_the_bit_and_from_nothing_but_its_newest_checkpoint(
    tmp_path: Path,
) -> None:
    settings = sealing_run(tmp_path)
    whole = run(settings.model_copy(update={"rounds": 4}), tmp_path / "whole", report=False)
    half = run(settings, tmp_path / "half", report=False)
    for file in half.path.rglob("nodes-*.safetensors"):
        assert file.read_bytes().startswith(b"HANSA-SEALED-1\n")
        assert b"F32" not in file.read_bytes()[:4000]
    newest = sealed(half.path / "checkpoints")[-1]

    def attempt(damage: Callable[[Path], object], says: str) -> None:
        copy = tmp_path / "attacked"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(half.path, copy)
        damage(copy / "checkpoints")
        with pytest.raises((CheckpointError, ConfigError), match=says):
            resume(copy, {"rounds": 4}, report=False)

    def spliced(root: Path) -> None:
        """A part of the round before, and a manifest that says so."""
        new, old = root / newest.name, sealed(root)[-2]
        facts = json.loads((new / MANIFEST).read_text())
        before = json.loads((old / MANIFEST).read_text())
        shutil.copyfile(old / facts["files"][0]["file"], new / facts["files"][0]["file"])
        facts["files"][0] = before["files"][0]
        (new / MANIFEST).write_text(json.dumps(facts))

    attempt(lambda root: shutil.rmtree(root / newest.name), "rolled back")
    attempt(spliced, "altered")
    attempt(lambda root: (root / CHAIN).unlink(), "another run|is gone|altered")
    resume(half.path, {"rounds": 4}, report=False)
    assert half.summary["final"] == whole.summary["final"]
