"""Shares of the noise in masked sums, and what is clipped before it is masked.

See :class:`~hansa.privacy.distributed.DistributedPrivacy`. A node's contribution is what it last
heard, which is known, plus the clipped difference of its model to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.engine import Block
from hansa.engine.accounts import ACCOUNTS, FAN, ReleaseAccounts
from hansa.learn.secure.masking import WORD
from hansa.privacy.distributed import FINEST, DistributedPrivacy
from hansa.topology import Graph

HEARD = "privacy.heard"
"""In a block's state: what each node last heard, the mean of others, float32 [n, D]."""
_DEVIATIONS = 10
_TINY = 1e-12


def begin(block: Block, graph: Graph) -> None:
    """At first every node has heard the initial model; it speaks to so many in a round."""
    if isinstance(block.privacy, DistributedPrivacy):
        block.facts[FAN] = max(1, int(graph.out_degrees.max(initial=0)))
        initial = block.trainer.layout.flatten(block.trainer.module).cpu()
        block.state[HEARD] = initial.repeat(len(block), 1)


def said(block: Block, rows: np.ndarray) -> np.ndarray:
    """What nodes have masked of their models [n, D]: those, within the clip of what they heard."""
    privacy = block.privacy
    if not isinstance(privacy, DistributedPrivacy):
        return rows
    heard = block.state[HEARD].double().numpy()
    new = np.nan_to_num(rows.astype(np.float64) - heard, nan=0.0, posinf=0.0, neginf=0.0)
    norms = np.linalg.norm(new, axis=1, keepdims=True)
    near = heard + new * np.minimum(1.0, privacy.bound / np.maximum(norms, _TINY))
    return near.astype(np.float32)


def hear(block: Block, k: int, chosen: np.ndarray | None, words: np.ndarray, step: float) -> None:
    """Take note of what the node at position ``k`` heard at the numbers ``chosen`` (None: all).

    Args:
        words: uint32, the sum.
        step: what one of its steps is worth in the mean of those that were heard.
    """
    if isinstance(block.privacy, DistributedPrivacy):
        row = block.state[HEARD][k].numpy()
        row[... if chosen is None else chosen] = words.view(np.int32) * step


def spare(block: Block) -> int | None:
    """How many senders of a sum may be missing, so that the noise of the others is enough."""
    privacy = block.privacy
    return privacy.tolerated if isinstance(privacy, DistributedPrivacy) else None


@dataclass(frozen=True)
class Shares:
    """The shares of noise of one sum.

    Attributes:
        size: numbers of a row.
        heaviest: the largest weight in it.
        senders: how many there are.
    """

    privacy: DistributedPrivacy
    noise: float
    size: int
    fraction_bits: int
    heaviest: float
    senders: int

    @property
    def sensitivity(self) -> float:
        """How far one sender moves the sum, in its whole numbers; each is rounded by a half."""
        clip = self.heaviest * self.privacy.bound * 2.0**self.fraction_bits
        return clip + self.size**0.5

    def check(self) -> None:
        """Refuse numbers that are too coarse for the accounting, or noise that does not fit.

        Raises:
            ConfigError: naming the setting.
        """
        bits, privacy = self.fraction_bits, self.privacy
        if self.senders <= privacy.tolerated:
            problem = f"a node hears {self.senders}, whose noise cannot all be missing"
            fix = f"at most {self.senders - 1}, or more neighbours"
            raise ConfigError("privacy.tolerated", privacy.tolerated, problem, fix)
        if self.sensitivity < FINEST:
            problem = f"a clip of {privacy.bound:g} has {self.sensitivity:.0f} steps of numbers"
            fix = f"more, so that it has {FINEST}, or a larger clip"
            raise ConfigError("algorithm.fraction_bits", bits, problem, fix)
        reach = 2.0 ** (WORD - 1) / (self.senders + 1)
        if _DEVIATIONS * self.noise * self.sensitivity > reach:
            problem = f"noise of {self.noise:g} clips does not fit into {WORD} bits"
            raise ConfigError("algorithm.fraction_bits", bits, problem, "fewer, or a smaller clip")

    def add(self, words: np.ndarray, random: np.random.Generator) -> None:
        """Add one sender's share to its words, uint32 [size], in place."""
        if not self.noise:
            return
        variance = (self.noise * self.sensitivity) ** 2
        each = variance / (self.senders - self.privacy.tolerated) / 2
        drawn = random.poisson(each, len(words)) - random.poisson(each, len(words))
        words += drawn.astype(np.uint32)  # modulo 2^32, as the masks


def shares_of(block: Block, weights: np.ndarray, fraction_bits: int) -> Shares | None:
    """The shares of a sum in which senders have these weights; None: there is no noise in it."""
    privacy = block.privacy
    if not isinstance(privacy, DistributedPrivacy):
        return None
    accounts = block.facts[ACCOUNTS]
    assert isinstance(accounts, ReleaseAccounts)
    noise = accounts.noise(block)
    return Shares(
        privacy, noise, block.rows.shape[1], fraction_bits, float(weights.max()), len(weights)
    )


def count(block: Block, fans: np.ndarray) -> None:
    """Count as many releases of each node as it has receivers [n]."""
    if isinstance(block.privacy, DistributedPrivacy):
        accounts = block.facts[ACCOUNTS]
        assert isinstance(accounts, ReleaseAccounts)
        accounts.release(block, np.repeat(np.arange(len(block)), fans))
