"""Keys and values of prompts that were read before, by the mixture they were read under.

What a layer computes of a token depends on the adapters: the same text under another mixture, or
under an adapter that was replaced since, is another entry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.route.answering import Mixture

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.route.slab import AdapterSlab

Key = tuple[tuple[int, float], ...]
"""(stamp, weight) of each adapter; of the base alone none."""


def mixture_key(slab: AdapterSlab, mixture: Mixture) -> Key:
    """What a folded mixture is, down to the version of its adapters."""
    return tuple((slab.stamp(a), w) for a, w in zip(mixture.adapters, mixture.weights, strict=True))


@dataclass(frozen=True)
class Prefix:
    """A prompt's beginning that was read before.

    Attributes:
        layers: keys and values [heads, tokens, size] of each layer.
    """

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]


class PrefixCache:
    """The prompts read last.

    Args:
        most: tokens that are kept in all; 0: none.
    """

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.hits = 0
        self._kept: OrderedDict[tuple[Key, tuple[int, ...]], Prefix] = OrderedDict()

    @property
    def tokens(self) -> int:
        """How many are kept."""
        return sum(len(prefix.tokens) for prefix in self._kept.values())

    def longest(self, key: Key, tokens: Sequence[int]) -> Prefix | None:
        """The longest beginning of a prompt that is kept under a mixture.

        At least the prompt's last token is left to be read: its scores are needed.
        """
        best, length = None, 0
        for name, prefix in self._kept.items():
            if name[0] == key and (same := _common(prefix.tokens, tokens)) > length:
                best, length = name, same
        length = min(length, len(tokens) - 1)
        if best is None or not length:
            return None
        self._kept.move_to_end(best)
        self.hits += 1
        layers = tuple((k[:, :length], v[:, :length]) for k, v in self._kept[best].layers)
        return Prefix(tuple(tokens[:length]), layers)

    def put(self, key: Key, prefix: Prefix) -> None:
        """Keep a prompt; the ones that were used longest ago go."""
        if len(prefix.tokens) > self.most:
            return
        self._kept[key, prefix.tokens] = prefix
        self._kept.move_to_end((key, prefix.tokens))
        while self.tokens > self.most:
            self._kept.popitem(last=False)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
