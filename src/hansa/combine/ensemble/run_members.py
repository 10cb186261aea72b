"""Runs of ``hansa learn`` as members of an ensemble."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from hansa.base.errors import ConfigError
from hansa.combine.ensemble.brought import RunModel
from hansa.engine import read_manifest
from hansa.engine.runtimes.checkpoint import load_block
from hansa.experiment.inputs import check_inputs
from hansa.experiment.prepare import prepare
from hansa.experiment.runfile import RunFile
from hansa.experiment.start import ENDED
from hansa.forget.requests import Requests
from hansa.learn.federated.cpfl import MERGED
from hansa.learn.federated.federated import BEST
from hansa.models import ParameterLayout
from hansa.report import RunFolder


def open_run(path: Path, node: int | None) -> RunModel:
    """The model that a run came to, or that of one of its nodes.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: it is no such run, or has several models and none is named.
    """
    folder = RunFolder.open(path)
    if (folder.summary or {}).get("verb") == "combine" or "algorithm" not in folder.config:
        problem = "is not the folder of a run of hansa learn"
        raise ConfigError("path", str(path), problem, "its members as files, or a run")
    run = RunFile.parse(folder.config)
    if (folder.summary or {}).get("status") not in ENDED:
        fix = f"hansa learn --resume {folder.path}"
        raise ConfigError("path", str(path), "has not finished training", fix)
    checkpoint = Requests(folder.path).checkpoint
    if checkpoint is None:
        problem = "has no checkpoint with its model"
        raise ConfigError("path", str(path), problem, "train with checkpoint.every above 0")
    job = prepare(run)
    check_inputs(folder, run, job.dataset, job.parts)  # it prepares inputs by its own examples
    block = job.block(np.arange(job.nodes))
    load_block(block, checkpoint, read_manifest(checkpoint))
    if job.servers > 1 and MERGED in block.shelves:
        rows = block.shelves[MERGED].all()[1]
    elif job.servers and BEST in block.kept:
        rows = block.kept[BEST]
    else:
        rows = job.algorithm.models(block)[1]
    if node is None and len(rows) > 1:
        problem = f"{path.name} has a model of each of {len(rows)} nodes"
        raise ConfigError("node", None, problem, f"a number from 0 to {len(rows) - 1}")
    if node is not None and not 0 <= node < len(rows):
        problem = f"{path.name} has {len(rows)} models"
        raise ConfigError("node", node, problem, f"a number from 0 to {len(rows) - 1}")
    module = copy.deepcopy(job.module)
    ParameterLayout.of(module).load_(module, rows[node or 0].cpu())
    return RunModel(run.model, module.eval(), job.dataset)
