"""Models of one's own through the command line: what is written, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.run import merge
from hansa.report import RunFolder

TASKS = ("north", "south", "east")


def tensors(seed: int, change: float = 0.0) -> dict[str, torch.Tensor]:
    """A small network's, the base's changed a little."""
    base, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    shapes = {"embed.weight": (6, 4), "layers.0.weight": (4, 4), "layers.0.bias": (4,),
              "layers.1.weight": (4, 4), "layers.1.bias": (4,)}  # fmt: skip
    return {
        name: torch.randn(shape, generator=base) + change * torch.randn(shape, generator=own)
        for name, shape in shapes.items()
    }


def write(folder: Path, state: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with ``base`` and three models."""
    write(tmp_path / "base", tensors(0))
    for seed, name in enumerate(TASKS, 1):
        write(tmp_path / name, tensors(seed, 0.1))
    return tmp_path


def said(capsys, models: Path, *words: object) -> tuple[int, dict]:
    capsys.readouterr()
    folders = [str(models / name) for name in TASKS]
    base = ["--base", str(models / "base")]
    line = ["combine", "merge", *folders, *base, "--out", str(models / "run"), *map(str, words)]
    status = main([*line, "--json", "-q", "--no-report"])
    return status, json.loads(capsys.readouterr().out)


def test_models_become_a_file_of_each_size(models, capsys):
    words = ("--size", 1, "--size", 2, "--budget", "9kB", "--algorithm", "ties")
    status, told = said(capsys, models, *words)
    assert status == 0
    assert told["models"] == 3
    assert len(told["cuts"]) == 3
    curve = told["final"]["curve"]
    assert [row["size"] for row in curve[:2]] == [1.0, 2.0]
    assert "accuracy" not in curve[0]
    for row, name in zip(curve, ("ties-1x", "ties-2x", "ties-9000B"), strict=True):
        file = models / "run" / "cuts" / f"{name}.safetensors"
        assert file.stat().st_size == row["bytes"]
        assert set(MergedModels.open(file).state_dict("south")) == set(tensors(0))
    assert curve[2]["bytes"] <= 9000
    assert main(["combine", "explain", str(models / "run")]) == 0
    assert main(["combine", "evaluate", str(models / "run")]) == 2
    page = RunFolder.open(models / "run")
    from hansa.report.page import final

    assert [row[0] for row in final(page).rows] == ["ties"] * 3


def test_a_page_of_what_nobody_judges_says_what_was_written(models):
    tasks = {"name": "none", "base": str(models / "base"),
             "models": {name: str(models / name) for name in TASKS}}  # fmt: skip
    settings = {"tasks": tasks, "algorithms": ["averaging", "emr"], "sizes": [1, 2.9]}
    folder = merge(settings, models / "run")
    page = (folder.path / "report.html").read_text()
    for words in ("3 models as one of any size", "Nobody judged", "What the bytes are"):
        assert words in page
    assert "Who is ahead" not in page


def test_all_apart_is_what_was_given(models, capsys):
    assert said(capsys, models, "--size", 3)[0] == 0
    held = MergedModels.open(next((models / "run" / "cuts").glob("ties-3x*")))
    for seed, name in enumerate(TASKS, 1):
        state = held.state_dict(name)
        assert all(torch.equal(state[k], v) for k, v in tensors(seed, 0.1).items())


def refused(capsys, models: Path, *words: object) -> dict:
    status, told = said(capsys, models, *words)
    assert status == 2, told
    assert not (models / "run").exists()
    assert told["error"]["fix"]
    return told["error"]


def test_what_differs_is_named_before_anything_is_written(models, capsys):
    place = models / "south" / "model.safetensors"
    good = load_file(place)
    for change, words in (
        ({"layers.1.bias": torch.zeros(5)}, "layers.1.bias is (5,) in one and (4,)"),
        ({"layers.2.bias": torch.zeros(4)}, "one has besides layers.2.bias"),
        ({"layers.1.bias": torch.zeros(4, dtype=torch.float16)}, "is F16 in one and F32"),
        ({"layers.1.bias": torch.tensor([0.0, 1.0, float("nan"), 2.0])}, "layers.1.bias holds"),
    ):
        save_file({**good, **change}, place)
        error = refused(capsys, models)
        assert words in error["problem"]
        assert "south" in str(error["value"])


