"""Compositions by their commands: each file can start, and nodes may live anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

FOLDER = Path(__file__).parents[2] / "examples" / "compositions"
READY = [
    file
    for file in sorted(FOLDER.glob("*.yaml"))
    if yaml.safe_load(file.read_text()).get("data", {}).get("name") == "digits"
]
"""Run files on data that hansa ships; the others' data are made first, or fetched."""
SHORT = "rounds=2 evaluate.every=2 train.strategy=looped"


@pytest.fixture(autouse=True)
def simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")


@pytest.mark.parametrize("file", READY, ids=lambda file: file.stem)
def test_a_composition_can_start(hansa, file: Path) -> None:
    said = hansa("check", str(file), "--json")
    assert said.status == 0, said.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "settings", "apart"),
    [
        ("skiptrain_jwins_links", "nodes=6", "runtime={name: processes, workers: 2}"),
        ("gel_cpfl_devices", "algorithm.distillation.epochs=1 nodes=24",
         "runtime={name: processes, workers: 2}"),
        ("cpfl_attested", "algorithm.distillation.epochs=1 nodes=8", "runtime.workers=2"),
    ],
)  # fmt: skip
def test_a_composition_is_the_same_wherever_its_nodes_live(
    hansa, tmp_path: Path, file: str, settings: str, apart: str
) -> None:
    models, answers = [], []
    pairs = [word for pair in f"{SHORT} {settings}".split() for word in ("--set", pair)]
    for k, runtime in enumerate(["runtime=simulate", apart]):
        words = ["learn", str(FOLDER / f"{file}.yaml"), "--out", f"run_{k}", "--no-report"]
        said = hansa(*words, *pairs, "--set", runtime, "--json")
        assert said.status == 0, said.err
        answers.append(said.object)
        which = [] if "cpfl" in file else ["--node", "1"]
        out = f"model_{k}.safetensors"
        assert hansa("export", f"run_{k}", "--out", out, *which, "--json").status == 0
        models.append(load_file(tmp_path / out))
    assert answers[0]["bytes_sent"] == answers[1]["bytes_sent"]
    assert answers[0]["faults"] == answers[1]["faults"]
    assert all((models[1][name] == numbers).all() for name, numbers in models[0].items())


def test_liars_of_an_ensemble_are_told(hansa) -> None:
    short = "local.epochs=1 aggregate.rounds=1 aggregate.every=1 data.train_samples=600"
    pairs = [word for pair in short.split() for word in ("--set", pair)]
    line = ("combine", "ensemble", str(FOLDER / "fens_attacked.yaml"), "--out", "run")
    said = hansa(*line, "--no-report", *pairs)
    assert said.status == 0, said.err
    assert "clients 0, 5, 10, 15 upload what sign_flip makes of their models" in said.err + said.out
