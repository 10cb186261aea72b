"""What one block says of the models that a round came to."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base import few
from hansa.base.few import Figures
from hansa.base.lazy import torch
from hansa.data.dealing.deal import sizes_of
from hansa.engine.block import Block
from hansa.engine.exchange.asked import Asked
from hansa.engine.exchange.exchange import Share
from hansa.engine.job import Job
from hansa.engine.own_judge import OwnJudge
from hansa.models import shared_copy

if TYPE_CHECKING:
    from torch import Tensor

_ROWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Judged:
    """The models that clients judge on examples of their own, wherever those models are kept.

    Attributes:
        ids: int64 [m], of the nodes whose models they are.
        rows: [m, D].
        integers: their integer buffers, as in a block's state.
    """

    ids: np.ndarray
    rows: Tensor
    integers: dict[str, Tensor]


@dataclass(frozen=True)
class Models:
    """What is measured in a block.

    Attributes:
        who: int64 [k], positions of the nodes whose models they are.
        rows: [k, D].
        judged: what its clients judge; None: these.
    """

    who: np.ndarray
    rows: Tensor
    judged: Judged | None = None


@dataclass(frozen=True)
class HandedOut(Share):
    """Servers' models, given to every block to be judged; no exchange of the algorithm's.

    Attributes:
        turn: 0 before the first round, then 1 in every round that measures; 2 where it does so
            again, once the run has ended.
    """

    turn: int = 1
    kind = "judged"


def handed_out(
    job: Job, block: Block, t: int, again: bool = False
) -> Generator[Asked[Any], Any, Models]:
    """The models that are measured after round t, or at first (-1).

    Where clients judge servers' models, those go to every block, since examples that are held
    back go nowhere.
    """
    who, rows = block.residents, block.rows
    if t >= 0:
        who, rows = yield from job.algorithm.measured(block, t)
    if not (job.evaluate.asks_clients and job.servers):
        return Models(who, rows)
    integers = {name: value.numpy() for name, value in block.integers(who).items()}
    told = {"ids": block.ids[who], "rows": rows.cpu().numpy(), **integers}
    came = yield HandedOut(told, turn=int(t >= 0) + again)
    judged = Judged(
        came["ids"],
        torch.from_numpy(came["rows"]).to(rows.device),
        {name: torch.from_numpy(came[name]) for name in integers},
    )
    return Models(who, rows, judged)


def measure(job: Job, block: Block, wanted: Models, among: np.ndarray) -> dict[str, Any]:
    """Figures of models on the test (and validation) set, and what the average of all needs.

    Args:
        among: positions of the nodes that are measured.

    Returns:
        ``values``, by name [nodes of the block], NaN for who was not measured or has no such
        figure; ``mean`` [D], ``spread`` and how many ``models`` there are; where it was asked for
        ``clients``, (ids [c], by name [c]) of :func:`by_client`, and ``own``, (ids [c], sums by
        name [c], counts by name) of :func:`own_tallies`. An attacker's own model is nobody's
        concern and stays out of all of it.
    """
    who, models = wanted.who, wanted.rows
    if job.attackers is not None:
        honest = np.flatnonzero(~np.isin(block.ids[who], job.attackers.nodes))
        who, models = who[honest], models[torch.from_numpy(honest).to(models.device)]
    chosen = np.flatnonzero(np.isin(who, among))
    whole = len(chosen) == len(who)
    rows = models if whole else models[torch.from_numpy(chosen).to(models.device)]
    who = who[chosen]
    values: dict[str, Figures] = {}
    own = block.integers(who)
    # Where all test examples are with clients, there is nothing that every model is measured on.
    splits = [("", job.dataset.test)] if len(job.dataset.test) else []
    if job.dataset.validation is not None:
        splits.append(("validation_", job.dataset.validation))
    for prefix, split in splits:
        by_name = block.trainer.evaluate(rows, split, job.evaluate.batch_size, own)
        for name, value in by_name.items():
            values[prefix + name] = few.nobody(len(block))
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
    kept = replace(wanted, who=who, rows=rows)
    if job.evaluate.per_client:
        said["clients"] = by_client(job, block, kept)
    if job.evaluate.own is not None:
        said["own"] = own_tallies(job.evaluate.own, job, block, kept)
    return said


@dataclass(frozen=True)
class Judges:
    """Who measures which model on examples of its own.

    Attributes:
        at: int64 [c], positions in the block of clients that hold some back.
        which: int64 [c], the row that each of them measures.
    """

    at: np.ndarray
    which: np.ndarray
    models: Judged


def judges(job: Job, block: Block, models: Models) -> Judges:
    """Which model is measured by each client here that holds examples back.

    That is its own where it has one, else its server's, else the one that all were merged into.
    """
    kept = models.judged or Judged(block.ids[models.who], models.rows, block.integers(models.who))
    at = np.full(job.nodes, -1)
    at[kept.ids] = np.arange(len(kept.ids))
    server = job.algorithm.judged(block)
    if block.outcome is not None and block.outcome.which == "merged":
        server = np.full(len(server), len(server))  # who merges is the first of the servers
    here = np.flatnonzero(sizes_of(block.held))
    ids = block.ids[here]
    which = np.where(at[ids] >= 0, at[ids], np.where(server[ids] >= 0, at[server[ids]], -1))
    return Judges(here[which >= 0], which[which >= 0], kept)


def by_client(job: Job, block: Block, models: Models) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The model of each client on the examples that it holds back, which stay where they are.

    Returns:
        ids int64 [c] of the clients here that hold some back, and figures by name, float64 [c].
    """
    who = judges(job, block, models)
    held = [block.held[i] for i in who.at.tolist()]
    rows, own, size = who.models.rows, who.models.integers, job.evaluate.batch_size
    return block.ids[who.at], block.trainer.evaluate_parts(rows, who.which, held, size, own)


def own_tallies(
    judge: OwnJudge, job: Job, block: Block, models: Models
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the judge of clients' own examples makes of each of them.

    Returns:
        ids int64 [c], sums by name float64 [c], counts by name added up.
    """
    who = judges(job, block, models)
    layout, module = block.trainer.layout, shared_copy(block.trainer.module).eval()
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    ids = block.ids[who.at]
    for k, (client, row) in enumerate(zip(ids.tolist(), who.which.tolist(), strict=True)):
        layout.bind(module, who.models.rows[row])
        with torch.no_grad():
            one = judge.tally(module, job.dataset, job.parts[client], job.held[client])
        for name, value in one.sums.items():
            sums.setdefault(name, np.full(len(ids), np.nan))[k] = value
        for name, array in one.counts.items():
            counts[name] = counts[name] + array if name in counts else array
    return ids, sums, counts
