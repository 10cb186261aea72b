"""Noise in what leaves a node: local differential privacy, for any algorithm that sends rows.

Where an algorithm yields a :class:`Send`, its senders' numbers are clipped and noised before any
codec, attack or message sees them. Peers send whole models, round after round; each sends what it
has last said plus the clipped difference to what it would say now, with noise. What it has said is
known, so that a round tells of no more than that difference, and a receiver gets a model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hansa.base.errors import RunError
from hansa.base.lazy import torch
from hansa.engine.accounts import ReleaseAccounts
from hansa.engine.block import Block
from hansa.engine.exchange.exchange import Send


def noised(accounts: ReleaseAccounts, block: Block, send: Send, t: int, phase: int) -> Send:
    """A send in which the messages of nodes with data are clipped and noised; they are counted.

    Raises:
        RunError: the messages are no rows of numbers, or somebody may release nothing more.
    """
    senders = send.speakers(block)
    heard = send.graph.transpose().rows(block.ids)[0]
    speaks = np.zeros(block.nodes, dtype=bool)
    speaks[block.ids[np.diff(heard) > 0]] = True  # what nobody gets tells nobody anything
    mine = np.flatnonzero((senders < block.clients) & speaks[senders])
    rows = send.rows
    if not len(mine) or (isinstance(rows, torch.Tensor) and not rows.shape[1]):
        return send
    if not isinstance(rows, torch.Tensor) or send.each:
        kind = "one for each receiver" if send.each else "no whole rows of numbers"
        what = f"messages of kind {send.kind} are {kind}"
        raise RunError(f"{what}, to which privacy: local can add no noise")
    at = block.positions(senders[mine])
    accounts.release(block, at)
    clip, noise = accounts.privacy.bound, accounts.noise(block)
    said = _said(block, send, rows)
    where, index = torch.from_numpy(at), torch.from_numpy(mine)
    fresh = rows[index.to(rows.device)].double()
    before = None if said is None else said[where].double().to(rows.device)
    new = fresh if before is None else fresh - before
    new = torch.nan_to_num(new, nan=0.0, posinf=0.0, neginf=0.0)  # of a model that diverged
    new *= (clip / new.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    for line, node in zip(new, senders[mine].tolist(), strict=True):
        if noise:
            random = block.streams.own.numpy(f"privacy {send.kind} {phase}", node, t)
            drawn = torch.from_numpy(random.standard_normal(len(line)))
            line.add_(drawn.to(line.device), alpha=noise * clip)
    leaves = (new if before is None else before + new).to(rows.dtype)
    if said is not None:
        said[where] = leaves.to(said.device)
    out = rows.clone()
    out[index.to(rows.device)] = leaves
    return replace(send, rows=out)


def _said(block: Block, send: Send, rows: torch.Tensor) -> torch.Tensor | None:
    """What each node has last said in messages of this kind, [n, K]; None where each stands alone.

    At first that is the initial model, which everybody has.
    """
    if block.network.servers:
        return None
    name = f"privacy.said {send.kind}"
    if name not in block.state:
        layout, size = block.trainer.layout, rows.shape[1]
        first = torch.zeros(size)
        initial = layout.flatten(block.trainer.module).cpu()
        first[: min(size, layout.size)] = initial[:size]
        block.state[name] = first.repeat(len(block), 1)
    return block.state[name]
