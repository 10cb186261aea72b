"""What is merged: models made here, brought along, and those of a run's nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hansa.base.errors import CheckpointError, ConfigError, OwnCodeError
from hansa.combine.merge.merge_tasks import MergeTasks
from hansa.combine.merge.tasks.digits_views import DigitsViews
from hansa.data.views import VIEWS
from hansa.experiment.run import run
from hansa.experiment.runfile import RunFile

SMALL = {
    "train": 400,
    "pretrain_epochs": 6,
    "epochs": 5,
    "batch_size": 32,
    "views": ["permuted", "loops"],
}


def silent(text: str) -> None:
    pass


def states(suite):
    return {
        name: load_file(path / "model.safetensors")
        for name, path in {"base": suite.base, **suite.models}.items()
    }


def test_views_move_pixels_and_rename_classes():
    x = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(10)
    for name, view in VIEWS.items():
        seen, called = view(x, y)
        assert seen.shape == x.shape
        assert torch.equal(seen.abs().flatten(1).sort().values, x.abs().flatten(1).sort().values)
        assert called.max() < 10
        again, _ = view(x, y)
        assert torch.equal(seen, again), name
    assert torch.equal(VIEWS["rot180"](x, y)[0], x.flip(2, 3))
    assert VIEWS["loops"](x, y)[1].tolist() == [1, 0, 0, 0, 1, 0, 1, 0, 2, 1]
    assert not torch.equal(VIEWS["permuted"](x, y)[0], VIEWS["permuted_2"](x, y)[0])


def test_models_are_made_once_and_are_the_seeds_own(tmp_path):
    tasks = MergeTasks.resolve({"name": "digits_views", **SMALL})
    suite = tasks.suite(3, tmp_path / "a", silent)
    first = states(suite)
    assert sum(t.numel() for t in first["base"].values()) == 26_432
    assert not any(name.startswith("classifier") for name in first["permuted"])
    assert json.loads((suite.base / "config.json").read_text())["model_type"] == "vit"
    said: list[str] = []
    (tmp_path / "a" / "loops" / "model.safetensors").unlink()  # as if killed before it was there
    again = states(tasks.suite(3, tmp_path / "a", said.append))
    assert said == ["fine-tuning to loops"]
    elsewhere = states(tasks.suite(3, tmp_path / "b", silent))
    for name, state in first.items():
        for key, tensor in state.items():
            assert torch.equal(again[name][key], tensor), (name, key)
            assert torch.equal(elsewhere[name][key], tensor), (name, key)
    quick = MergeTasks.resolve({"name": "digits_views", "pretrain_epochs": 1, "epochs": 1,
                                "views": ["mirror", "loops"], "train": 50})  # fmt: skip
    other = states(quick.suite(4, tmp_path / "c", silent))
    assert not torch.equal(other["base"]["layernorm.bias"], first["base"]["layernorm.bias"])
    assert suite.judge is not None
    tuned = suite.judge("permuted", first["permuted"], "test")
    assert 0.3 < suite.judge("permuted", first["base"], "test") < tuned <= 1
    assert suite.examples == {"permuted": 1247, "loops": 1247}
    del first["permuted"]["layernorm.bias"]
    with pytest.raises(CheckpointError, match="permuted"):
        suite.judge("permuted", first["permuted"], "test")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"views": ["mirror", "sideways"]}, "views"),
        ({"views": ["mirror", "mirror"]}, "views"),
        ({"train": 1600, "validation": 190}, "train"),
    ],
)
def test_views_that_cannot_be_are_refused(settings, field):
    with pytest.raises(ConfigError) as caught:
        DigitsViews.parse(settings).check()
    assert caught.value.field == field
    assert caught.value.fix


OWN = """
import torch

def score(task, model):
    if task == "broken":
        raise ValueError("no such data")
    if task == "wild":
        return 3.0
    weight = model["weight"] if isinstance(model, dict) else model.weight
    return float(weight.flatten()[0] > 0)

def make():
    return torch.nn.Linear(2, 1)

