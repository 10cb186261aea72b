"""Which examples a node sees in a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError


@dataclass(frozen=True)
class Batching:
    """How a node's examples become mini-batches.

    Attributes:
        batch_size: examples a step.
        drop_last: leave out the last, smaller batch of a pass; otherwise it is used, and a node
            with fewer examples than ``batch_size`` uses them all at each step.
        fresh: draw each mini-batch anew from all examples, none twice in it, instead of in passes.
    """

    batch_size: int
    drop_last: bool = True
    fresh: bool = False

    def per_pass(self, sizes: np.ndarray) -> np.ndarray:
        """Steps that nodes with so many examples take in one pass (epoch): int64 [k]."""
        whole = sizes // self.batch_size
        return whole if self.drop_last else -(-sizes // self.batch_size)

    def samples(self, sizes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Examples in the first ``steps`` [k] batches of nodes with ``sizes`` examples: int64."""
        if self.drop_last:
            return steps * self.batch_size
        if self.fresh:
            return steps * np.minimum(sizes, self.batch_size)
        passes, rest = np.divmod(steps, np.maximum(self.per_pass(sizes), 1))
        return passes * sizes + rest * self.batch_size

    def within(self, sizes: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """The most steps [k] with at most so many ``examples`` [k]: the inverse of samples."""
        if self.drop_last:
            return examples // self.batch_size
        if self.fresh:
            return examples // np.maximum(np.minimum(sizes, self.batch_size), 1)
        passes, rest = np.divmod(examples, np.maximum(sizes, 1))
        return passes * self.per_pass(sizes) + rest // self.batch_size

    def lengths(self, size: int, steps: int) -> np.ndarray:
        """Examples of each of the first ``steps`` batches of a node: int64 [steps]."""
        lengths = np.full(steps, min(size, self.batch_size), dtype=np.int64)
        rest = size % self.batch_size
        if rest and not self.drop_last and not self.fresh:
            each = size // self.batch_size + 1
            lengths[each - 1 :: each] = rest
        return lengths

    def draw(self, part: np.ndarray, steps: int, random: np.random.Generator) -> np.ndarray:
        """A node's batches: int64 [steps, w], w at most the batch size.

        A batch of fewer than w examples (see :meth:`lengths`) is filled up at its end with an
        example of the node, which must not count.

        Raises:
            ConfigError: there is not one whole batch, and smaller ones are left out.
        """
        if self.drop_last and len(part) < self.batch_size:
            raise ConfigError(
                "train.batch_size",
                self.batch_size,
                f"a node has only {len(part)} training examples",
                f"at most {len(part)}, or train.drop_last: false",
            )
        width = min(self.batch_size, len(part))
        if self.fresh:
            drawn = [random.choice(part, width, replace=False) for _ in range(steps)]
            return np.stack(drawn)
        if len(part) % width == 0 or self.drop_last:
            return draw_batches(part, steps, width, random)
        each = len(part) // width + 1
        padded = np.full((-(-steps // each), each * width), part[0])
        for line in padded:
            line[: len(part)] = random.permutation(part)
        return padded.reshape(-1, width)[:steps]

    def drawn(
        self, part: np.ndarray, steps: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(a node's batches as of :meth:`draw`, how many of each count; None where all do)."""
        batches = self.draw(part, steps, random)
        return batches, None if self.drop_last else self.lengths(len(part), steps)


@dataclass(frozen=True)
class PoissonBatching(Batching):
    """Every example is in every batch by itself, with chance ``batch_size`` / size.

    That is what accountants of privacy assume. How many that are is nobody's business, so that
    counts and modelled times are of the expected number.
    """

    def samples(self, sizes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        return steps * np.minimum(sizes, self.batch_size)

    def within(self, sizes: np.ndarray, examples: np.ndarray) -> np.ndarray:
        return examples // np.maximum(np.minimum(sizes, self.batch_size), 1)

    def drawn(
        self, part: np.ndarray, steps: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        rate = min(1.0, self.batch_size / len(part))
        each = [part[random.random(len(part)) < rate] for _ in range(steps)]
        lengths = np.array([len(one) for one in each], dtype=np.int64)
        batches = np.full((steps, max(1, int(lengths.max(initial=0)))), part[0])
        for line, one in zip(batches, each, strict=True):
            line[: len(one)] = one
        return batches, lengths


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
    joined = drawn[0] if passes == 1 else np.concatenate(drawn)
    return joined[: steps * batch_size].reshape(steps, batch_size)
