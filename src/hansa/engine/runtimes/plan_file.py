"""A plan as a bundle, so that any process can read it: plain data and tensors, no code.

Its facts are components by name, sizes and the seed; its tensors are the examples that all may see
and the model's first numbers. Whoever opens it maps these: workers on one machine share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import map_bundle, write_bundle
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.lazy import torch
from hansa.base.modules import load_module
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data.dataset import Dataset, Planted, Split
from hansa.data.markers import Marker
from hansa.engine.algorithm import Algorithm
from hansa.engine.exchange.attackers import Attackers
from hansa.engine.exchange.faults import Faults
from hansa.engine.links.shaping import Shaping
from hansa.engine.network import Network
from hansa.engine.plan import Plan
from hansa.engine.runtimes.carried import relocated
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
from hansa.engine.time.clock import Clock
from hansa.engine.training.trial import Tried
from hansa.engine.until import UntilSettings
from hansa.ensemble.attacks import Attack
from hansa.models import frozen_digest, frozen_tensors, initial_model
from hansa.models.model import Model
from hansa.privacy.privacy import Privacy
from hansa.topology.topology import Topology

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "plan"
_TUPLES = ("shape", "vocabulary", "scale", "labels", "amounts")
_SPLITS = ("train", "validation", "test", "public")


def write_plan(folder: Path, plan: Plan) -> None:
    """Write a plan into a folder.

    Raises:
        DiskError: the disk is full or fails.
    """
    assert plan.form is not None, "a module without a form cannot be built elsewhere"
    assert plan.trial is not None, "a plan says what the model does"
    own, frozen = plan.module.state_dict(), frozen_tensors(plan.module)
    if plan.form.pretrained:  # whoever builds it has them from the same files
        own = {k: value for k, value in own.items() if k not in frozen}
    module = {f"module.{k}": value.clone() for k, value in own.items()}
    facts = {
        "form": plan.form.dump(),
        "frozen": frozen_digest(plan.module),
        "plugins": list(plan.plugins),
        "rounds": plan.rounds,
        "seed": plan.streams.seed,
        "data": data_facts(plan.dataset),
        "attackers": None if plan.attackers is None else _attackers(plan.attackers),
        "faults": None if plan.faults is None else plan.faults.model_dump(mode="json"),
        "shaping": None if plan.shaping is None else plan.shaping.model_dump(mode="json"),
        "privacy": None if plan.privacy is None else plan.privacy.dump(),
        "until": None if plan.until is None else plan.until.model_dump(mode="json"),
        "topology": plan.network.topology.dump(),
        "nodes": plan.nodes,
        "servers": plan.servers,
        "algorithm": plan.algorithm.dump(),
        "clock": plan.clock.dump(),
        "train": _settings(plan.train, TrainSettings),
        "evaluate": _settings(plan.evaluate, EvaluateSettings),
        "checkpoint": _settings(plan.checkpoint, CheckpointSettings),
        "strategy": plan.strategy,
        "device": plan.device,
        "trial": asdict(plan.trial),
    }
    tensors = module | data_tensors(plan.dataset)
    write_bundle(folder / NAME, facts, tensors, private=True)


def read_plan(folder: Path, places: Mapping[str, str] | None = None) -> Plan:
    """The plan in a folder.

    Args:
        places: where files are here that the plan names, by their paths where it was written.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    facts, tensors = map_bundle(folder / NAME)
    facts = relocated(facts, places or {})
    for plugin in facts["plugins"]:
        load_module(plugin)
    dataset, streams = data_of(facts["data"], tensors), Streams(facts["seed"])
    form = Model.resolve(facts["form"])
    module = initial_model(form, dataset.spec, streams)
    state = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    _take(module, state, folder / NAME)
    if frozen_digest(module) != facts["frozen"]:
        problem = "has other frozen numbers here than where the run was prepared"
        raise ConfigError("model", form.name, problem, "the same files of the model everywhere")
    faults = None if facts["faults"] is None else Faults.model_validate(facts["faults"])
    away = {} if faults is None else faults.away
    attackers = None
    if attack := facts["attackers"]:
        attackers = Attackers(Attack.resolve(attack["attack"]), np.array(attack["nodes"]))
    trial = facts["trial"] | {"counters": tuple(facts["trial"]["counters"])}
    topology = Topology.resolve(facts["topology"])
    return Plan(
        rounds=facts["rounds"],
        streams=streams,
        dataset=dataset.to(torch.device(facts["device"])),
        module=module,
        network=Network(topology, facts["nodes"], streams, facts["servers"], away),
        algorithm=Algorithm.resolve(facts["algorithm"]),
        clock=Clock.resolve(facts["clock"]),
        train=TrainSettings.model_validate(facts["train"]),
        evaluate=EvaluateSettings.model_validate(facts["evaluate"]),
        checkpoint=CheckpointSettings.model_validate(facts["checkpoint"]),
        strategy=facts["strategy"],
        device=facts["device"],
        attackers=attackers,
        faults=faults,
        shaping=None if facts["shaping"] is None else Shaping.model_validate(facts["shaping"]),
        privacy=None if facts["privacy"] is None else Privacy.resolve(facts["privacy"]),
        until=None if facts["until"] is None else UntilSettings.model_validate(facts["until"]),
        form=form,
        plugins=tuple(facts["plugins"]),
        trial=Tried(**trial),
    )


