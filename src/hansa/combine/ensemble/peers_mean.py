"""The end of gossip over a rule: peers take the mean of theirs, and everybody has it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.codec import Dense, whole_rows
from hansa.engine import Block, Ending, Network, Outcome, Send, star_to
from hansa.engine.wrapper import Wrapper

if TYPE_CHECKING:
    from torch import Tensor


class ThenMean(Wrapper):
    """Another algorithm among peers, after whose last round all send their models to the first of
    them, who sends their mean to all.

    What is measured stays each peer's own model.
    """

    def check(self, network: Network) -> None:
        """Refuse what the inner algorithm does: it is the one that a file names."""
        self.algorithm.check(network)

    def finish(self, block: Block, t: int) -> Ending:
        yield from super().finish(block, t)
        up = star_to(0, block.nodes)
        inbox = yield Send(block.rows, up, Dense(), "rule", on_missing="wait")
        first = block.positions(np.array([0]))
        mean = block.rows[:0]
        if len(first):
            received = whole_rows(inbox.messages(int(first[0]))[1]).to(block.rows.device)
            mean = torch.cat([block.rows[:1], received]).mean(0, keepdim=True)
        down = up.transpose()
        inbox = yield Send(mean, down, Dense(), "mean", senders=first, on_missing="wait")
        others = np.setdiff1d(np.arange(len(block)), first)
        rows = block.rows.clone()
        if len(first):
            rows[torch.from_numpy(first)] = mean
        if len(others):
            table, which = inbox.table(others)
            rows[torch.from_numpy(others)] = table[torch.from_numpy(which)].to(rows.device)
        return Outcome(block.ids, rows, "merged")

    def measured(self, block: Block, t: int) -> Generator[Any, Any, tuple[np.ndarray, Tensor]]:
        """Each peer's own model (positions [n], rows [n, D]), at the end too."""
        yield from ()
        return block.residents, block.rows