NUMBER = 4
"""


@pytest.fixture
def own(tmp_path: Path) -> dict:
    (tmp_path / "own.py").write_text(OWN)
    for name, value in {"base": 0.0, "a": 1.0, "b": -1.0}.items():
        (tmp_path / name).mkdir()
        save_file({"weight": torch.full((1, 2), value)}, tmp_path / name / "model.safetensors")
    models = {task: str(tmp_path / task) for task in ("a", "b")}
    return {"name": "own", "base": str(tmp_path / "base"), "models": models,
            "score": f"{tmp_path / 'own.py'}:score"}  # fmt: skip


@pytest.mark.parametrize("made", [False, True])
def test_own_models_are_judged_by_a_function(own, tmp_path, made):
    more = {"module": f"{tmp_path / 'own.py'}:make"} if made else {}
    tasks = MergeTasks.resolve({**own, **more})
    tasks.check()
    suite = tasks.suite(0, tmp_path / "unused", silent)
    assert not (tmp_path / "unused").exists()
    assert suite.tasks == ("a", "b")
    assert not tasks.validates
    assert suite.judge is not None
    held = states(suite)
    assert [suite.judge(k, held[k], "test") for k in suite.tasks] == [1.0, 0.0]
    with pytest.raises(ConfigError, match="gives 3 for wild"):
        suite.judge("wild", held["a"], "test")
    with pytest.raises(OwnCodeError, match=r"own\.py.*no such data"):
        suite.judge("broken", held["a"], "test")
    if made:
        with pytest.raises(ConfigError, match="has no other"):
            suite.judge("a", {"other": torch.ones(1)}, "test")
        with pytest.raises(ConfigError, match=r"tasks\.module"):
            suite.judge("a", {"weight": torch.ones(3)}, "test")


def test_what_is_not_there_is_refused_by_name(own, tmp_path):
    file = tmp_path / "own.py"
    for change, field in (
        ({"models": {"a": str(tmp_path / "a")}}, "tasks.models"),
        ({"models": {"a": str(tmp_path / "a"), "b": str(tmp_path / "c")}}, "tasks.models.b"),
        ({"base": str(tmp_path / "nowhere")}, "tasks.base"),
        ({"score": f"{file}:nothing"}, "tasks.score"),
        ({"score": f"{file}:NUMBER"}, "tasks.score"),
    ):
        with pytest.raises(ConfigError) as caught:
            MergeTasks.resolve({**own, **change}).check()
        assert caught.value.field == field
        assert caught.value.fix


def test_sites_of_a_run_are_tasks(tmp_path):
    settings = {
        "algorithm": "isolated", "nodes": 3, "rounds": 4, "seed": 2, "model": "logistic",
        "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
        "train": {"local_steps": 20, "optimizer": {"name": "sgd", "lr": 0.05}},
    }  # fmt: skip
    run(RunFile.parse(settings), tmp_path / "run", report=False)
    own = MergeTasks.resolve({"name": "sites", "run": str(tmp_path / "run")})
    own.check()
    suite = own.suite(0, tmp_path / "own", silent)
    assert suite.tasks == ("site_0", "site_1", "site_2")
    assert suite.judge is not None
    held = states(suite)
    every = MergeTasks.resolve({"name": "sites", "run": str(tmp_path / "run"), "judged_on": "all"})
    judge = every.suite(0, tmp_path / "all", silent).judge
    assert judge is not None
    for site in suite.tasks:  # on its own classes a site does better than on all
        assert suite.judge(site, held[site], "test") > judge(site, held[site], "test")
        assert suite.judge(site, held["base"], "test") < 0.4
    final = json.loads((tmp_path / "run" / "summary.json").read_text())["final"]
    mean = sum(judge(site, held[site], "test") for site in suite.tasks) / 3
    assert mean == pytest.approx(final["accuracy"], abs=1e-6)
    with pytest.raises(ConfigError, match=r"tasks\.run"):
        MergeTasks.resolve({"name": "sites", "run": str(tmp_path)}).check()
