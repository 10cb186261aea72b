"""A job as a file, so that worker processes build the same one: plain data and tensors, no code.

::

    job.json           components by name, sizes, seed
    job.safetensors    examples, their split over the nodes, the model's first numbers
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.component import find, load_module
from hansa.base.errors import CheckpointError
from hansa.base.files import sha256, write_json
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.combine.ensemble.tensors import fill, read_tensors, write_tensors
from hansa.data import Dataset, Split
from hansa.engine import (
    Algorithm,
    CheckpointSettings,
    EvaluateSettings,
    Job,
    Network,
    TrainSettings,
    WallClock,
)
from hansa.ensemble import Panel, Rule
from hansa.models import Model
from hansa.topology import Topology

if TYPE_CHECKING:
    from torch import nn

NAME = "job"


def panel_form(rule: Rule, panel: Panel) -> dict[str, Any]:
    """A learned rule's module as plain data."""
    counts = None if panel.counts is None else panel.counts.tolist()
    facts = {"members": panel.members, "outputs": panel.outputs, "shape": list(panel.shape)}
    return {"rule": rule.dump(), "panel": facts | {"counts": counts}}


def save_job(path: Path, job: Job, form: Mapping[str, Any], plugins: Sequence[str]) -> None:
    """Write a job into a run's folder.

    Args:
        form: what its module is built from: a ``model``, or a ``rule`` with its ``panel``.
        plugins: modules or files that components come from.
    """
    data = job.dataset
    tensors = {f"module.{name}": value.clone() for name, value in job.module.state_dict().items()}
    for name, split in (("train", data.train), ("test", data.test)):
        tensors |= {f"{name}.inputs": split.inputs, f"{name}.targets": split.targets}
    if data.scale is not None and data.shift is not None:
        tensors |= {"scale": data.scale, "shift": data.shift}
    tensors["parts"] = torch.from_numpy(np.concatenate(list(job.parts)))
    file = path / f"{NAME}.safetensors"
    write_tensors(file, tensors)
    train = job.train.model_dump(mode="json")
    write_json(
        path / f"{NAME}.json",
        {
            "sha256": sha256(file),
            "form": dict(form),
            "plugins": list(plugins),
            "rounds": job.rounds,
            "seed": job.streams.seed,
            "data": data.name,
            "spec": asdict(data.spec),
            "sizes": [len(part) for part in job.parts],
            "topology": job.network.topology.dump(),
            "servers": job.servers,
            "algorithm": job.algorithm.dump(),
            "train": {name: train[name] for name in TrainSettings.model_fields},
            "every": job.evaluate.every,
            "strategy": job.strategy,
            "device": job.device,
        },
    )


def remove_job(path: Path) -> None:
    """Take a job out of a run's folder, if there is one."""
    for suffix in (".json", ".safetensors"):
        (path / NAME).with_suffix(suffix).unlink(missing_ok=True)


def load_job(path: Path) -> Job:
    """The job in a run's folder.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        card = json.loads((path / f"{NAME}.json").read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / NAME}.json: is missing or not whole ({error})") from error
    for plugin in card["plugins"]:
        load_module(plugin)
    file = path / f"{NAME}.safetensors"
    tensors = read_tensors(file, card["sha256"])
    facts = card["spec"]
    spec = DataSpec(
        facts["kind"],
        tuple(facts["shape"]),
        facts["outputs"],
        facts["task"],
        tuple(facts["vocabulary"]),
    )
    splits = [Split(tensors[f"{k}.inputs"], tensors[f"{k}.targets"]) for k in ("train", "test")]
    scale, shift = tensors.get("scale"), tensors.get("shift")
    dataset = Dataset(card["data"], spec, splits[0], None, splits[1], scale, shift)
    module = _module(card["form"], spec)
    state = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    fill(module, state, file)
    cuts = np.cumsum(card["sizes"])[:-1]
    parts = np.split(tensors["parts"].numpy(), cuts)
    streams, topology = Streams(card["seed"]), Topology.resolve(card["topology"])
    return Job(
        rounds=card["rounds"],
        streams=streams,
        dataset=dataset.to(torch.device(card["device"])),
        parts=parts,
        module=module,
        network=Network(topology, len(parts) + card["servers"], streams, card["servers"]),
        algorithm=Algorithm.resolve(card["algorithm"]),
        clock=WallClock(),
        train=TrainSettings.model_validate(card["train"]),
        evaluate=EvaluateSettings(every=card["every"], dense_start=False, average_model=False),
        checkpoint=CheckpointSettings(every=card["rounds"], keep=1),
        strategy=card["strategy"],
        device=card["device"],
    )


def _module(form: Mapping[str, Any], spec: DataSpec) -> nn.Module:
    if "model" in form:
        return Model.resolve(form["model"]).build(spec)
    given = dict(form["rule"])
    rule = find("rule", str(given.pop("name"))).parse(given)
    assert isinstance(rule, Rule)
    known = form["panel"]
    counts = None if known["counts"] is None else torch.tensor(known["counts"])
    panel = Panel(known["members"], known["outputs"], counts, tuple(known["shape"]))
    return rule.build(panel, None)  # rules that are learned count no votes