def test_pickled_and_missing_and_foreign_models_are_refused(models, capsys):
    place = models / "south" / "model.safetensors"
    index = {"weight_map": {"embed.weight": "model-1.safetensors"}}
    (place.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    place.rename(place.parent / "other.safetensors")
    error = refused(capsys, models)
    assert (error["field"], "model-1" in error["problem"]) == ("tasks.models.south", True)
    for file in place.parent.iterdir():
        file.unlink()
    torch.save({}, place.parent / "pytorch_model.bin")
    assert "pickled" in refused(capsys, models)["problem"]
    (place.parent / "pytorch_model.bin").unlink()
    save_file(tensors(2, 0.1), place)
    for name, words in (("south", "other words"), ("north", "words")):
        (models / name / "vocab.txt").write_text(words)
    assert "tokenizers differ" in refused(capsys, models)["problem"]


@pytest.mark.parametrize(
    ("words", "field", "problem"),
    [
        (("--size", 4), "sizes", "more than all 3"),
        (("--size", 0.5), "sizes.0", "greater than or equal"),
        (("--budget", "100"), "budgets", "not more than one model, of 256 bytes"),
        (("--budget", "lots"), "budgets", "no amount"),
        (("--algorithm", "slerp"), "algorithms", "between two models"),
        (("--algorithm", "magic"), "algorithms", "no such merging"),
        (("--set", "tune=[1.0]"), "tune", "have none"),
        (("--set", "heads=[embed,layers]"), "heads", "leave nothing"),
    ],
)
def test_settings_that_cannot_work_are_refused(models, capsys, words, field, problem):
    error = refused(capsys, models, *words)
    assert error["field"].startswith(field)
    assert problem in error["problem"]


def test_a_size_that_masks_do_not_reach_names_the_least(models, capsys):
    status, told = said(capsys, models, "--size", 1, "--algorithm", "emr")
    assert status == 2
    assert told["error"]["field"] == "sizes"
    assert "the least is" in told["error"]["problem"]


def test_models_need_a_base_and_names_of_their_own(models, capsys):
    folder = str(models / "north")
    assert main(["combine", "merge", folder, str(models / "south")]) == 2
    assert "--base MODEL" in capsys.readouterr().err
    other = write(models / "again" / "north", tensors(4, 0.1))
    line = ["combine", "merge", folder, str(other), "--base", str(models / "base")]
    assert main(line) == 2
    assert "has the name of" in capsys.readouterr().err
    twice = {"name": "none", "base": str(models / "base"), "models": {"a": folder, "b": folder}}
    with pytest.raises(ConfigError, match="is also the model of a"):
        merge({"tasks": twice}, models / "run")


def test_heads_are_kept_and_counted(models, capsys):
    for seed, name in enumerate(TASKS, 1):
        for file in (models / name).iterdir():
            file.unlink()
        head = {"classifier.weight": torch.randn(seed + 1, 4)}
        save_file({**tensors(seed, 0.1), **head}, models / name / "model.safetensors")
    assert "one has besides" in refused(capsys, models)["problem"]
    status, told = said(capsys, models, "--size", 2, "--set", "heads=[classifier]")
    assert status == 0
    state = MergedModels.open(models / "run" / told["cuts"][0]).state_dict("east")
    assert state["classifier.weight"].shape == (4, 4)


NETWORK = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

def score(task, model):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(9))
    mean = model[1].running_mean
    real = model[0](x).mean(0)
    return 1.0 if (mean - real).abs().max() < 1e-5 else 0.5
"""


def test_batch_normalization_is_refused_or_counted_anew(models, tmp_path, capsys):
    (tmp_path / "net.py").write_text(NETWORK)
    names = {}
    exec(NETWORK, names)
    network: nn.Module = names["network"]()
    for seed, name in enumerate(("base", *TASKS)):
        for file in (models / name).iterdir():
            file.unlink()
        draw = torch.Generator().manual_seed(seed)
        state = {
            k: v + 0.1 * torch.randn(v.shape, generator=draw).abs() if v.is_floating_point() else v
            for k, v in network.state_dict().items()
        }
        save_file(state, models / name / "model.safetensors")
    error = refused(capsys, models)
    assert error["field"] == "rebn"
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(9))
    save_file({"x": x}, tmp_path / "x.safetensors")
    error = refused(capsys, models, "--rebn", tmp_path / "x.safetensors")
    assert error["field"] == "tasks.module"
    settings = {
        "tasks": {
            "name": "own", "base": str(models / "base"),
            "models": {name: str(models / name) for name in TASKS},
            "score": f"{tmp_path / 'net.py'}:score", "module": f"{tmp_path / 'net.py'}:network",
        },
        "algorithms": ["averaging"], "sizes": [1, 2], "least_gain": 0,
        "rebn": str(tmp_path / "x.safetensors"),
    }  # fmt: skip
    summary = merge(settings, models / "own", report=False).summary or {}
    final = summary["final"]
    assert final["references"]["fine_tuned"]["accuracy"] == 0.5  # statistics of other inputs
    assert [row["accuracy"] for row in final["curve"]] == [1.0, 1.0]
    cut = ("combine", "cut", models / "own", "--size", 2, "--task", "east", "--out")
    assert main([*map(str, cut), str(models / "cut")]) == 0
    counted = load_file(models / "cut" / "model.safetensors")
    network.load_state_dict(counted)
    assert names["score"]("east", network) == 1.0
    alone = ("combine", "cut", models / "own" / "artefact", "--size", 2, "--task", "east", "--out")
    assert main([*map(str, alone), str(models / "again")]) == 0
    assert torch.equal(load_file(models / "again" / "model.safetensors")["1.running_mean"],
                       counted["1.running_mean"])  # fmt: skip
