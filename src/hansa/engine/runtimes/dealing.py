"""The parties of a run on one machine: one plan for all, and a private file for each holder.

Who prepared a run deals it: its plan and one holding a worker, in a folder of the run's that only
the user may read and that is gone when the run ends, however it ends; if this process is killed,
when the run goes on. Workers open the plan and their own holding, and load no data.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.bundle import bundle_file, map_bundle, write_bundle
from hansa.base.errors import ConfigError
from hansa.base.files import writing
from hansa.base.lazy import torch
from hansa.data.dataset import Planted
from hansa.engine.holding import Holding
from hansa.engine.job import Job
from hansa.engine.runtimes.carried import carried, carried_files, carry, files_of
from hansa.engine.runtimes.plan_file import NAME, read_plan, split_of, split_tensors, write_plan

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "parties"
"""Where in a run's folder they are while it goes on."""


def deal(
    run: Path,
    job: Job,
    groups: Sequence[np.ndarray],
    secrets: Sequence[bytes] | None = None,
    carries: bool = False,
) -> None:
    """Write what each worker needs, and nobody's examples twice.

    Args:
        run: the run's folder; what an earlier deal left there is removed.
        groups: ids of the nodes of each worker.
        secrets: of each worker, for its own draws; None: the run's seed decides them.
        carries: workers are on machines that may lack the code and the tables that the plan names,
            so these are dealt to all.

    Raises:
        ConfigError: the model was given as it is, so that no other process can build it.
        DiskError: the disk is full or fails.
    """
    if job.form is None:
        problem = "the model is an object of this process, which no worker can build"
        raise ConfigError("runtime", None, problem, "runtime: simulate")
    remove_dealt(run)
    folder = run / FOLDER
    with writing(folder):
        folder.mkdir(mode=0o700)
    plan = job.plan
    write_plan(folder, plan)
    if carries:
        carry(folder, files_of(plan))
    for index, ids in enumerate(groups):
        secret = None if secrets is None else secrets[index]
        _write_holding(folder / _name(index), job.holding(ids, secret))


def party(run: Path, index: int) -> Job:
    """The job of a worker, from the plan and its own holding.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    folder = run / FOLDER
    plan = read_plan(folder, carried(folder))
    job = Job.of(plan, _read_holding(folder / _name(index), plan.dataset.planted))
    job.dataset = job.dataset.to(torch.device(plan.device))
    return job


def dealt_to(folder: Path, index: int) -> list[Path]:
    """The files that a worker needs, in the folder of what was dealt."""
    return [*_bundles(folder, index), *carried_files(folder)]


def remove_bundles(run: Path, index: int) -> None:
    """Remove the plan and a worker's holding, which stay with who has mapped them."""
    for path in _bundles(run / FOLDER, index):
        path.unlink(missing_ok=True)


def remove_dealt(run: Path) -> None:
    """Take away what was dealt in a run's folder, if anything was."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _bundles(folder: Path, index: int) -> list[Path]:
    return [bundle_file(folder / name) for name in (NAME, _name(index))]


def _name(index: int) -> str:
    return f"worker-{index}"


def _write_holding(path: Path, holding: Holding) -> None:
    tensors = split_tensors(holding.train, "train")
    tensors["numbers"] = torch.from_numpy(holding.numbers)
    for name, parts in (("parts", holding.parts), ("held", holding.held)):
        tensors[name] = _joined(parts)
    for k, one in enumerate(holding.planted):
        tensors[f"planted.{k}"] = torch.from_numpy(np.stack([one.index, one.before, one.labels]))
    facts = {
        "clients": holding.clients.tolist(),
        "sizes": [len(part) for part in holding.parts],
        "held_sizes": [len(part) for part in holding.held],
        "planted": len(holding.planted),
        "secret": None if holding.secret is None else holding.secret.hex(),
    }
    write_bundle(path, facts, tensors, private=True)


def _read_holding(path: Path, markers: Sequence[Planted]) -> Holding:
    facts, tensors = map_bundle(path)
    train, clients = split_of(tensors, "train"), np.array(facts["clients"], dtype=np.int64)
    assert train is not None
    mine = [one for one in markers if one.client in clients]
    planted = []
    for k in range(facts["planted"]):
        rows = tensors[f"planted.{k}"].numpy()
        planted.append(Planted(mine[k].marker, mine[k].client, *rows))
    parts = _split(tensors["parts"], facts["sizes"])
    held = _split(tensors["held"], facts["held_sizes"])
    secret = facts["secret"] and bytes.fromhex(facts["secret"])
    return Holding(clients, train, parts, tensors["numbers"].numpy(), held, tuple(planted), secret)


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))


def _split(joined: Tensor, sizes: list[int]) -> tuple[np.ndarray, ...]:
    return tuple(np.split(joined.numpy(), np.cumsum(sizes)[:-1])) if sizes else ()
