"""A server's program on a run that was trained, played wherever its nodes live.

It starts from the run's checkpoint, of which each worker reads its own nodes' part, and ends in a
checkpoint of its own: the run's state from then on, once it is put in the place of the old one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hansa.base.errors import RunError
from hansa.base.files import writing
from hansa.engine import (
    CheckpointSettings,
    Job,
    WallClock,
    latest,
    read_manifest,
)
from hansa.engine.runtimes.checkpoint import MANIFEST, load_block, round_folder, save_block, seal
from hansa.engine.runtimes.host import Host
from hansa.experiment.jobs import collect, host_job
from hansa.experiment.played import HERE, Place
from hansa.forget.case import Case
from hansa.forget.directed import GIVEN, ORACLE, ROW, SERVED, Directed
from hansa.forget.federation import Asking, Federation
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

ORDERS = 1 << 30
"""Rounds of a program, more than it can have orders: it ends when it is done."""


@dataclass(frozen=True)
class Served:
    """What a program came to.

    Attributes:
        facts: what it returned.
        checkpoint: the folder with all nodes as it left them.
    """

    facts: dict[str, Any]
    checkpoint: Path


def play(
    directed: Directed,
    job: Job,
    checkpoint: Path,
    folder: Path,
    *,
    place: Place = HERE,
    row: Tensor | None = None,
    given: Tensor | None = None,
    oracle: Tensor | None = None,
) -> Served:
    """Play a program on the nodes of a run.

    Args:
        job: the run's.
        checkpoint: all nodes as they are.
        folder: where this is written down; what is there is thrown away.
        place: where the nodes live.
        row: float32 [D], the run's model; none: what the checkpoint says that the run came to.
        given: float32 [D], the model that an exact method has come to.
        oracle: float32 [D], the model that never saw what is to be forgotten.

    Raises:
        RunError: something failed on the way.
        KeyboardInterrupt: it was asked to end.
    """
    work = at_work(job, directed)
    rows = {ROW: row, GIVEN: given, ORACLE: oracle}
    played, end = hosted_job(work, folder, partial(starting, job, checkpoint, rows=rows), place)
    facts = [event["facts"] for event in played.events() if event["kind"] == SERVED]
    if not facts:
        raise RunError("the program came to no end", phase="forgetting")
    return Served(facts[-1], end)


def tried(case: Case, program: Callable[[Federation], Asking[T]], **rows: Tensor | None) -> T:
    """What a part of a program comes to on a run whose nodes all live here; the run stays as it is.

    Args:
        program: is given the server's federation.
        rows: by its name, such as ``given``: float32 [D], what the server is given besides.
    """
    results: list[T] = []

    class Tried(Directed):
        """The part as a whole program."""

        def program(self, federation: Federation) -> Asking[dict[str, Any]]:
            for name, row in rows.items():
                setattr(federation, name, row)
            results.append((yield from program(federation)))
            return {}

    directed = Tried(
        learned=case.job.algorithm, rounds=case.job.rounds, done=case.done, number=case.number,
        request=case.request, past=case.past,
    )  # fmt: skip
    work = at_work(case.job, directed)
    block = work.block(np.arange(work.nodes))
    load_block(block, case.checkpoint, read_manifest(case.checkpoint))
    block.kept[ROW] = block.models()[1][:1].clone()
    Host(work, block, work.exchange(), lambda report: None, lambda block, done: None).run()
    return results[0]


def at_work(job: Job, directed: Directed) -> Job:
    """The run's nodes with a program to serve."""
    return replace(
        job,
        rounds=ORDERS,
        algorithm=directed,
        clock=WallClock(),
        evaluate=job.evaluate.model_copy(
            update={"every": ORDERS, "dense_start": False, "per_client": False, "nodes": 1}
        ),
        checkpoint=CheckpointSettings(every=ORDERS, keep=1),
        attackers=None,
        faults=None,
        trial=job.tried,
    )


def hosted_job(
    job: Job,
    folder: Path,
    begin: Callable[[Path], Path | None],
    place: Place,
) -> tuple[RunFolder, Path]:
    """Take a job from its beginning to its end, in a folder of its own.

    Args:
        begin: makes the checkpoint that it starts from, given where it goes; or none.

    Returns:
        The folder and the last checkpoint.
    """
    if folder.exists():
        shutil.rmtree(folder)
    played = RunFolder.create(folder, {"job": job.algorithm.dump()}, {})
    first = begin(folder / "checkpoints")
    where = place.runtime_for(job.nodes)
    host_job(job, where, collect(job, played), first, remedy="the run is as it was: ask again")
    end = latest(folder / "checkpoints")
    assert end is not None  # it ended, so it saved
    return played, end


def starting(job: Job, checkpoint: Path, root: Path, rows: Mapping[str, Tensor | None]) -> Path:
    """A checkpoint of round 0 with the nodes of another and what the server is given besides.

    The files are shared with the other one, so that nobody reads what is not his.
    """
    manifest, first = read_manifest(checkpoint), np.array([job.network.clients])
    begin = linked(checkpoint, root)
    server = job.block(first)
    load_block(server, checkpoint, manifest)
    server.kept = {name: row.unsqueeze(0) for name, row in rows.items() if row is not None}
    server.kept.setdefault(ROW, server.models()[1][:1].clone())
    server.state, server.outcome, server.shelves = {}, None, {}
    extra = save_block(server, root / "extra", 0)
    made = root / "extra" / begin.name / extra["file"]
    name = f"server-{extra['file']}"
    made.rename(begin / name)
    shutil.rmtree(root / "extra")
    seal(root, 0, [*manifest["files"], {**extra, "file": name}], keep=1)
    return begin


def linked(checkpoint: Path, root: Path) -> Path:
    """A sealed checkpoint of round 0 with the files of another, which both have then."""
    begin, entries = root / "round-000000", read_manifest(checkpoint)["files"]
    with writing(begin):
        begin.mkdir(parents=True)
    for entry in entries:
        _share(checkpoint / entry["file"], begin / entry["file"])
    seal(root, 0, entries, keep=1)
    return begin


def settle(checkpoint: Path, root: Path, before: Path) -> Path:
    """Move the end of a program to ``root``, as the state that a run is in from now on.

    Args:
        before: the checkpoint that it takes the place of: the run has done as many rounds, for
            the same reason.
    """
    old, new = read_manifest(before), read_manifest(checkpoint)
    ends = [entry.get("outcome") for entry in old["files"] if entry.get("outcome")]
    end = ends[0] if ends else None
    entries = [
        {**entry, "outcome": end or {"which": "last", "reason": ""}} for entry in new["files"]
    ]
    done = int(old["round"])
    folder = round_folder(root, done)
    with writing(folder):
        root.mkdir(parents=True, exist_ok=True)
        (checkpoint / MANIFEST).unlink()
        checkpoint.rename(folder)
    seal(root, done, entries, keep=1, seconds=0.0)
    return folder


def _share(source: Path, target: Path) -> None:
    """The same file in two places; a copy where that cannot be."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    with writing(target):
        shutil.copyfile(source, target)
