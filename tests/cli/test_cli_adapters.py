"""Adapters among peers and with a server, and the ways that they go from there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from hansa.base.errors import CheckpointError
from hansa.experiment.export import open_run
from hansa.experiment.prepare import prepare
from hansa.experiment.runfile import RunFile
from hansa.models import ParameterLayout, frozen_tensors, shared_copy
from hansa.weights.adapted_folder import AdaptedFolder
from hansa.weights.lora_folder import LoraFolder
from hansa.weights.model_folder import ModelFolder

from ..models.tiny_encoders import write_encoder

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
TASKS = {"colours": ("red", "blue"), "moods": ("good", "bad")}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A tiny encoder, and texts of two tasks that each has an owner: a word tells the label."""
    write_encoder(tmp_path / "base")
    rng = np.random.default_rng(1)
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "label", "task"])
        for k, (task, labels) in enumerate(TASKS.items()):
            (tmp_path / "tasks" / task).mkdir(parents=True)
            rows = []
            for n in range(80):
                words = [f"w{w}" for w in rng.integers(10, 40, 3)]
                words.insert(int(rng.integers(3)), f"w{4 * k + n % 2}")
                rows.append((" ".join(words), labels[n % 2]))
            lines.writerows((*row, task) for row in rows[:60])
            for name, some in (("validation", rows[60:70]), ("test", rows[70:])):
                said = [{"text": t, "answer": a, "candidates": labels} for t, a in some]
                file_ = tmp_path / "tasks" / task / f"{name}.jsonl"
                file_.write_text("".join(json.dumps(one) + "\n" for one in said))
    return tmp_path


def settings(**more: Any) -> dict[str, Any]:
    return {
        "nodes": 2,
        "rounds": 2,
        "data": {
            "name": "text_file", "path": "texts.csv", "group": "task", "max_length": 8,
            "partition": {"name": "natural", "choose": "first"},
        },
        "model": {"name": "transformers", "base": "base", "peft": {"r": 4}, "head": "label_text"},
        "topology": {"name": "ring"},
        "train": {"local_steps": 2, "batch_size": 16, "optimizer": {"name": "adam", "lr": 0.01}},
        "evaluate": {"every": 2, "dense_start": False},
        "clock": "wall",
    } | more  # fmt: skip


def run(hansa: Any, world: Path, name: str, *words: str, **more: Any) -> Path:
    (world / f"{name}.yaml").write_text(yaml.safe_dump(settings(**more)))
    said = hansa("learn", f"{name}.yaml", "--out", name, "-q", *words)
    assert said.status == 0, said.err
    return world / name


@pytest.mark.parametrize("algorithm", ["fedavg", pytest.param("dpsgd", marks=pytest.mark.slow)])
def test_the_same_in_one_process_and_in_two(hansa, world: Path, algorithm: str) -> None:
    alone = run(hansa, world, "alone", algorithm=algorithm)
    apart = run(
        hansa, world, "apart", algorithm=algorithm, runtime={"name": "processes", "workers": 2}
    )
    one, two = (open_run(folder).trained() for folder in (alone, apart))
    assert torch.equal(one.block.models()[1], two.block.models()[1])
    facts = [json.loads((folder / "summary.json").read_text()) for folder in (alone, apart)]
    assert facts[0]["bytes_sent"] == facts[1]["bytes_sent"]
    # What goes over is the row of factors, and no number of the base.
    layout = ParameterLayout.of(one.job.module)
    assert layout.frozen_numbers > 2 * layout.size
    messages = 2 * 2 * (2 if algorithm == "fedavg" else 1)  # rounds, nodes, both ways
    assert messages * layout.nbytes < facts[0]["bytes_sent"] < messages * (layout.nbytes + 400)
    saved = list((alone / "checkpoints").rglob("*.safetensors"))
    assert all(file.stat().st_size < 40 * layout.nbytes for file in saved)


def test_federated_averaging_of_adapters_is_a_loop_over_peft_modules(world, monkeypatch) -> None:
    monkeypatch.chdir(world)
    given = settings(algorithm="fedavg")
    given["train"] = {"local_steps": 1, "batch_size": 60, "drop_last": False}
    given["model"]["dropout"] = 0.0
    given["train"]["optimizer"] = {"name": "sgd", "lr": 0.3, "momentum": 0.0}
    chosen = RunFile.parse(given)
    job = prepare(chosen)
    from hansa.engine import Simulate
    from hansa.experiment.played import play

    played = play(world / "played", job)
    assert isinstance(chosen.runtime, Simulate)
    server = shared_copy(job.module)
    for _ in range(2):
        states, sizes = [], []
        for part in job.parts:
            module = shared_copy(server)
            optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.3)
            x, y = job.dataset.gather(job.dataset.train, torch.from_numpy(part))
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
            states.append({n: p.data for n, p in module.named_parameters() if p.requires_grad})
            sizes.append(len(part))
        for name, parameter in server.named_parameters():
            if parameter.requires_grad:
                total = sum(s * state[name] for s, state in zip(sizes, states, strict=True))
                parameter.data = total / sum(sizes)
    wanted = ParameterLayout.of(server).flatten(server)
    torch.testing.assert_close(played.rows[0], wanted, rtol=1e-3, atol=1e-5)


