"""What the links of a run file's ``network`` add to the modelled time of messages.

Nobody sleeps for it: the filter that holds a frame up on a real link says when a message would be
there. It works on what has left its sender's device by the clock, so it comes on top of that
device's own link.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from hansa.base.streams import Streams
from hansa.engine.block import Block
from hansa.engine.links.conditions import Course
from hansa.engine.links.limits import MAX_CHUNK
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.shaping import Shaping


class Weather:
    """The links of a run in modelled time.

    What happens on a link follows from the run's seed, its two ends, the moment and what is still
    under way there, which the block of its sender keeps (:attr:`Block.links`): so it is the same
    however nodes are split over workers, and after a resume.

    Args:
        shaping: what the links are like.
        streams: the run's.
    """

    def __init__(self, shaping: Shaping, streams: Streams) -> None:
        self.course = lru_cache(maxsize=1 << 20)(shaping.course)
        self._key = lru_cache(maxsize=1 << 20)(
            lambda sender, receiver: streams.integer("network 0", sender, receiver)
        )

    def arrivals(
        self,
        block: Block,
        senders: np.ndarray,
        receivers: np.ndarray,
        sizes: np.ndarray,
        leaves: np.ndarray,
    ) -> np.ndarray:
        """When messages are at their receivers' doors, s of modelled time [messages].

        Args:
            block: of the senders.
            senders, receivers: node ids, int64 [messages].
            sizes: bytes, int64 [messages].
            leaves: when each has left its sender's device, s [messages]; of one link ascending.
        """
        there = np.array(leaves, dtype=np.float64)
        ends = zip(senders.tolist(), receivers.tolist(), sizes.tolist(), strict=True)
        for e, (sender, receiver, size) in enumerate(ends):
            course = self.course(sender, receiver)
            if not course.plain:
                there[e] = self._carried(block, (sender, receiver), course, there[e], size)
        return there

    def _carried(
        self, block: Block, link: tuple[int, int], course: Course, now: float, size: int
    ) -> float:
        """When a message of ``size`` bytes, sent at ``now``, is there, frame after frame."""
        way = Filter(course, self._key(*link))
        busy = block.links.get(link)
        if busy is not None and not _idle(busy, course, now):
            way.restore(busy)
        else:  # chances are those of the moment: nobody has to remember how many were drawn
            *_, drawn = way.state
            way.restore((*way.state[:4], drawn + _bits(now)))
        at = now
        for start in range(0, max(size, 1), MAX_CHUNK):
            at = way.arrival(now, min(size - start, MAX_CHUNK))
        block.links[link] = way.state
        return at


def _idle(state: tuple[float, float, float, float, int], course: Course, now: float) -> bool:
    """Whether a link has forgotten by ``now`` what it carried, and has all tokens again."""
    free, _, filled, last, _ = state
    there = course.at(now)
    pause = there.burst / there.rate if there.rate else np.inf
    return max(free, last) < now and len(course.starts) == 1 and now - filled > pause


def _bits(moment: float) -> int:
    """A whole number for a moment, another for each."""
    return int.from_bytes(struct.pack("<d", moment), "little") & (2**63 - 1)
