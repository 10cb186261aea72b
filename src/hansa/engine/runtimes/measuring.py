"""What one block says of the models that a round came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.block import Block
from hansa.engine.job import Job

if TYPE_CHECKING:
    from torch import Tensor

_ROWS_AT_A_TIME = 64


def measure(
    job: Job, block: Block, who: np.ndarray, models: Tensor, among: np.ndarray
) -> dict[str, Any]:
    """Figures of models on the test (and validation) set, and what the average of all needs.

    Args:
        who: positions [k] of the nodes whose models [k, D] these are.
        among: positions of the nodes that are measured.

    Returns:
        ``values``, by name [nodes of the block], NaN for who was not measured or has no such
        figure; ``mean`` [D], ``spread`` and how many ``models`` there are; where it was asked for
        ``clients``, (ids [c], by name [c]) of :func:`by_client`. An attacker's own model is
        nobody's concern and stays out of all of it.
    """
    if job.attackers is not None:
        honest = ~np.isin(block.ids[who], job.attackers.nodes)
        who, models = who[honest], models[torch.from_numpy(honest).to(models.device)]
    chosen = np.flatnonzero(np.isin(who, among))
    whole = len(chosen) == len(who)
    rows = models if whole else models[torch.from_numpy(chosen).to(models.device)]
    who = who[chosen]
    values: dict[str, np.ndarray] = {}
    own = block.integers(who)
    splits = [("", job.dataset.test)]
    if job.dataset.validation is not None:
        splits.append(("validation_", job.dataset.validation))
    for prefix, split in splits:
        by_name = block.trainer.evaluate(rows, split, job.evaluate.batch_size, own)
        for name, value in by_name.items():
            values[prefix + name] = np.full(len(block.ids), np.nan)
            values[prefix + name][who] = value
    mean = torch.zeros(models.shape[1], dtype=torch.float64)
    pieces = models.split(_ROWS_AT_A_TIME) if len(models) else ()
    for piece in pieces:
        mean += piece.double().sum(0).cpu()
    mean /= max(len(models), 1)
    spread = 0.0
    for piece in pieces:
        spread += float((piece.double().cpu() - mean).square().sum())
    said = {"values": values, "mean": mean.numpy(), "spread": spread, "models": len(models)}
    if job.evaluate.per_client:
        said["clients"] = by_client(job, block, who, rows)
    return said


def by_client(
    job: Job, block: Block, who: np.ndarray, rows: Tensor
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Each client's model on the examples that the client holds back.

    That is its own where it has one, else its server's, else the one that all were merged into.
    The block that has the model asks it.

    Args:
        who: positions [k] of the nodes whose models ``rows`` [k, D] are.

    Returns:
        ids int64 [c] of the clients whose models are here, and figures by name, float64 [c].
    """
    at = np.full(job.nodes, -1)
    at[block.ids[who]] = np.arange(len(who))
    server = job.algorithm.members(block)
    if block.outcome is not None and block.outcome.which == "merged":
        server = np.full(len(server), len(server))  # who merges is the first of the servers
    ids = np.arange(len(server))
    which = np.where(at[ids] >= 0, at[ids], np.where(server >= 0, at[server], -1))
    ids = np.flatnonzero((which >= 0) & (job.roster.held[: len(server)] > 0))
    held = [job.held[i] for i in ids.tolist()]
    own = block.integers(who)
    by_name = block.trainer.evaluate_parts(rows, which[ids], held, job.evaluate.batch_size, own)
    return ids, by_name
