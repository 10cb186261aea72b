"""What goes between servers: its bytes are counted beside all that each node sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.many import add_, tally

if TYPE_CHECKING:
    from hansa.engine.block import Block

BACKHAUL = "backhaul_bytes"
"""A counter of a block, where an algorithm put one: bytes that a server sent to other servers, part
of ``bytes_sent``."""


def book_backhaul(
    block: Block, senders: np.ndarray, receivers: np.ndarray, nbytes: np.ndarray
) -> None:
    """Count what goes from server to server.

    Args:
        senders: positions in the block, int64 [messages].
        receivers: node ids, int64 [messages].
        nbytes: of each message, header included, int64 [messages].
    """
    if BACKHAUL not in block.state:
        return
    between = (block.ids[senders] >= block.clients) & (receivers >= block.clients)
    add_(block.state[BACKHAUL], tally(senders[between], len(block), nbytes[between]))


def bytes_by_level(sent: np.ndarray, between: np.ndarray, clients: int) -> dict[str, int]:
    """What went up and down between clients and edge servers, and between those and the cloud.

    Args:
        sent: int64 [nodes], bytes that each node has sent; the first server is the cloud.
        between: int64 [nodes], those of them that went from a server to a server.
    """
    return {
        "client_to_edge": int(sent[:clients].sum()),
        "edge_to_client": int((sent - between)[clients:].sum()),
        "edge_to_cloud": int(between[clients + 1 :].sum()),
        "cloud_to_edge": int(between[clients]),
    }
