"""What single nodes were after earlier rounds, kept so that they can become it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.block import COUNTERS, MODELLED, Block, LinkState

if TYPE_CHECKING:
    from torch import Tensor

Was: TypeAlias = "dict[str, Tensor]"
"""A node at the end of a round: ``row`` [1, D] where it has one, ``state.*``, ``kept.*`` and, where
it has a row on one, ``shelf.*`` [1, ...]; ``store.*``: what it had gathered; ``links.*``: what was
under way from it."""


def was(block: Block, node: int) -> Was:
    """All that a checkpoint would keep of a node, copied."""
    k = int(np.searchsorted(block.ids, node))
    tensors = {f"state.{name}": value[k : k + 1] for name, value in block.state.items()}
    for at in np.flatnonzero(block.residents == k).tolist():
        tensors["row"] = block.rows[at : at + 1]
        tensors |= {f"kept.{name}": value[at : at + 1] for name, value in block.kept.items()}
    for name, shelf in block.shelves.items():
        if node in shelf:
            tensors[f"shelf.{name}"] = shelf.row(node).unsqueeze(0)
    if block.store is not None:
        tensors |= {f"store.{n}": value for n, value in block.store.filed([node]).items()}
    links = filed_links({link: way for link, way in block.links.items() if link[0] == node})
    tensors |= {f"links.{name}": value for name, value in links.items()}
    return {name: value.detach().clone() for name, value in tensors.items()}


def become(block: Block, node: int, tensors: Mapping[str, Tensor], spared: Iterable[str]) -> None:
    """Make a node what it was; what it had not then is as it is at the start, all zeros.

    Args:
        spared: state that stays as it is.
    """
    k = int(np.searchsorted(block.ids, node))
    _put(block.state, "state.", k, tensors, len(block), block.rows.device, set(spared))
    for at in np.flatnonzero(block.residents == k).tolist():
        block.rows[at : at + 1] = tensors["row"].to(block.rows.device)
        _put(block.kept, "kept.", at, tensors, len(block.residents), block.rows.device, set())
    ids = np.array([node])
    for shelf in block.shelves.values():
        shelf.drop(ids)
    for name, rows in _named(tensors, "shelf.").items():
        if name in block.shelves:
            block.shelves[name].put(ids, rows)
    if block.store is not None:
        block.store.restore(ids, _named(tensors, "store."))
    if "modelled_time" not in spared:
        others = {link: way for link, way in block.links.items() if link[0] != node}
        block.links = others | read_links(_named(tensors, "links."))


def filed_links(links: Mapping[tuple[int, int], LinkState]) -> dict[str, Tensor]:
    """The states of links as tensors by name: ``ends`` [k, 3] and ``state`` [k, 4]."""
    if not links:
        return {}
    ends = [[*link, drawn] for link, (*_, drawn) in links.items()]
    states = [way[:4] for way in links.values()]
    return {
        "ends": torch.tensor(ends, dtype=torch.int64),
        "state": torch.tensor(states, dtype=torch.float64),
    }


def read_links(tensors: Mapping[str, Tensor]) -> dict[tuple[int, int], LinkState]:
    """The states of links from :func:`filed_links`."""
    if not tensors:
        return {}
    ends, states = tensors["ends"].tolist(), tensors["state"].tolist()
    return {
        (sender, receiver): (free, tokens, filled, last, drawn)
        for (sender, receiver, drawn), (free, tokens, filled, last) in zip(
            ends, states, strict=True
        )
    }


def counted(block: Block) -> list[str]:
    """Names of the state that only counts: what was done, sent and spent, by whomever."""
    faults = ("messages_resent", "bytes_resent", "messages_missing")
    plain = (*COUNTERS, *MODELLED, *faults, "backhaul_bytes")
    return [name for name in block.state if name in plain or name.startswith("battery")]


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _put(
    target: dict[str, Tensor],
    prefix: str,
    at: int,
    tensors: Mapping[str, Tensor],
    length: int,
    device: torch.device,
    spared: set[str],
) -> None:
    before = _named(tensors, prefix)
    for name, value in before.items():
        if name not in target:  # it was dropped since
            where = device if name.startswith("optimizer.") else "cpu"
            target[name] = torch.zeros((length, *value.shape[1:]), dtype=value.dtype, device=where)
    for name, values in target.items():
        if name not in spared:
            values[at : at + 1] = before[name].to(values.device) if name in before else 0