def _take(module: nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    """Give a module its first numbers; frozen ones stay mapped, for all workers to share."""
    frozen = frozen_tensors(module)
    own = {name: value for name, value in state.items() if name not in frozen}
    try:
        lacking, strange = module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{where}: is of another model ({error})") from error
    lacking = [name for name in lacking if name not in frozen]
    if lacking or strange:
        raise CheckpointError(f"{where}: is of another model ({(lacking + strange)[0]})")
    for name, parameter in frozen.items():
        if name in state:
            if state[name].shape != parameter.shape:
                raise CheckpointError(f"{where}: is of another model ({name})")
            parameter.data = state[name]


# -- what all know of the data


def data_facts(data: Dataset) -> dict[str, Any]:
    """The form and the names of a data set, as JSON holds them."""
    return {
        "name": data.name,
        "spec": asdict(data.spec),
        "class_names": list(data.class_names),
        "group_names": list(data.group_names),
        "notes": list(data.notes),
        "features": list(data.features),
        "planted": [{"marker": p.marker.dump(), "client": p.client} for p in data.planted],
    }


def data_tensors(data: Dataset) -> dict[str, Tensor]:
    """The splits and the global figures of a data set."""
    tensors = {"scale": data.scale, "shift": data.shift}
    tensors["fill"] = None if data.fill is None else torch.from_numpy(data.fill)
    tensors["lowest"], tensors["highest"] = (values.clone() for values in data.limits)
    for name in _SPLITS:
        split: Split | None = getattr(data, name)
        if split is not None:
            tensors |= split_tensors(split, name)
    return {name: value for name, value in tensors.items() if value is not None}


def data_of(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Dataset:
    """The data set of :func:`data_facts` and :func:`data_tensors`."""
    form, none = facts["spec"], np.zeros(0, dtype=np.int64)
    splits = {name: split_of(tensors, name) for name in _SPLITS}
    train, test = splits["train"], splits["test"]
    assert train is not None
    assert test is not None
    return Dataset(
        name=facts["name"],
        spec=DataSpec(**form | {k: tuple(form[k]) for k in _TUPLES}),
        train=train,
        validation=splits["validation"],
        test=test,
        public=splits["public"],
        scale=tensors.get("scale"),
        shift=tensors.get("shift"),
        class_names=tuple(facts["class_names"]),
        group_names=tuple(facts["group_names"]),
        notes=tuple(facts["notes"]),
        features=tuple(facts["features"]),
        planted=tuple(
            Planted(Marker.resolve(p["marker"]), p["client"], none, none, none)
            for p in facts["planted"]
        ),
        fill=tensors["fill"].numpy() if "fill" in tensors else None,
        known_limits=(tensors["lowest"], tensors["highest"]),
    )


def split_tensors(split: Split, name: str) -> dict[str, Tensor]:
    """A split's tensors under names that begin with its own."""
    tensors = {f"{name}.inputs": split.inputs, f"{name}.targets": split.targets}
    if split.groups is not None:
        tensors[f"{name}.groups"] = torch.from_numpy(split.groups)
    return tensors


def split_of(tensors: dict[str, Tensor], name: str) -> Split | None:
    """The split of :func:`split_tensors`, or None."""
    if f"{name}.inputs" not in tensors:
        return None
    groups = tensors.get(f"{name}.groups")
    return Split(
        tensors[f"{name}.inputs"],
        tensors[f"{name}.targets"],
        None if groups is None else groups.numpy(),
    )


def _attackers(attackers: Attackers) -> dict[str, Any]:
    return {"attack": attackers.attack.dump(), "nodes": attackers.nodes.tolist()}


def _settings(group: Any, kind: type[Any]) -> dict[str, Any]:
    """A group's settings, without what a verb has put beside them."""
    dumped = group.model_dump(mode="json")
    return {name: dumped[name] for name in kind.model_fields}
