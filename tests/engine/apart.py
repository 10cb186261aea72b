"""Parties that play a run apart: each in a thread, with its own plan and holding.

A party has nothing of another's examples: its ``dataset.train`` holds its own, and ``parts`` and
``held`` of others raise. So what touches them fails here, or comes to other models than the run in
one block does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hansa.engine import Block, Job
from hansa.engine.exchange.post import SitePost
from hansa.engine.runtimes.dealing import deal, party, remove_dealt
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.runtime import owners

from .wires import Wires


def parties_of(job: Job, folder: Path, groups: Sequence[np.ndarray]) -> list[Job]:
    """The job of each holder, as a worker opens it: from a plan and a holding in files.

    The job that was dealt is of no use afterwards: its examples are poisoned, so that nothing that
    was kept in memory can stand in for what is not held.
    """
    deal(folder, job, groups)
    parties = [party(folder, k) for k in range(len(groups))]
    remove_dealt(folder)
    told = [one.tells() for one in parties]
    for one in parties:
        one.joined = one.gathered(told)
        one.threads = 1
    poison(job)
    return parties


def poison(job: Job) -> None:
    """Spoil all training examples of a job, in place: no figure survives a look at them."""
    train = job.dataset.train
    spoiled = float("nan") if train.inputs.is_floating_point() else 113
    train.inputs.fill_(spoiled)
    train.targets.fill_(-(10**9))


def play_apart(
    jobs: Sequence[Job],
    groups: Sequence[np.ndarray],
    meddle: Callable[[list[SitePost]], None] = lambda posts: None,
    deadline: float = 300.0,
    begin: Callable[[Block], None] = lambda block: None,
) -> tuple[list[Block], list[SitePost]]:
    """Take the blocks of several jobs through their rounds side by side.

    Args:
        begin: gives a block what it has before the first round.
    """
    owner = owners(list(groups))
    failed = threading.Event()

    def alive() -> None:
        if failed.is_set():
            raise ConnectionAbortedError("another block failed")

    posts = [SitePost(w, owner, deadline, alive) for w in range(len(jobs))]
    Wires(posts)

    def one(w: int) -> Block:
        try:
            block = jobs[w].block(groups[w])
            block.workers = len(jobs)
            begin(block)
            posts[w].unasked = jobs[w].algorithm.own_pace
            exchange = jobs[w].exchange(posts[w])
            Host(jobs[w], block, exchange, lambda report: None, lambda b, done: None).run()
        except BaseException:
            failed.set()
            raise
        return block

    try:
        meddle(posts)
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(one, w) for w in range(len(jobs))]
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            own = [e for e in errors if not isinstance(e.__cause__, ConnectionAbortedError)]
            raise (own or errors)[0]
        return [future.result() for future in futures], posts
    finally:
        for post in posts:
            post.close()


@dataclass(frozen=True)
class Whole:
    """What several blocks came to, nodes in order.

    Attributes:
        rows, state: of the residents and of all nodes, as of one block.
        models: [k, D], what the run has come to.
        shelves: the rows of those who have one, by shelf and node.
    """

    rows: torch.Tensor
    state: dict[str, Any]
    models: torch.Tensor
    shelves: dict[str, dict[int, torch.Tensor]]


def in_order(blocks: Sequence[Block]) -> Whole:
    """Blocks, of which one may hold all nodes, put together."""

    def sorted_by(ids: Sequence[np.ndarray], values: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(values))[torch.from_numpy(np.concatenate(ids)).argsort()]

    every = [block.ids for block in blocks]
    ends = [block.models() for block in blocks]
    shelves: dict[str, dict[int, torch.Tensor]] = {}
    for block in blocks:
        for name, shelf in block.shelves.items():
            filed = dict(zip(shelf.all()[0].tolist(), shelf.all()[1], strict=True))
            shelves.setdefault(name, {}).update(filed)
    return Whole(
        sorted_by([b.ids[b.residents] for b in blocks], [block.rows for block in blocks]),
        {n: sorted_by(every, [block.state[n] for block in blocks]) for n in blocks[0].state},
        sorted_by([b.ids[e[0]] for b, e in zip(blocks, ends, strict=True)], [e[1] for e in ends]),
        shelves,
    )
