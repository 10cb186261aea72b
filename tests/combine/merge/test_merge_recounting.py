"""Merges of models with batch normalization, from the command to the statistics in a cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from hansa.base.errors import ConfigError
from hansa.cli.app import app
from hansa.combine.merge.batch_norm import reestimate
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.recounting import Recounting

CODE = """
import torch
from torch import nn

def module():
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))

def score(task, model):
    return min(1.0, float(model[3].weight.detach().norm()) / 20)  # noise makes it grow
"""


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A base and three models, each with statistics of its own, inputs, and a file of the merge."""
    (tmp_path / "own.py").write_text(CODE)
    torch.manual_seed(0)
    base = network()
    inputs = torch.randn(150, 5) * 2 + 1
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    for number in range(4):
        model = network()
        model.load_state_dict(base.state_dict())
        if number:
            for value in model.parameters():
                value.data += torch.randn_like(value) * 0.3
            reestimate(model, [inputs * number])
        save_file(model.state_dict(), tmp_path / f"m{number}.safetensors")
    settings = {
        "verb": "merge",
        "tasks": {
            "name": "own",
            "base": "m0.safetensors",
            "models": {f"t{n}": f"m{n}.safetensors" for n in (1, 2, 3)},
            "score": "own.py:score",
            "module": "own.py:module",
        },
        "algorithms": ["averaging"],
        "sizes": [1, 3],
        "least_gain": 0,
        "keep": True,
    }
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def run(*line: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["combine", *line, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_without_inputs_such_models_are_refused_before_anything_is_made(place: Path) -> None:
    status, said = run("merge", str(place / "merge.yaml"), "--out", str(place / "run"))
    assert status == 2
    assert "--rebn DATA" in json.dumps(said)
    assert not (place / "run").exists()


def test_statistics_are_those_of_the_merged_weights(place: Path) -> None:
    inputs = str(place / "inputs.npy")
    whole = ("merge", str(place / "merge.yaml"), "--rebn", inputs, "--out", str(place / "run"))
    status, said = run(*whole, "--no-report")
    assert status == 0, said
    least, most = said["final"]["curve"]
    assert most["size"] == 3
    # Before they are counted anew, each model's statistics are its own; then they are the same.
    assert least["reached"] == pytest.approx(1, abs=1e-9)
    files = {1: f"averaging-{least['size']:g}x.safetensors", 3: "averaging-3x.safetensors"}
    cuts = {size: MergedModels.open(place / "run/cuts" / file) for size, file in files.items()}
    models = {n: load_file(place / f"m{n}.safetensors") for n in range(4)}
    for number in (1, 2, 3):  # at the size of all, each is what it was, bit for bit
        state = cuts[3].state_dict(f"t{number}")
        assert all(torch.equal(state[name], value) for name, value in models[number].items())
    expected = network()
    mean = {n: sum(models[k][n].double() for k in (1, 2, 3)) / 3 for n in models[0]}
    expected.load_state_dict(mean)
    data = torch.from_numpy(np.load(inputs))
    reestimate(expected, data.tensor_split(1))
    for task in ("t1", "t2", "t3"):
        state = cuts[1].state_dict(task)
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(state[name].double(), value.double(), rtol=1e-4, atol=1e-5)
        averaged = mean["1.running_var"].float()
        assert not torch.allclose(state["1.running_var"], averaged, rtol=0.05)
    status, one = run(
        *("cut", str(place / "run"), "--size", "1.4", "--task", "t2"),
        *("--out", str(place / "one.safetensors")),
    )
    assert status == 0, one
    alone = load_file(one["path"])
    same = cuts[1].state_dict("t2")
    assert all(torch.equal(alone[name], same[name]) for name in same)
    status, again = run("cut", str(place / "run"), "--size", "1.4", "--out", str(place / "again"))
    assert status == 0, again
    assert again["bytes"] == (place / "again").stat().st_size
    assert (place / "again").read_bytes() == (place / "run/cuts" / files[1]).read_bytes()


def test_inputs_and_modules_of_another_form_are_refused(place: Path) -> None:
    state = load_file(place / "m0.safetensors")
    np.save(place / "wide.npy", np.zeros((4, 7)))
    for data, make, named in (
        ("wide.npy", network, "no inputs of the models of t1"),
        ("inputs.npy", lambda: nn.Sequential(nn.Linear(4, 6)), "not of the models' form"),
    ):
        with pytest.raises(ConfigError, match=named):
            Recounting.load(place / data, ["t1"], make).counted("t1", state)


def test_models_that_share_what_was_equal_before_stay_what_they_were(place: Path) -> None:
    base = load_file(place / "m0.safetensors")
    for number in (1, 2, 3):  # a first layer that nobody has trained
        file = place / f"m{number}.safetensors"
        save_file({**load_file(file), "0.weight": base["0.weight"] * 1.0}, file)
    whole = ("merge", str(place / "merge.yaml"), "--rebn", str(place / "inputs.npy"), "--size", "9")
    status, said = run(*whole, "--out", str(place / "run"))
    assert status == 2, said
    one = (*whole[:-1], "1", "--no-report", "--out", str(place / "one"))
    status, said = run(*one)  # what each keeps for itself does not put one model out of reach
    assert status == 0, said
    whole = (*whole[:-1], "3")
    status, said = run(*whole, "--no-report", "--out", str(place / "run"))
    assert status == 0, said
    (file,) = (place / "run" / "cuts").glob("*.safetensors")
    models = MergedModels.open(file)
    for number in (1, 2, 3):
        state = models.state_dict(f"t{number}")
        before = load_file(place / f"m{number}.safetensors")
        assert all(torch.equal(state[name], value) for name, value in before.items())
