"""A run that was trained, opened: its settings, its nodes, and the models that it came to."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.engine import BySite
from hansa.engine.block import Block
from hansa.engine.job import Job
from hansa.engine.runtimes.checkpoint import latest, load_block, read_manifest
from hansa.experiment.inputs import check_inputs
from hansa.experiment.prepare import prepare
from hansa.experiment.runfile import RunFile
from hansa.experiment.start import ENDED
from hansa.experiment.whose_run import command_of, made_of
from hansa.models import ParameterLayout
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

CHANGES, STATE = "requests", "state"
"""Where a run folder keeps what changed the run after its end, a numbered folder each, and in it
the checkpoint of the run as it was left."""


@dataclass
class TrainedRun:
    """A run that came to its end, as it is now.

    Attributes:
        block: the nodes that keep a model, with the run's outcome: where there are servers, these
            alone. What their clients keep is nothing to who asks for a model.
        done: how many rounds it did.
        checkpoint: where all nodes are.
    """

    folder: RunFolder
    settings: RunFile
    job: Job
    block: Block
    done: int
    checkpoint: Path

    def module(self, node: int | None = None, average: bool = False) -> nn.Module:
        """The network that the run came to, or that of one of its nodes, to evaluate.

        Args:
            node: whose, where there are several.
            average: the average of all of them.

        Raises:
            ConfigError: there are several models and none is named, or there is no such node.
        """
        name, rows = self.folder.path.name, self.block.models()[1]
        return chosen_module(self.job.module, rows, tuple(range(len(rows))), name, node, average)


def chosen_module(
    blank: nn.Module,
    rows: Tensor,
    ids: Sequence[int],
    name: str,
    node: int | None,
    average: bool,
) -> nn.Module:
    """One of several networks of a form, or their average, to evaluate.

    Args:
        rows: float32 [k, D], a model each.
        ids: k of them, what each is asked for by.
        name: what the run is called.

    Raises:
        ConfigError: there are several models and none is named, or there is no such node.
    """
    if average and node is not None:
        raise ConfigError("node", node, "is one of those that are averaged", "one of the two")
    if average:
        rows = rows.double().mean(0, keepdim=True).float()
    known = f"a number from 0 to {len(ids) - 1}"
    if tuple(ids) != tuple(range(len(ids))):
        known = "one of " + ", ".join(map(str, ids[:8])) + " ..." * (len(ids) > 8)
    if node is None and len(rows) > 1:
        problem = f"{name} has a model of each of {len(rows)} nodes"
        raise ConfigError("node", None, problem, f"{known}, or their average")
    if node is not None and node not in ids:
        raise ConfigError("node", node, f"{name} has {len(ids)} models", known)
    module = copy.deepcopy(blank)
    at = 0 if node is None or average else list(ids).index(node)
    ParameterLayout.of(module).load_(module, rows[at].cpu())
    return module.eval()


def settings_of(
    folder: RunFolder,
    field: str = "run",
    fix: str = "the folder of a run",
    kind: type[RunFile] = RunFile,
) -> RunFile:
    """The file of a run of ``hansa learn``, or of another verb that trains.

    Raises:
        ConfigError: it is another verb's folder; names ``field``.
    """
    verb = folder.config.get("verb", RunFile.own_verb())
    if verb != kind.own_verb() or "algorithm" not in folder.config:
        other = command_of(folder.config)
        problem = f"is not the folder of a run of hansa {kind.command}"
        if other != kind.command:
            problem += f" but of hansa {other}"
        if run := made_of(folder.config):
            fix = f"the run that it was made of: {run}"
        raise ConfigError(field, str(folder.path), problem, fix)
    return kind.parse(folder.config)


def open_trained(folder: RunFolder, chosen: RunFile, field: str = "run") -> TrainedRun:
    """A run in its present state: as trained, or as its last change left it.

    Raises:
        CheckpointError: its checkpoint is damaged.
        ConfigError: it has not come to its end, it was saved nowhere, or its data are others now.
    """
    path = str(folder.path)
    checkpoint = checked_end(folder, chosen, field)
    if chosen.runtime.name == BySite.name:
        problem = "is one site's folder, which does not keep what the others told of their tables"
        fix = f"its own models: hansa export {path}, hansa predict {path} DATA"
        raise ConfigError(field, path, problem, fix)
    job = prepare(chosen)
    check_inputs(folder, chosen, job.dataset, job.parts)
    block = job.block(np.arange(job.network.clients if job.servers else 0, job.nodes))
    manifest = read_manifest(checkpoint)
    load_block(block, checkpoint, manifest)
    if block.outcome is None and (folder.summary or {}).get("status") == "finished":
        problem = "has a checkpoint that does not say what the run came to: an older hansa wrote it"
        fix = f"some rounds more: hansa {chosen.command} --resume {folder.path} --set rounds=N"
        raise ConfigError(field, path, problem, fix)
    return TrainedRun(folder, chosen, job, block, int(manifest["round"]), checkpoint)


def checked_end(folder: RunFolder, chosen: RunFile, field: str = "run") -> Path:
    """The checkpoint that a run came to its end with.

    Raises:
        ConfigError: it has not come to its end, or was saved nowhere.
    """
    path = str(folder.path)
    if (folder.summary or {}).get("status") not in ENDED:
        fix = f"hansa {chosen.command} --resume {folder.path}"
        raise ConfigError(field, path, "has not finished training", fix)
    checkpoint = present_checkpoint(folder.path)
    if checkpoint is None:
        fix = "train with checkpoint.every above 0"
        raise ConfigError(field, path, "has no checkpoint with its model", fix)
    return checkpoint


def changes_of(path: Path) -> list[Path]:
    """The folders of what changed a run after its end, oldest first."""
    return sorted(p for p in (path / CHANGES).glob("[0-9]*") if p.is_dir())


def present_checkpoint(path: Path) -> Path | None:
    """The checkpoint of a run folder's present state, or None."""
    changes = changes_of(path)
    return latest(changes[-1] / STATE if changes else path / "checkpoints")
