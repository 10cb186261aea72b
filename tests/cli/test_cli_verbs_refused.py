"""A verb on what another left: what makes no sense is refused, with why and what does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hansa.cli import main

SMALL = ["rounds=1", "nodes=4", "train.local_steps=2", "topology=complete", "evaluate.every=1"]
MLP = ["model.name=mlp", "model.hidden=[16]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that another verb is given: among peers, at a server, of numbers, merged."""
    place = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    rows = ["a,b,y"] + [",".join(f"{x:.3f}" for x in row) for row in rng.normal(size=(120, 3))]
    (place / "table.csv").write_text("\n".join(rows) + "\n")
    table = f"data={{name: file, path: {place / 'table.csv'}, label: y, task: regression}}"

    def hansa(*words: object, sets: tuple[str, ...] = ()) -> None:
        line = [str(word) for word in words] + [w for s in sets for w in ("--set", s)]
        assert main([*line, "--quiet", "--no-report", "--json"]) == 0, line

    hansa("learn", "--out", place / "peers", sets=(*SMALL, *MLP))
    hansa("learn", "--out", place / "server", sets=(*SMALL, *MLP, "algorithm=fedavg"))
    hansa("learn", "--out", place / "grouped", sets=(*SMALL, "model=gn_lenet", "algorithm=fedavg"))
    hansa("learn", "--out", place / "numbers", sets=(*SMALL, *MLP, "algorithm=fedavg", table))
    hansa("combine", "merge", place / "peers", "--algorithm", "averaging", "--size", "1", "--out",
          place / "merged", sets=("least_gain=0",))  # fmt: skip
    line = ["combine", "cut", place / "merged", "--size", "1", "--out", place / "one.safetensors"]
    assert main([*map(str, line), "--json"]) == 0
    for run in ("peers", "server"):
        line = ["export", run, "--out", f"{run}.safetensors", "--average"]
        assert main([word if "." not in word and word != run else str(place / word)
                     for word in line] + ["--json"]) == 0  # fmt: skip
    return place


REFUSED: dict[str, tuple[str, str, str]] = {
    # command: (field, why, the nearest that makes sense)
    "forget peers --client 1": ("run", "trained with servers", "quickdrop, or cpfl"),
    "forget numbers --client 1": ("run", "only classifiers", "without the data that are to go"),
    "forget server --client 1": ("method", "needs the clients' synthetic images", "--method sga"),
    "forget server --client 1 --method federaser": ("method", "kept none", "keep_updates"),
    "forget server --client 1 --method shards": ("method", "learn one model", "--method retrain"),
    "forget server --class 3 --method pgd": ("method", "a single class", "--method quickdrop"),
    "forget merged --client 1": ("run", "but of hansa combine merge", "made of: {runs}/peers"),
    "combine merge server --out new": ("tasks.run", "no models", "personalise"),
    "combine merge numbers --set tasks.personalise=2 --out new": (
        "tasks.run", "is a regression", "data with classes",
    ),
    "combine merge merged --out new": ("tasks.run", "of hansa combine merge", "{runs}/peers"),
    "combine merge peers server --base peers.safetensors --out new": (
        "models", "is a run's folder", "hansa export",
    ),
    "combine merge peers --base peers.safetensors --out new": ("base", "this is a run", "leave"),
    "route models peers": ("cut", "were not merged", "hansa combine merge"),
    "route models merged": ("cut", "no size is cut", "hansa combine cut"),
    "route models one.safetensors --run merged": ("run", "do not tell whose", "natural"),
    "route models one.safetensors --run peers": ("run", "no such run", "whose tasks"),
    "route ask peers hello": ("index", "routed to by no text", "hansa route models"),
    "infer compile grouped --out new": ("network.norm1", "deviation", "resnet20_bn"),
    "infer compile peers --out new": ("node", "each of 4 nodes", "average"),
    "infer compile merged --out new": ("source", "of hansa combine merge", "{runs}/peers"),
    "infer private demo --set run=numbers --out new": ("run", "not about classes", "classes"),
    "infer private demo --set run=merged --out new": ("run", "combine merge", "{runs}/peers"),
    "infer serve peers": ("file", "folder of a run", "config.yaml"),
    "audit run peers --out new": ("file", "folder of a run", "config.yaml"),
    "export merged --out new": ("task", "a model of each task", "one of "),
    "learn --resume merged": ("", "hansa combine merge --resume", ""),
}  # fmt: skip


@pytest.mark.parametrize("command", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_does(
    runs: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    field, why, fix = REFUSED[command]
    monkeypatch.chdir(runs)
    before = sorted(path.name for path in runs.iterdir())
    status = main([*command.split(), "--json"])
    said = json.loads(capsys.readouterr().out)["error"]
    assert status == 2
    assert said.get("field", "") == field or not field
    assert why in said.get("problem", said["message"])
    assert fix.format(runs=runs) in said.get("fix", "")
    assert sorted(path.name for path in runs.iterdir()) == before, "something was begun"


def test_models_of_different_origins_are_not_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two trainings from two initial models: their mean is noise, and no shape tells it."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    base = torch.randn(60, 50, generator=generator)
    near = base + 0.5 * torch.randn(60, 50, generator=generator)
    strange = torch.randn(60, 50, generator=generator)
    for name, weight in (("base", base), ("near", near), ("other", near + 0.1), ("far", strange)):
        (tmp_path / name).mkdir()
        save_file({"weight": weight}, tmp_path / name / "model.safetensors")
    line = ["combine", "merge", "--base", str(tmp_path / "base"), "--quiet", "--json"]
    told = [str(tmp_path / name) for name in ("near", "far")]
    assert main([*line, *told, "--out", str(tmp_path / "new")]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == "tasks.models.far"
    assert "no more like the base than chance" in error["problem"]
    assert "combine ensemble" in error["fix"]
    assert not (tmp_path / "new").exists()
    told = [str(tmp_path / name) for name in ("near", "other")]
    assert main([*line, *told, "--out", str(tmp_path / "good")]) == 0
