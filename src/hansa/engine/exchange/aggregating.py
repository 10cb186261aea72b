"""What nodes make of their neighbours' rows and their own, by any aggregator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.codec.messages import Messages, SparseRows
from hansa.engine.exchange.inbox import Inbox
from hansa.ensemble.aggregators import Aggregator, Mean
from hansa.topology import MixingMatrix

if TYPE_CHECKING:
    from torch import Tensor


def aggregate_(inbox: Inbox, rows: Tensor, weights: MixingMatrix, aggregator: Aggregator) -> None:
    """x_i <- the aggregate of x_i and of what i got, for x = ``rows`` [n, K], in place.

    The mean is :meth:`Inbox.mix_`, or :meth:`Inbox.overlay_` where parts of rows were sent. For
    others the mixing weights are the rows' weights, parts lie over the receiver's own row, and a
    node that has too few rows for the aggregator keeps its own. All new rows are there beside the
    old ones for a moment: n K numbers.

    Raises:
        ValueError: the weights are not those of the graph that was sent over.
    """
    if isinstance(aggregator, Mean):
        mix = inbox.overlay_ if isinstance(inbox.sent, SparseRows) else inbox.mix_
        mix(rows, weights)
        return
    terms = inbox.weighted(weights)
    aggregated = rows.clone()
    for k, row in enumerate(rows):
        span = slice(int(terms.indptr[k]), int(terms.indptr[k + 1]))
        own, values = terms.own[span], terms.values[span]
        skipped = inbox.on_missing == "skip" and len(inbox.missing.of(k)) > 0
        if len(own) < aggregator.least or skipped:
            continue
        at = int(np.argmax(own))
        heard = _over(row, inbox.messages(k, shared=True)[1])
        # Each row at its sender's place, so that sums are the same however nodes are split.
        every = torch.cat([heard[:at], row[None], heard[at:]]) if own.any() else heard
        state = aggregator.start(row)
        aggregator.add(state, every, values)
        aggregated[k] = aggregator.end(state)
    rows.copy_(aggregated)


def _over(row: Tensor, messages: Messages) -> Tensor:
    """Messages as whole rows [m, K]; what a part lacks is the receiver's own."""
    if isinstance(messages, torch.Tensor):
        return messages
    if not isinstance(messages, SparseRows):
        raise TypeError("only rows of numbers can be aggregated")
    wholes, single = row.repeat(len(messages), 1), messages.single()
    for k, whole in enumerate(wholes):
        positions, values = single.row(k)
        whole[torch.from_numpy(positions).to(whole.device)] = values.to(whole)
    return wholes
