"""Messages that do not come: what is counted and recorded of them, and the time that they cost."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hansa.base.errors import RunError
from hansa.base.many import add_, tally
from hansa.engine.block import Block
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.terms import Missing, OnMissing
from hansa.engine.exchange.wire import When

RESENT = ("messages_resent", "bytes_resent")
MISSING = "messages_missing"
COUNTERS = (*RESENT, MISSING)
"""Counters of a block whose run has faults; what is sent again is overhead, not counted as sent."""


def record(
    exchange: Exchange,
    block: Block,
    when: When,
    kind: str,
    policy: OnMissing,
    cause: Literal["lost", "silent"],
    senders: np.ndarray,
    receivers: np.ndarray,
) -> None:
    """Leave an event of messages that do not come, for good or at first, if there are some.

    Where a run is done again, nodes that were away then say nothing but what is recorded of them.

    Args:
        cause: ``lost``: a fault of the run file took them; ``silent``: their sites were not heard
            in time.
        senders: node ids, int64 [messages].
        receivers: node ids, int64 [messages].
    """
    if exchange.recorded is not None and len(senders):
        who = receivers if cause == "silent" else senders  # those who notice
        said = ~exchange.recorded.away(block.nodes, when.round)[who]
        said |= exchange.unheard(when, kind, senders, receivers)
        senders, receivers = senders[said], receivers[said]
    if not len(senders):
        return
    event: dict[str, Any] = {
        "kind": "missing",
        "of": kind,
        "exchange": when.number,
        "cause": cause,
        "outcome": policy,
        "senders": senders.tolist(),
        "receivers": receivers.tolist(),
    }
    post = exchange.post if cause == "silent" else None  # what is lost can be drawn again
    if post is None or not post.note({**event, "round": when.round + 1}):
        block.events.append(event)


def refuse(when: When, kind: str, senders: np.ndarray, receivers: np.ndarray) -> None:
    """End the run for the first of messages that did not come.

    Raises:
        RunError: naming the round and both ends.
    """
    raise RunError(
        f"a message of kind {kind!r} from node {senders[0]} to node {receivers[0]} did not come, "
        "and on_missing: abort ends the run for it",
        node=int(receivers[0]),
        round=when.round + 1,
        phase="exchange",
        repeats=True,
    )


def resend(
    exchange: Exchange,
    block: Block,
    senders: np.ndarray,
    receivers: np.ndarray,
    sizes: np.ndarray,
    due: np.ndarray,
) -> np.ndarray:
    """When lost messages arrive that are sent a second time, s [messages]; counts them.

    They go out again once their sender has waited in vain.

    Args:
        senders: positions in the block, int64 [messages].
        receivers: node ids, int64 [messages].
        sizes: bytes, int64 [messages].
        due: when they would have arrived, s.
    """
    n = len(block)
    counts, totals = tally(senders, n), tally(senders, n, sizes)
    for name, numbers in zip(RESENT, (counts, totals), strict=True):
        add_(block.state[name], numbers)
    if not exchange.clock.modelled:
        return due
    now = block.state["modelled_time"].numpy()[senders]
    again = exchange.due(block, senders, receivers, sizes) - now
    return due + exchange.patience + again


def wait_in_vain(exchange: Exchange, block: Block, missing: Missing, before: np.ndarray) -> None:
    """Count what each node lacks, and let those who lack something have waited for it.

    Args:
        before: modelled time at which the nodes began to wait, s [n].
    """
    lacks = missing.counts
    if MISSING in block.state:
        add_(block.state[MISSING], lacks)
    if exchange.clock.modelled:
        time = block.state["modelled_time"].numpy()
        who = np.flatnonzero(lacks)
        time[who] = np.maximum(time[who], before[who] + exchange.patience)
