"""A job as a bundle in its run's folder, so that any worker hosts a block of it: plain data and
tensors, no code.

Its facts are components by name, sizes and the seed; its tensors are the examples, their split over
the nodes and the model's first numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file, read_bundle, write_bundle
from hansa.base.errors import CheckpointError
from hansa.base.lazy import torch
from hansa.base.modules import load_module
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data.dataset import Dataset, Split
from hansa.engine.algorithm import Algorithm
from hansa.engine.exchange.attackers import Attackers
from hansa.engine.job import Job
from hansa.engine.network import Network
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
from hansa.engine.time.clock import Clock
from hansa.ensemble.attacks import Attack
from hansa.models.model import Model
from hansa.topology.topology import Topology

if TYPE_CHECKING:
    from torch import Tensor

NAME = "job"
_SPLITS = ("train", "validation", "test", "public")
_NUMBERS = ("scale", "shift")


def save_job(path: Path, job: Job, form: Model, plugins: Sequence[str] = ()) -> None:
    """Write a job into its run's folder.

    Args:
        form: builds its module.
        plugins: modules or files that components come from; workers load them first.
    """
    data = job.dataset
    tensors = {f"module.{name}": value.clone() for name, value in job.module.state_dict().items()}
    for name in _SPLITS:
        split: Split | None = getattr(data, name)
        if split is not None:
            tensors |= {f"{name}.inputs": split.inputs, f"{name}.targets": split.targets}
    tensors |= {name: getattr(data, name) for name in _NUMBERS if getattr(data, name) is not None}
    tensors |= {"parts": _joined(job.parts), "held": _joined(job.held)}
    facts = {
        "form": form.dump(),
        "plugins": list(plugins),
        "rounds": job.rounds,
        "seed": job.streams.seed,
        "data": data.name,
        "spec": asdict(data.spec),
        "sizes": [len(part) for part in job.parts],
        "held_sizes": [len(part) for part in job.held],
        "attackers": None if job.attackers is None else _attackers(job.attackers),
        "topology": job.network.topology.dump(),
        "servers": job.servers,
        "algorithm": job.algorithm.dump(),
        "clock": job.clock.dump(),
        "train": _settings(job.train, TrainSettings),
        "evaluate": _settings(job.evaluate, EvaluateSettings),
        "checkpoint": _settings(job.checkpoint, CheckpointSettings),
        "strategy": job.strategy,
        "device": job.device,
    }
    write_bundle(path / NAME, facts, tensors)


def has_job(path: Path) -> bool:
    """Whether a run's folder holds its job."""
    return bundle_file(path / NAME).exists()


def remove_job(path: Path) -> None:
    """Take a job out of a run's folder, if there is one."""
    bundle_file(path / NAME).unlink(missing_ok=True)


def load_job(path: Path) -> Job:
    """The job in a run's folder.

    Raises:
        CheckpointError: it is damaged.
    """
    facts, tensors = read_bundle(path / NAME)
    for plugin in facts["plugins"]:
        load_module(plugin)
    form = facts["spec"]
    spec = DataSpec(
        form["kind"], tuple(form["shape"]), form["outputs"], form["task"], tuple(form["vocabulary"])
    )
    splits = {
        name: Split(tensors[f"{name}.inputs"], tensors[f"{name}.targets"])
        if f"{name}.inputs" in tensors
        else None
        for name in _SPLITS
    }
    train, test = splits["train"], splits["test"]
    assert train is not None
    assert test is not None
    dataset = Dataset(
        facts["data"], spec, train, splits["validation"], test, public=splits["public"],
        scale=tensors.get("scale"), shift=tensors.get("shift"),
    )  # fmt: skip
    module = Model.resolve(facts["form"]).build(spec)
    state = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path / NAME}: is of another model ({error})") from error
    attackers = None
    if attack := facts["attackers"]:
        attackers = Attackers(Attack.resolve(attack["attack"]), np.array(attack["nodes"]))
    parts = _split(tensors["parts"], facts["sizes"])
    streams, topology = Streams(facts["seed"]), Topology.resolve(facts["topology"])
    return Job(
        rounds=facts["rounds"],
        streams=streams,
        dataset=dataset.to(torch.device(facts["device"])),
        parts=parts,
        module=module,
        network=Network(topology, len(parts) + facts["servers"], streams, facts["servers"]),
        algorithm=Algorithm.resolve(facts["algorithm"]),
        clock=Clock.resolve(facts["clock"]),
        train=TrainSettings.model_validate(facts["train"]),
        evaluate=EvaluateSettings.model_validate(facts["evaluate"]),
        checkpoint=CheckpointSettings.model_validate(facts["checkpoint"]),
        held=_split(tensors["held"], facts["held_sizes"]),
        attackers=attackers,
        strategy=facts["strategy"],
        device=facts["device"],
    )


def _attackers(attackers: Attackers) -> dict[str, Any]:
    return {"attack": attackers.attack.dump(), "nodes": attackers.nodes.tolist()}


def _settings(group: Any, kind: type[Any]) -> dict[str, Any]:
    """A group's settings, without what a verb has put beside them."""
    found = group.model_dump(mode="json")
    return {name: found[name] for name in kind.model_fields}


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))


def _split(joined: Tensor, sizes: list[int]) -> list[np.ndarray]:
    return np.split(joined.numpy(), np.cumsum(sizes)[:-1]) if sizes else []
