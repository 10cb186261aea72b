"""Training anew, from the initial model, what a request leaves of a run: a job of its own.

In a run of cohorts it starts from the run's checkpoint: the cohorts that are not concerned rest and
keep what they have, and the state of all nodes as it was is put aside, to be taken back at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from hansa.base.lazy import safetensors, torch
from hansa.engine import Block, CheckpointSettings, Ending, Job, read_manifest
from hansa.engine.runtimes.checkpoint import FEW, load_block
from hansa.engine.wrapper import Wrapper
from hansa.experiment.played import HERE, Place
from hansa.forget.directed import WAS
from hansa.forget.ledger import Ledger
from hansa.forget.playing import hosted_job, linked

if TYPE_CHECKING:
    from torch import Tensor

_ASIDE = "again.aside"


@dataclass(frozen=True)
class Again:
    """What training anew came to.

    Attributes:
        row: float32 [D], the model.
        story: what there is to say about it.
        ledger: what it cost.
        checkpoint: all nodes as they are then, the state of the run put aside; None: the nodes
            of the run are as they were, but for the model.
    """

    row: Tensor
    story: dict[str, Any]
    ledger: Ledger
    checkpoint: Path | None = None


class InPart(Wrapper):
    """An algorithm of which only some cohorts take part, from a run in which all did.

    Its ``algorithm`` rests cohorts (see :class:`hansa.forget.cohorts.InCohorts`).
    """

    again: tuple[int, ...] = Field(description="numbers of the cohorts that begin anew")
    keep: tuple[int, ...] = Field(description="clients that keep what they have stored")

    def start(self, block: Block) -> None:
        super().start(block)
        rows = {name: values.clone() for name, values in _whole(block)}
        block.facts[_ASIDE] = (rows, {k: v.clone() for k, v in block.state.items()})

    def ready(self, block: Block) -> None:
        """Begin anew where that is due, and put aside what the others are to have at the end."""
        fresh, state = block.facts[_ASIDE]
        kept = {name: values.clone() for name, values in _whole(block)}
        block.facts[_ASIDE] = (kept, block.state)
        block.state = state
        anew = self._resident(block, np.array(self.again, dtype=np.int64))
        for name, values in _whole(block):
            if name in fresh:
                values[anew] = fresh[name][anew].to(values.device)
        leave = np.setdiff1d(block.ids, self.keep)
        for shelf in block.shelves.values():
            shelf.drop(leave)
        cohorts = np.arange(block.nodes - block.clients)
        self.algorithm.rest(block, np.setdiff1d(cohorts, self.again))  # type: ignore[attr-defined]
        super().ready(block)

    def finish(self, block: Block, t: int) -> Ending:
        busy = np.isin(self.members(block) - block.clients, self.again).any()
        # Where nobody trained, the models are those of the rounds that there were before.
        end = yield from super().finish(block, t if busy else block.rounds - 1)
        kept, state = block.facts[_ASIDE]
        cohorts = np.arange(block.nodes - block.clients)
        same = self._resident(block, np.setdiff1d(cohorts, self.again))
        for name, values in _whole(block):
            if name in kept:  # also what says that they had not stopped
                values[same] = kept[name][same].to(values.device)
        block.state |= {f"{WAS}{name}": values for name, values in state.items()}
        return end

    def _resident(self, block: Block, cohorts: np.ndarray) -> Tensor:
        """Where the servers of these cohorts are among the block's residents, bool [r]."""
        servers = block.ids[block.residents] - block.clients
        return torch.from_numpy(np.isin(servers, cohorts))


def train(
    job: Job,
    folder: Path,
    ledger: Ledger,
    *,
    place: Place = HERE,
    checkpoint: Path | None = None,
) -> tuple[Block, Path]:
    """Play a job from its beginning, and count it.

    Args:
        checkpoint: what its nodes have at the beginning; none: nothing.

    Returns:
        The servers as they are at the end, and the checkpoint with all nodes.
    """
    job = replace(job, checkpoint=CheckpointSettings(every=job.rounds, keep=1))
    with ledger.phase("retraining"):
        begin = partial(_linked, checkpoint)
        _, end = hosted_job(job, folder, begin, place)
        manifest, cost = read_manifest(end), ledger.now
        cost.sample_gradients += _total(end, manifest, "samples")
        cost.bytes += _total(end, manifest, "bytes_sent")
        cost.rounds += int(manifest["round"])
    server = job.block(np.arange(job.network.clients, job.nodes))
    load_block(server, end, manifest)
    return server, end


def _whole(block: Block) -> Iterator[tuple[str, Tensor]]:
    """All that servers keep, by name; their models have none."""
    yield "", block.rows
    yield from block.kept.items()


def _linked(checkpoint: Path | None, root: Path) -> Path | None:
    return None if checkpoint is None else linked(checkpoint, root)


def _total(checkpoint: Path, manifest: dict[str, Any], name: str) -> int:
    """A counter of all nodes."""
    total = 0
    for entry in manifest["files"]:
        with safetensors.safe_open(checkpoint / entry["file"], framework="pt") as file:
            few = f"{FEW}{name}.of"
            key = few if few in file.keys() else f"state.{name}"  # noqa: SIM118
            total += int(file.get_tensor(key).sum())
    return total
