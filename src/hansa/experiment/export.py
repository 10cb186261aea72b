"""A trained model as plain files, for those who do not have hansa.

The ending of a file says its form: ``.safetensors`` (numbers by name), ``.onnx`` (a graph that any
ONNX runtime runs, scaling built in); a folder holds the numbers, the facts and a model card, or
what the model's own library writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import read_facts, read_tensors, write_tensors
from hansa.base.component import find
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import write_json, writing
from hansa.base.spec import DataSpec
from hansa.data import Dataset
from hansa.data.signature import Signature
from hansa.experiment.deliverable import Deliverable
from hansa.experiment.model_card import write_card
from hansa.experiment.trained import TrainedRun
from hansa.models.model import Model, built
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

TENSORS, GRAPH = ".safetensors", ".onnx"
WEIGHTS, FACTS, CARD = "model.safetensors", "hansa.json", "README.md"
"""What a folder of a model holds; a card of that name is what model hubs show."""


def open_run(path: str | Path) -> RunFolder:
    """A run that there is, as :func:`hansa.run` returned it.

    Its figures are ``run.summary`` and ``run.metrics()``, a picture is ``run.plot()``, what it
    made is ``run.model()``, ``run.predict(data)`` and ``run.export(out)``; ``run.trained()`` is
    its data and every node's state.

    Raises:
        CheckpointError: it is no run folder, or a file in it is corrupt.
    """
    return RunFolder.open(path)


def export(
    run: RunFolder | TrainedRun | str | Path,
    out: str | Path,
    node: int | None = None,
    average: bool = False,
    merged: bool = False,
    card: bool = False,
    **which: Any,
) -> Path:
    """Write what a run made for those who do not have hansa.

    Args:
        run: the run, or its folder.
        out: a new file, ``NAME.safetensors`` or ``NAME.onnx``; the facts go to ``NAME.json`` or
            ``NAME.onnx.json``. Or a
            new folder, with a model card in it; of a model of transformers as transformers or PEFT
            writes it.
        node: whose model, where there are several.
        average: the average of all models.
        merged: adapters are added to what they adapt, and a whole model is written.
        card: write a model card beside a file too, ``NAME.md``.
        which: what else says which model (:class:`hansa.report.which.Which`).

    Returns:
        The file with the facts.

    Raises:
        ConfigError: there are several models and none is named, or a file is there already.
        DiskError: the disk is full or fails.
    """
    folder = run.folder if isinstance(run, TrainedRun) else run
    if not isinstance(folder, RunFolder):
        folder = RunFolder.open(folder)
    return folder.export(out, node, average, merged, card, **which)


def facts_file(path: Path) -> Path:
    """Where the facts of a file of a model are: beside it."""
    return path.with_suffix(".onnx.json" if path.suffix == GRAPH else ".json")


def check_out(path: Path, merged: bool, card: bool = False) -> None:
    """Refuse a place for a model before any work.

    Raises:
        ConfigError: it is of another form, or there already.
    """
    if path.suffix not in (TENSORS, GRAPH):
        if "." in path.name[1:]:
            problem = "is no file of tensors"
            fix = f"a name such as model{TENSORS} or model{GRAPH}, or a folder"
            raise ConfigError("out", str(path), problem, fix)
        if path.exists():
            raise ConfigError("out", str(path), "is there already", "another name")
        return
    if merged:
        problem, fix = "is a file of all tensors by name", "a new folder: --out DIR"
        raise ConfigError("out", str(path), problem, fix)
    for file in (path, facts_file(path), *([path.with_suffix(".md")] if card else [])):
        if file.exists():
            raise ConfigError("out", str(path), f"{file} is there already", "another name")
    if path.suffix == GRAPH:
        from hansa.experiment.onnx_graph import require_onnx

        require_onnx(path)


def deliver(
    one: Deliverable, run: RunFolder, path: Path, merged: bool = False, card: bool = False
) -> Path:
    """Write one network; returns the file with the facts.

    Raises:
        ConfigError: there is no such form of it.
        DiskError: the disk is full or fails.
    """
    told = {**one.facts, **facts_of_network(one)}
    if path.suffix != GRAPH and one.form is None and "members" in one.facts:
        problem = f"is {told['members']} networks under a rule, which no file of numbers can say"
        fix = f"--out model{GRAPH}; --node N for one of them; of an ensemble a folder: --out DIR"
        raise ConfigError("out", str(path), problem, fix)
    if path.suffix == GRAPH:
        from hansa.experiment.onnx_graph import write_onnx

        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            told |= write_onnx(one.module, one.signature, path, told)
        place = facts_file(path)
        write_json(place, told)
    elif path.suffix == TENSORS:
        place = write_export(path, one.module, told)
    else:
        return _deliver_folder(one, run, path, merged, told)
    if card:
        write_card(path.with_suffix(".md"), run, told, path.name)
    return place


def _deliver_folder(
    one: Deliverable, run: RunFolder, path: Path, merged: bool, told: dict[str, Any]
) -> Path:
    """Write a network as a folder of its own library, or of plain files, with a card in it."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if one.form is not None and one.form.own_folder:
            one.form.write_folder(one.module, part, merged)
        elif merged:
            problem = "has no adapters that could be added to a base"
            raise ConfigError("merged", True, f"the model {problem}", "leave it out")
        else:
            part.mkdir()
            told["sha256"] = write_tensors(part / WEIGHTS, one.module.state_dict())
        write_json(part / FACTS, told)
        write_card(part / CARD, run, told, WEIGHTS)
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
    facts = path.with_suffix(".json")
    write_json(facts, {**told, "sha256": digest})
    return facts


