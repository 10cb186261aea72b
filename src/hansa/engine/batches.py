"""Which examples a node sees in a round."""

from __future__ import annotations

import numpy as np


def draw_batches(
    part: np.ndarray, steps: int, batch_size: int, random: np.random.Generator
) -> np.ndarray:
    """Mini-batches from fresh permutations of a node's examples: int64 [steps, batch_size].

    Each round begins a new permutation, and another one begins when fewer than a whole batch is
    left, as a shuffled loader that drops its last, smaller batch.

    Args:
        part: the node's example indices, at least ``batch_size`` of them.
    """
    whole = len(part) // batch_size
    passes = -(-steps // whole)
    drawn = [random.permutation(part)[: whole * batch_size] for _ in range(passes)]
    return np.concatenate(drawn)[: steps * batch_size].reshape(steps, batch_size)