def test_all_copies_of_a_worker_hold_one_base(world, monkeypatch) -> None:
    monkeypatch.chdir(world)
    job = prepare(RunFile.parse(settings()))
    block = job.block(np.arange(2))
    block.train(0)
    passes, _ = block.trainer.passes(1)
    frozen = frozen_tensors(job.module)
    assert frozen
    for name, tensor in frozen.items():
        assert passes.module.get_parameter(name) is tensor
    block.trainer.close()


def test_a_run_does_not_go_on_around_another_base(hansa, world: Path) -> None:
    folder = run(hansa, world, "first")
    assert open_run(folder).trained().block.trainer.frozen
    before = (folder / "summary.json").read_text()
    write_encoder(world / "base", seed=5)
    with pytest.raises(CheckpointError, match="put back the files"):
        open_run(folder).trained()
    said = hansa("learn", "--resume", "first", "--set", "rounds=4", "-q")
    assert said.status == 2
    assert "trained around other frozen numbers" in said.err
    assert (folder / "summary.json").read_text() == before  # what is refused changes nothing


def test_adapters_of_peers_are_routed_to_and_merged(
    hansa, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(
        hansa, world, "peers", "--set", "train.local_steps=30", algorithm="isolated", rounds=4
    )  # fmt: skip
    for node, task in enumerate(TASKS):
        said = hansa(f"export peers --node {node} --out pool/{task}")
        assert said.status == 0, said.err
    assert LoraFolder.open(world / "pool" / "moods").rank == 4
    # Routed: each task's queries go to the adapter of its owner, who alone can tell its labels.
    route = {
        "verb": "route", "methods": ["lorauter"], "regimes": ["id"], "encoder": "hashing",
        "noise": None, "association": "exhaustive", "screen": {}, "k": 1,
        "tasks": {"name": "files", "folder": "tasks", "base": "base", "pool": "pool"},
    }  # fmt: skip
    (world / "route.yaml").write_text(yaml.safe_dump(route))
    said = hansa("route", "run", "route.yaml", "--out", "routed", "--json", "-q")
    assert said.status == 0, said.err
    table = {row["method"]: row for row in said.object["final"]["table"]}
    assert table["oracle"]["raw"] > 0.9
    # Merged in the space of factors, and as whole models: the base with each adapter added.
    size = sum(f.stat().st_size for f in (world / "pool").rglob("*.safetensors"))
    said = hansa(f"route compress pool --budget {size // 2 + 500} --out small")
    assert said.status == 0, said.err
    assert len(list((world / "small").rglob("adapter_config.json"))) == 1
    said = hansa("combine merge pool/colours pool/moods --base base --size 2 --out merged -q")
    assert said.status == 0, said.err


def test_an_adapter_on_its_base_is_the_merged_model(hansa, world: Path) -> None:
    run(hansa, world, "peers", algorithm="isolated")
    hansa("export peers --node 0 --out adapter")
    said = hansa("export peers --node 0 --out whole --merged")
    assert said.status == 0, said.err
    base, whole = ModelFolder.open(world / "base"), ModelFolder.open(world / "whole")
    read = AdaptedFolder.over(base, world / "adapter")
    assert len(read.adapts) == 12
    changed = 0
    for name in base.entries:
        one, other = read.read(name), whole.read(name)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        if one.ndim == 2 and len(one) > 3:
            assert torch.equal(read.read(name, slice(1, 3)), one[1:3])
        changed += not torch.equal(one, base.read(name))
    assert changed == 12
    assert read.sha256() != base.sha256()
    assert read.own_bytes == LoraFolder.open(world / "adapter").bytes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "model.peft.target_modules=[quary]"], "model.peft.target_modules"),
        (["--set", "model.base=bases"], "model.base"),
        (["--set", "model.head=words"], "model.head"),
    ],
)
def test_bad_input_is_named_before_anything_starts(
    hansa: Callable[..., Any], world: Path, words: list[str], said: str
) -> None:
    (world / "bad.yaml").write_text(yaml.safe_dump(settings()))
    answer = hansa("learn", "bad.yaml", "--out", "bad", "-q", *words)
    assert answer.status == 2
    assert said in answer.err
    assert not (world / "bad").exists()


def test_a_plain_network_has_no_adapters_to_merge(hansa, tiny: str, world: Path) -> None:
    assert hansa(f"learn isolated {tiny} --out digits -q").status == 0
    said = hansa("export digits --node 0 --out folder --merged")
    assert said.status == 2
    assert "no adapters" in said.err
    assert not (world / "folder").exists()
    assert hansa("export digits --node 0 --out folder").status == 0
    names = {"model.safetensors", "hansa.json", "README.md"}
    assert {path.name for path in (world / "folder").iterdir()} == names