def facts_of_network(one: Deliverable) -> dict[str, Any]:
    """What a network is and what inputs it takes, in plain data."""
    count = sum(p.numel() for p in one.module.parameters())
    form = {} if one.form is None else {"model": one.form.dump()}
    return {**form, "parameters": count, **one.signature.facts()}


def facts_of(data: Dataset, model: Model, module: nn.Module) -> dict[str, Any]:
    """The same of a network on a data set."""
    return facts_of_network(Deliverable(module, Signature.of(data), {}, model))


@dataclass(frozen=True)
class Exported:
    """A model that was exported.

    Attributes:
        network: to evaluate.
        signature: what it takes and gives.
    """

    network: nn.Module
    signature: Signature

    @property
    def spec(self) -> DataSpec:
        """The form of its inputs."""
        return self.signature.spec

    @property
    def scale(self) -> Tensor | None:
        """The network reads ``stored * scale + shift``, where they are."""
        return self.signature.scale

    @property
    def shift(self) -> Tensor | None:
        """See ``scale``."""
        return self.signature.shift

    @property
    def class_names(self) -> tuple[str, ...]:
        """One a class, or none."""
        return self.signature.class_names


def open_export(path: Path, trust: bool = False) -> Exported:
    """The model in a file or a folder of :func:`export`, with its facts.

    Args:
        trust: also build what code of others builds, by its import path.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: the model is built by code of others, or its inputs are not told.
    """
    facts_file = path / FACTS if path.is_dir() else path.with_suffix(".json")
    weights = path / WEIGHTS if path.is_dir() else path
    card = read_facts(facts_file, "hansa export writes both files")
    signature = Signature.of_facts(card, str(facts_file))
    spec = signature.spec
    if "sha256" in card and "model" not in card:
        problem = "holds the numbers of a network whose form its facts do not tell"
        raise ConfigError("source", str(path), problem, "the run's folder, or an .onnx file of it")
    if "model" in card and "sha256" not in card:
        problem = "is as its own library writes it, transformers or PEFT, which opens it"
        raise ConfigError("source", str(path), problem, "the run's folder")
    if weights.suffix != TENSORS or not weights.is_file():
        problem = "holds no tensors that hansa could build a model of"
        raise ConfigError("source", str(path), problem, "a .safetensors file of hansa export")
    try:
        given = dict(card["model"])
        model_name, digest = str(given.pop("name")), str(card["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{facts_file}: is not what hansa export writes ({error!r})"
        ) from error
    if spec.kind in ("tokens", "pairs") and not spec.vocabulary:
        problem = f"takes {spec.kind}, whose ids its facts do not tell"
        raise ConfigError("source", str(path), problem, "the run's folder")
    if (":" in model_name or model_name == "module") and not trust:
        problem = "has a model that code of others builds"
        fix = "the run's folder, which names that code; or --trust, if you trust it"
        raise ConfigError("source", str(path), problem, fix)
    model = find("model", model_name).parse(given)
    assert isinstance(model, Model)
    network = built(model, spec)
    try:
        network.load_state_dict(read_tensors(weights, digest, finite=True))
    except RuntimeError as error:
        raise CheckpointError(f"{weights}: is of another model ({error})") from error
    return Exported(network.eval(), signature)
