"""One node of a block as a block of its own, in constant time: views, not copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.block import Block

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 2048
"""How many views are kept; one is some 15 kB."""


def node_view(block: Block, k: int) -> Block:
    """The node at position ``k`` of a block, as a block of one node.

    Its model, state and examples are the block's own: what a script changes in place is changed
    there. What it sets anew by a name is put in the block's place of it. Its report is its own,
    and whoever made the view takes it over.
    """
    residents, r = block.residents, int(np.searchsorted(block.residents, k))
    resident = r < len(residents) and int(residents[r]) == k
    span = slice(r, r + 1) if resident else slice(0, 0)
    return replace(
        block,
        ids=block.ids[k : k + 1],
        rows=block.rows[span],
        parts=block.parts_of(np.array([k])),
        held=[block.held[k]] if len(block.held) else [],
        residents=np.arange(1 if resident else 0),
        state=Slices(block.state, slice(k, k + 1), len(block)),
        kept=Slices(block.kept, span, len(residents)),
        report={},
        awake=None if block.awake is None else block.awake[k : k + 1],
        effort=None if block.effort is None else block.effort[k : k + 1],
        before=block.before[k : k + 1],
        tables={},
    )


class NodeViews:
    """The views of a block's nodes, each made once as long as there is room for it."""

    def __init__(self, block: Block, room: int = ROOM) -> None:
        self.block, self.room = block, room
        self._views: dict[int, tuple[Block, Tensor]] = {}
        self._of: list[Any] = []

    def refresh(self) -> None:
        """Make them anew where the block has other tensors than it had."""
        block = self.block
        of = [block.rows, block.parts, block.store, *block.state.values(), *block.kept.values()]
        if len(of) != len(self._of) or any(a is not b for a, b in zip(of, self._of, strict=True)):
            self._views.clear()
            self._of = of

    def __getitem__(self, k: int) -> Block:
        """The node at position ``k`` of the block, as the round has it."""
        block, known = self.block, self._views.get(k)
        if known is None:
            if len(self._views) >= self.room:
                del self._views[next(iter(self._views))]
            view = node_view(block, k)
            self._views[k] = view, view.rows
            return view
        view, view.rows = known
        view.log, view.events = block.log, block.events
        view.awake = None if block.awake is None else block.awake[k : k + 1]
        view.effort = None if block.effort is None else block.effort[k : k + 1]
        return view


class Slices(dict[str, Any]):
    """Entries of tensors [n, ...] by name, each a view that is made when it is asked for."""

    def __init__(self, whole: dict[str, Tensor], span: slice, nodes: int) -> None:
        super().__init__()
        self.whole, self.span, self.nodes = whole, span, nodes

    def __missing__(self, name: str) -> Tensor:
        part = self.whole[name][self.span]
        super().__setitem__(name, part)
        return part

    def __setitem__(self, name: str, value: Tensor) -> None:
        """Put a value in its place; for all others a name that is new is zero."""
        if name not in self.whole:
            shape = (self.nodes, *value.shape[1:])
            self.whole[name] = torch.zeros(shape, dtype=value.dtype, device=value.device)
        self[name].copy_(value)

    def __contains__(self, name: object) -> bool:
        return name in self.whole

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def get(self, name: str, default: Any = None) -> Any:
        """The view of a name, where there is one."""
        return self[name] if name in self.whole else default

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The view of a name, put there first where there is none."""
        if name not in self.whole:
            self[name] = default
        return self[name]

    def keys(self) -> Any:
        """All names."""
        return self.whole.keys()

    def items(self) -> Any:
        """All names with their views."""
        return {name: self[name] for name in self.whole}.items()
