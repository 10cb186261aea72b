"""The models that a run came to, out of its folder alone: its data need not be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.lazy import safetensors, torch
from hansa.base.streams import Streams
from hansa.data import Dataset
from hansa.data.signature import SIGNATURE, Signature
from hansa.engine.runtimes.checkpoint import read_manifest
from hansa.engine.runtimes.sealer import opened
from hansa.experiment.runfile import RunFile, run_kind
from hansa.experiment.trained import checked_end, chosen_module, open_trained, settings_of
from hansa.models import ParameterLayout, initial_model
from hansa.models.layout import frozen_digest
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class RunModels:
    """Models of one form.

    Attributes:
        blank: a network of that form, with its frozen numbers.
        rows: float32 [k, D], a model each.
        ids: k of them, what each model is asked for by: its node, or the place of its server.
        done: how many rounds the run did.
    """

    folder: RunFolder
    settings: RunFile
    signature: Signature
    blank: nn.Module
    rows: Tensor
    ids: tuple[int, ...]
    done: int

    def module(self, node: int | None = None, average: bool = False) -> nn.Module:
        """One network, to evaluate.

        Args:
            node: whose, where there are several.
            average: the average of all of them.

        Raises:
            ConfigError: there are several models and none is named, there is no such node, or the
                model's numbers are not finite.
        """
        name = self.folder.path.name
        module = chosen_module(self.blank, self.rows, self.ids, name, node, average)
        if not all(bool(p.isfinite().all()) for p in module.parameters()):
            problem = "diverged: the model holds numbers that are not finite"
            fix = "a run with a smaller train.optimizer.lr"
            raise ConfigError("run", str(self.folder.path), problem, fix)
        return module


def open_models(run: RunFolder, field: str = "run", kind: type[RunFile] | None = None) -> RunModels:
    """The models of a run in its present state: as trained, or as its last change left it.

    Raises:
        CheckpointError: its checkpoint is damaged.
        ConfigError: it has not come to its end, or was saved nowhere; or, of a run of an older
            hansa, its data are others now.
    """
    chosen = settings_of(run, field, kind=kind or run_kind(run.config))
    facts = run.read_json(SIGNATURE)
    if facts is None:  # an older hansa did not write it: the data say
        trained = open_trained(run, chosen, field)
        signature = Signature.of(trained.job.dataset, chosen.data)
        rows = trained.block.models()[1]
        ids = tuple(range(len(rows)))
        return RunModels(run, chosen, signature, trained.job.module, rows, ids, trained.done)
    checkpoint = checked_end(run, chosen, field)
    signature = Signature.of_facts(facts, f"{run.path / SIGNATURE}")
    blank = initial_model(chosen.model, signature.spec, Streams(chosen.seed))
    manifest = read_manifest(checkpoint)
    servers = chosen.algorithm.servers(chosen.nodes)
    first = chosen.nodes if servers else 0
    nodes, rows = _final(checkpoint, manifest, first, frozen_digest(blank))
    if not len(nodes):
        problem = f"holds no model: the servers, nodes {chosen.nodes} and up, live at another site"
        raise ConfigError(field, str(run.path), problem, "the folder of the server's site")
    layout = ParameterLayout.of(blank)
    if rows.shape[1] != layout.size:
        raise CheckpointError(f"{checkpoint} holds models of {rows.shape[1]} numbers, and this "
                              f"run's have {layout.size}")  # fmt: skip
    named = tuple((nodes - first).tolist())
    return RunModels(run, chosen, signature, blank, rows, named, int(manifest["round"]))


def write_signature(chosen: RunFile, data: Dataset, folder: RunFolder) -> None:
    """Leave in a run's folder what its models take and give, so that they can be used without
    its data."""
    folder.write_json(SIGNATURE, Signature.of(data, chosen.data).facts())


def _final(
    folder: Path, manifest: Mapping[str, Any], first: int, frozen: str
) -> tuple[np.ndarray, Tensor]:
    """(ids int64 [k], rows float32 [k, D]) of what nodes from ``first`` on came to."""
    every_ids, every_row = [], []
    for entry in manifest["files"]:
        if entry["nodes"][1] < first:
            continue
        path = folder / entry["file"]
        if entry.get("frozen", "") != frozen:
            problem = "was trained around other frozen numbers than this model has"
            raise CheckpointError(f"{path} {problem}; put back the files that it was built from")
        try:
            about = {"round": entry.get("sealed"), "nodes": entry["nodes"]}
            with opened(path, about, None) as file:
                names = set(file.keys())
                last = entry.get("outcome") is None or "outcome.ids" not in names
                ids = file.get_tensor("residents" if last else "outcome.ids").numpy()
                at = np.flatnonzero(ids >= first)
                rows = file.get_tensor("rows" if last else "outcome.rows")
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        every_ids.append(ids[at])
        every_row.append(rows[torch.from_numpy(at)])
    if not every_ids:
        return np.zeros(0, np.int64), torch.zeros(0, 0)
    ids, rows = np.concatenate(every_ids), torch.cat(every_row)
    order = np.argsort(ids, kind="stable")
    return ids[order], rows[torch.from_numpy(order)]
