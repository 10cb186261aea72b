"""mergekit's files: the same numbers as mergekit's, or a refusal that names the setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hansa.base.errors import ConfigError
from hansa.cli.app import app
from hansa.combine.merge.algorithms.merging import BlockFacts, MergingAlgorithm
from hansa.combine.merge.mergekit_file import METHODS, from_mergekit
from hansa.experiment.settings_file import read_settings_file

BASE = torch.tensor([[0.5, -1.0, 0.25, 2.0], [0.0, 1.5, -0.75, 0.1]])
DELTAS = torch.tensor(
    [
        [[0.4, -0.1, 0.05, -0.3], [0.2, -0.6, 0.0, 0.15]],
        [[-0.4, 0.3, 0.5, 0.25], [0.1, 0.2, -0.35, -0.05]],
        [[0.6, -0.2, -0.45, 0.12], [-0.3, 0.08, 0.22, 0.4]],
    ]
)
VOTES = {"weight": [0.5, 0.8, 0.2], "density": [0.5, 0.5, 0.5]}
FULL = {"weight": [0.5, 0.8, 0.2], "density": [1.0, 1.0, 1.0]}
# What merge_tensors of mergekit 0.1.5 (torch 2.13, CPU) gives for these models: method, parameters
# of each model, parameters of all, the flat result.
ANSWERS: dict[str, tuple[str, dict[str, list[float]], dict[str, Any], list[float]]] = {
    "linear": (
        *("linear", {"weight": [1.0, 1.0, 3.0, 2.0]}, {}),
        [0.557143, -0.942857, 0.342857, 2.098571, -0.014286, 1.522857, -0.837143, 0.214286],
    ),
    "linear_sum": (
        *("linear", {"weight": [0.1, 0.2, 0.3, 0.4]}, {"normalize": False}),
        [0.7, -1.01, 0.23, 2.063, -0.05, 1.472, -0.767, 0.275],
    ),
    "slerp": (
        *("slerp", {}, {"t": 0.3}),
        [0.62584, -1.039048, 0.267356, 1.926215, 0.060752, 1.330751, -0.756504, 0.146431],
    ),
    "task_arithmetic": (
        *("task_arithmetic", {"weight": [0.5, 0.8, 0.2]}, {"lambda": 0.7}),
        [0.5, -0.895, 0.4845, 2.0518, 0.084, 1.4132, -0.9152, 0.1805],
    ),
    "task_arithmetic_mean": (
        *("task_arithmetic", {"weight": [0.5, 0.8, 0.2]}, {"normalize": True}),
        [0.5, -0.9, 0.473333, 2.049333, 0.08, 1.417333, -0.907333, 0.176667],
    ),
    "ties": ("ties", VOTES, {}, [0.1, -0.7, 0.75, 1.7, 0.2, 0.9, -1.1, 0.5]),
    "ties_each": (
        *("ties", {"weight": [0.5, 0.8, 0.2], "density": [0.25, 0.6, 1.0]}, {"lambda": 1.3}),
        [-0.02, -0.61, 0.9, 2.156, -0.39, 0.72, -1.205, 0.62],
    ),
    "ties_sum": (
        *("ties", {"weight": [1.0, 1.0, 1.0]}, {"normalize": False, "int8_mask": True}),
        [1.5, -1.3, 0.8, 2.37, 0.3, 0.9, -1.1, 0.65],
    ),
    "dare_linear": (
        *("dare_linear", FULL, {}),
        [0.5, -0.85, 0.585, 2.074, 0.12, 1.376, -0.986, 0.215],
    ),
    "dare_ties": (
        *("dare_ties", FULL, {"lambda": 0.9}),
        [0.212, -0.784, 0.6325, 2.2016, 0.162, 1.23, -1.002, 0.2395],
    ),
    "dare_none": (
        *("dare_linear", {"weight": [0.5, 0.8, 0.2]}, {"density": 0.0}),
        [0.5, -1.0, 0.25, 2.0, 0.0, 1.5, -0.75, 0.1],
    ),
}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """The base and three models, each a file."""
    paths = []
    for number, delta in enumerate([torch.zeros_like(BASE), *DELTAS]):
        paths.append(tmp_path / f"m{number}.safetensors")
        save_file({"w": BASE + delta}, paths[-1])
    return paths


def settings(method: str, own: dict[str, list[float]], shared: dict[str, Any]) -> dict[str, Any]:
    """As such a file says it: paths relative to its own folder."""
    models = [0, 1, 2, 3] if method == "linear" else [1, 2, 3]
    listed: list[dict[str, Any]] = [{"model": f"m{number}.safetensors"} for number in models]
    for key, values in own.items():
        for about, value in zip(listed, values, strict=True):
            about.setdefault("parameters", {})[key] = value
    if method == "slerp":
        listed = [{"model": "m0.safetensors"}, {"model": "m1.safetensors"}]
    whole: dict[str, Any] = {"merge_method": method, "models": listed}
    if method != "linear":
        whole["base_model"] = "m0.safetensors"
    return {**whole, "parameters": shared, "dtype": "float32"} if shared else whole


def read(folder: Path, whole: dict[str, Any]) -> dict[str, Any]:
    (folder / "merge.yaml").write_text(yaml.safe_dump(whole))
    return from_mergekit(read_settings_file(folder / "merge.yaml"))


@pytest.mark.parametrize("case", ANSWERS)
def test_the_numbers_are_mergekits(folders: list[Path], case: str) -> None:
    method, own, shared, answer = ANSWERS[case]
    made = read(folders[0].parent, settings(method, own, shared))
    assert made["sizes"] == [1]
    (described,) = made["algorithms"]
    algorithm = MergingAlgorithm.resolve(described)
    places = [
        next(i for i, path in enumerate(folders) if str(path) == model)
        for model in made["tasks"]["models"].values()
    ]
    base = folders.index(Path(made["tasks"]["base"]))
    weights = [BASE, *(BASE + delta for delta in DELTAS)]
    algorithm.check(len(places))
    taus = torch.stack([(weights[place] - weights[base]).flatten() for place in places])
    merged = algorithm.merge(taus, BlockFacts(base=weights[base].flatten()))
    got = weights[base].flatten() + merged.vector
    torch.testing.assert_close(got, torch.tensor(answer), rtol=0, atol=2e-6)


def test_slerp_with_a_vector_of_zeros_is_mergekits() -> None:
    """mergekit 0.1.5: slerp(0.5) of (0, 0) and (1, 2) is sin(pi / 4) of the second."""
    algorithm = MergingAlgorithm.resolve({"name": "slerp", "t": 0.5})
    merged = algorithm.merge(
        torch.tensor([[0.0, 0.0], [1.0, 2.0]]), BlockFacts(base=torch.zeros(2))
    )
    torch.testing.assert_close(merged.vector, torch.tensor([0.707107, 1.414214]), rtol=0, atol=1e-6)


def test_linear_takes_the_base_in_as_mergekit_does(folders: list[Path]) -> None:
    whole = settings("linear", {}, {"weight": 1.0})
    whole["models"] = whole["models"][1:]
    whole["base_model"] = "m0.safetensors"
    made = read(folders[0].parent, whole)
    assert list(made["tasks"]["models"]) == ["m1", "m2", "m3", "m0"]
    assert made["algorithms"] == [{"name": "averaging", "weights": [1.0] * 4}]


def test_two_folders_of_one_name_are_told_apart(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    save_file({"w": BASE}, tmp_path / "x" / "m1.safetensors")
    whole = settings("linear", {}, {"weight": 1.0})
    whole["models"][2]["model"] = "x/m1.safetensors"
    assert list(read(tmp_path, whole)["tasks"]["models"]) == ["m0", "m1-1", "m1-2", "m3"]


TIES: dict[str, Any] = settings("ties", VOTES, {})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"merge_method": "della"}, "merge_method = 'della'"),
        ({"slices": [{"sources": []}]}, "slices"),
        ({"modules": {"text": {}}}, "modules"),
        ({"tokenizer": {"source": "union"}}, "tokenizer"),
        ({"tokenizer_source": "union"}, "tokenizer_source"),
        ({"chat_template": "auto"}, "chat_template"),
        ({"out_shard": 1}, "out_shard"),
        ({"dtype": "bfloat16"}, "dtype = 'bfloat16'.*is stored in F32"),
        ({"dtype": "int3"}, "is no type"),
        ({"base_model": None}, "ties takes differences"),
        ({"base_model": "mistralai/Mistral-7B-v0.1"}, "hub"),
        ({"models": []}, "no list of models"),
        ({"models": [{"path": "x"}]}, r"models\.0"),
        ({"models": [{"model": "m1.safetensors", "weight": 1}]}, r"models\.0\.weight"),
        ({"models": [{"model": "m1.safetensors"}]}, "m1.safetensors has no weight"),
        ({"models": [{"model": "m1.safetensors"}] * 2}, "one folder twice"),
        ({"parameters": {"weight": [0, 1]}}, r"parameters\.weight.*by layer"),
        ({"parameters": {"weight": {"value": 1, "filter": "mlp"}}}, "by layer or by name"),
        ({"parameters": {"gamma": 0.1}}, r"parameters\.gamma"),
        ({"parameters": {"rescale": True}}, r"parameters\.rescale"),
        ({"parameters": {"normalize": 1}}, "neither true nor false"),
        ({"parameters": {"lambda": "much"}}, r"parameters\.lambda"),
        ({"models": [{"model": "m1.safetensors", "parameters": {"weight": -1}}]}, "weight = -1"),
        (
            {"models": [{"model": "m1.safetensors", "parameters": {"weight": 1, "density": 2}}]},
            "density = 2",
        ),
        ({"models": [{"model": "m1.safetensors", "parameters": {"t": 1}}]}, r"parameters\.t"),
    ],
)
def test_no_setting_goes_without_effect(
    folders: list[Path], changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        read(folders[0].parent, TIES | changes)


@pytest.mark.parametrize(
    ("method", "changes", "named"),
    [
        ("slerp", {"base_model": None}, "base_model"),
        ("slerp", {"parameters": {}}, r"parameters\.t"),
        ("slerp", {"parameters": {"t": [0, 1]}}, "by layer"),
        ("slerp", {"models": [{"model": "m0.safetensors"}]}, "one other model, not 0"),
        ("linear", {"parameters": {"normalize": False, "weight": 1}}, "do not sum to 1"),
        ("task_arithmetic", {"parameters": {"weight": 1, "density": 0.5}}, "density"),
    ],
)
def test_what_hansa_has_not_of_a_method_is_refused(
    folders: list[Path], method: str, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        read(
            folders[0].parent,
            settings(method, {}, {"t": 0.5} if method == "slerp" else {}) | changes,
        )


def test_the_command_runs_such_a_file(folders: list[Path], tmp_path: Path) -> None:
    method, own, shared, answer = ANSWERS["ties"]
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(settings(method, own, shared)))
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "merge.yaml"), "--json"])
    assert checked.exit_code == 0, checked.stdout
    out = tmp_path / "run"
    line = ["combine", "merge", str(tmp_path / "merge.yaml"), "--out", str(out), "--json"]
    done = CliRunner().invoke(app, [*line, "--no-report"])
    assert done.exit_code == 0, done.stdout
    one = tmp_path / "one.safetensors"
    line = ["combine", "cut", str(out), "--size", "1", "--task", "m2", "--out", str(one), "--json"]
    cut = CliRunner().invoke(app, line)
    assert cut.exit_code == 0, cut.stdout
    got = load_file(json.loads(cut.stdout)["path"])["w"].flatten()
    torch.testing.assert_close(got, torch.tensor(answer), rtol=0, atol=2e-6)
    whole = settings(method, own, shared) | {"tokenizer_source": "union"}
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(whole))
    refused = CliRunner().invoke(app, ["combine", "merge", str(tmp_path / "merge.yaml"), "--json"])
    assert refused.exit_code == 2
    assert "tokenizer_source" in refused.stdout


def test_every_method_has_a_known_answer() -> None:
    assert {answer[0] for answer in ANSWERS.values()} == set(METHODS)
