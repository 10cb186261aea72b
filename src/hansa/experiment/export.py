"""A trained model as plain files, for those who do not have hansa."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import read_facts, read_tensors, write_tensors
from hansa.base.component import find
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import write_json, writing
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.data import Dataset
from hansa.experiment.runfile import run_kind
from hansa.experiment.trained import TrainedRun, open_trained, settings_of
from hansa.models import Model
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

ENDING = ".safetensors"
FACTS = "hansa.json"
"""The facts of a model that is written as a folder."""


def open_run(path: str | Path) -> TrainedRun:
    """A run that trained a model and came to its end, with its models and its data.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: it is no such run, has not finished, or its data are others now.
    """
    folder = RunFolder.open(path)
    return open_trained(folder, settings_of(folder, kind=run_kind(folder.config)))


def export(
    run: TrainedRun,
    out: str | Path,
    node: int | None = None,
    average: bool = False,
    merged: bool = False,
) -> Path:
    """Write a run's model: its numbers by name to ``out``, what else there is to know beside it.

    Args:
        run: the run, from :func:`open_run`.
        out: a new file ``NAME.safetensors``; the facts go to ``NAME.json``. Or a new folder, for
            models of transformers: as transformers or PEFT writes it, with the facts in it.
        node: whose model, where there are several.
        average: the average of all models.
        merged: adapters are added to what they adapt, and a whole model is written.

    Returns:
        The file with the facts.

    Raises:
        ConfigError: there are several models and none is named, or a file is there already.
        DiskError: the disk is full or fails.
    """
    path = Path(out).expanduser()
    if path.suffix != ENDING:
        if "." in path.name[1:]:
            problem, fix = "is no file of tensors", f"a name such as model{ENDING}"
            raise ConfigError("out", str(path), problem, fix)
        return _export_folder(run, path, node, average, merged)
    if merged:
        problem, fix = "is a file of all tensors by name", "a new folder: --out DIR"
        raise ConfigError("out", str(path), problem, fix)
    for file in (path, path.with_suffix(".json")):
        if file.exists():
            raise ConfigError("out", str(path), f"{file} is there already", "another name")
    module = run.module(node, average)
    return write_export(path, module, facts(run, module, node, average))


def _export_folder(
    run: TrainedRun, path: Path, node: int | None, average: bool, merged: bool
) -> Path:
    """Write a model as a folder of its own library; returns the facts, which lie in it."""
    if path.exists():
        raise ConfigError("out", str(path), "is there already", "another name")
    module = run.module(node, average)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        run.settings.model.write_folder(module, part, merged)
        write_json(part / FACTS, facts(run, module, node, average))
        part.rename(path)
    return path / FACTS


def write_export(path: Path, module: nn.Module, told: Mapping[str, Any]) -> Path:
    """Write a network's numbers to ``path`` and what there is to know beside it; returns the facts.

    Args:
        told: of :func:`facts_of`, and more.

    Raises:
        DiskError: the disk is full or fails.
    """
    digest = write_tensors(path, module.state_dict())
    card = path.with_suffix(".json")
    write_json(card, {**told, "sha256": digest})
    return card


def facts(run: TrainedRun, module: nn.Module, node: int | None, average: bool) -> dict[str, Any]:
    """What somebody needs to know who uses the model, in plain data."""
    return {
        "run": run.folder.path.resolve().name,
        "round": run.done,
        "node": "average" if average else node,
        **run.folder.marks,
    } | facts_of(run.job.dataset, run.settings.model, module)


def facts_of(data: Dataset, model: Model, module: nn.Module) -> dict[str, Any]:
    """What a network is and what inputs it takes, in plain data."""
    spec = data.spec
    card: dict[str, Any] = {
        "model": model.dump(),
        "parameters": sum(p.numel() for p in module.parameters()),
        "task": spec.task,
        "input": {"kind": spec.kind, "shape": list(spec.shape)},
        "outputs": spec.outputs,
        "classes": list(data.class_names),
        "columns": list(data.features),
    }
    if spec.kind == "pairs":  # ids are places in these lists
        card["vocabulary"] = list(spec.vocabulary)
        card |= {"users": list(data.group_names), "items": list(data.item_names)}
        card["rating_scale"] = list(spec.scale)
    if data.scale is not None and data.shift is not None:  # the model gets x * scale + shift
        card |= {"scale": data.scale.tolist(), "shift": data.shift.tolist()}
    return card


@dataclass(frozen=True)
class Exported:
    """A model that was exported.

    Attributes:
        network: to evaluate.
        scale, shift: the network reads ``stored * scale + shift``, where they are.
        class_names: one a class, or none.
    """

    spec: DataSpec
    network: nn.Module
    scale: Tensor | None
    shift: Tensor | None
    class_names: tuple[str, ...]


def open_export(path: Path) -> Exported:
    """The model in a file of :func:`export`, with its facts beside it.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: the model is built by code of others, or its inputs are not told.
    """
    card = read_facts(path.with_suffix(".json"), "hansa export writes both files")
    try:
        kind, shape = card["input"]["kind"], tuple(int(n) for n in card["input"]["shape"])
        spec = DataSpec(kind, shape, int(card["outputs"]), card["task"])
        if kind == "pairs" and "vocabulary" in card:
            known = tuple(int(n) for n in card["vocabulary"])
            spec = replace(spec, vocabulary=known, scale=tuple(map(float, card["rating_scale"])))
        given = dict(card["model"])
        model_name, digest = str(given.pop("name")), str(card["sha256"])
        scale, shift = (
            torch.tensor(card[key]) if key in card else None for key in ("scale", "shift")
        )
    except (KeyError, TypeError, ValueError) as error:
        file = path.with_suffix(".json")
        raise CheckpointError(f"{file}: is not what hansa export writes ({error!r})") from error
    if spec.kind == "tokens" or (spec.kind == "pairs" and not spec.vocabulary):
        problem = f"takes {spec.kind}, whose ids its facts do not tell"
        raise ConfigError("source", str(path), problem, "the run's folder")
    if ":" in model_name or model_name == "module":
        problem = "has a model that code of others builds"
        raise ConfigError("source", str(path), problem, "the run's folder, which names that code")
    model = find("model", model_name).parse(given)
    assert isinstance(model, Model)
    network = model.build(spec)
    try:
        network.load_state_dict(read_tensors(path, digest, finite=True))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: is of another model ({error})") from error
    return Exported(spec, network.eval(), scale, shift, tuple(card.get("classes", ())))
