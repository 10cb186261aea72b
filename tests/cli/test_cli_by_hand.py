"""The scripts that do a method by hand: short, linear, and equal to the library to the last bit."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.pipeline import combine, prepare
from hansa.engine.runtimes.checkpoint import load_block, read_manifest
from hansa.ensemble.synthetic import SHELF
from hansa.experiment import run
from hansa.forget import Forgetting, Request
from hansa.forget.run import forget
from hansa.forget.trained import open_trained

EXAMPLES = Path(__file__).parents[2] / "examples"
SGD = {"name": "sgd", "lr": 0.05}
Script = Callable[..., dict[str, Any]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script of the examples with these options; returns what it leaves."""

    def go(name: str, *options: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *options])
        return runpy.run_path(str(EXAMPLES / f"{name}_by_hand.py"))

    return go


def final_rows(path: Path) -> torch.Tensor:
    """The models [n, D] of a run's last checkpoint."""
    (file,) = max((path / "checkpoints").glob("round-*")).glob("*.safetensors")
    return load_file(file)["rows"]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*_by_hand.py")), ids=lambda f: f.stem)
def test_a_stranger_reads_it_in_ten_minutes(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 180


def test_dpsgd(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = script("dpsgd", "--rounds=12")
    settings = {
        "seed": 1, "nodes": 16, "rounds": 12, "algorithm": "dpsgd",
        "data": {"name": "digits", "partition": {"name": "shards", "shards_per_node": 2}},
        "model": {"name": "mlp", "hidden": [64]}, "topology": {"name": "regular", "degree": 4},
        "train": {"local_steps": 5, "batch_size": 16, "optimizer": SGD, "strategy": "looped"},
    }  # fmt: skip
    folder = run(settings, tmp_path / "run", report=False)
    assert torch.equal(final_rows(folder.path), left["models"])
    final = (folder.summary or {})["final"]
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"accuracy {final['accuracy']:.3f} ± {final['accuracy_std']:.3f}" in said
    assert f"averaged model {final['accuracy_average_model']:.3f}" in said


def test_fedavg(script: Script, tmp_path: Path) -> None:
    left = script("fedavg", "--rounds=7")
    settings = {
        "seed": 1, "nodes": 50, "rounds": 7, "algorithm": {"name": "fedavg", "sampled": 10},
        "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
        "model": {"name": "mlp", "hidden": [64]},
        "train": {
            "local_epochs": 2, "batch_size": 16, "drop_last": False, "optimizer": SGD,
            "strategy": "looped",
        },
    }  # fmt: skip
    folder = run(settings, tmp_path / "run", report=False)
    assert torch.equal(final_rows(folder.path)[0], left["model"])
    final = (folder.summary or {})["final"]["accuracy"]
    assert left["accuracy"](left["model"]) == pytest.approx(final, rel=1e-6)


def test_fens(script: Script, tmp_path: Path) -> None:
    left = script("fens", "--epochs=5", "--rounds=20")
    plain = {"strategy": "looped"}
    settings = EnsembleFile.parse({
        "seed": 90, "clients": 10,
        "data": {
            "name": "digits",
            "partition": {"name": "dirichlet", "alpha": 0.05, "draw": "class", "min_samples": 10},
        },
        "models": [{"name": "mlp", "hidden": [64]}], "quantize": "none",
        "local": {"epochs": 5, "batch_size": 16, "optimizer": SGD, **plain},
        "rules": [{"name": "neural", "width": 4}], "choose": "neural",
        "aggregate": {"rounds": 20, **plain},
    })  # fmt: skip
    result = combine(prepare(settings), tmp_path, lambda text: None)
    for member, module in zip(result.members, left["members"], strict=True):
        same(member.module, module)
    same(result.kept.module, left["rule"])
    said = left["rule"](left["scores"](left["x"]))
    assert left["accuracy"](said) == pytest.approx(result.accuracy, rel=1e-6)


def same(module: nn.Module, other: nn.Module) -> None:
    """Both have the very same numbers."""
    mine, theirs = module.state_dict(), other.state_dict()
    assert len(mine) == len(theirs)
    for own, found in zip(mine.values(), theirs.values(), strict=True):
        assert torch.equal(own, found)


def test_quickdrop(script: Script, tmp_path: Path) -> None:
    left = script("quickdrop", "--rounds=3")
    folder = run({
        "seed": 1, "nodes": 10, "rounds": 3, "algorithm": "quickdrop",
        "data": {
            "name": "digits", "partition": {"name": "dirichlet", "alpha": 0.1, "draw": "class"},
        },
        "model": {"name": "mlp", "hidden": [1024]},
        "train": {
            "local_steps": 5, "batch_size": 32, "drop_last": False,
            "optimizer": {"name": "sgd", "lr": 0.1},
        },
    }, tmp_path / "run", report=False)  # fmt: skip
    assert torch.equal(final_rows(folder.path)[0], left["trained"])
    trained = open_trained(folder.path)
    assert trained.layout is not None
    nodes = trained.job.block(np.arange(trained.job.nodes))
    load_block(nodes, trained.checkpoint, read_manifest(trained.checkpoint))
    for client, row in zip(*nodes.shelves[SHELF].all(), strict=True):
        client = int(client)
        own = torch.cat(list(left["images"][client].values()))
        assert torch.equal(trained.layout.images(row, client), own)
    method = {
        "name": "quickdrop", "ascent": {"class_rounds": 3, "lr": 0.02},
        "recovery": {"rounds": 5, "steps": 2, "lr": 0.05},
    }  # fmt: skip
    forget(folder.path, Request.of([3], (), ()), Forgetting.resolve(method))
    assert torch.equal(open_trained(folder.path).row, left["model"])
