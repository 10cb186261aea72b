"""How the training examples are dealt to the nodes: the base class and the even deal.

A partition is a pure function of (targets, groups, nodes, generator). Its result is checked
here once for all: sorted, disjoint, in range, no node empty.
"""

from __future__ import annotations

import heapq
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.data.dealing.deal import Deal

Parts: TypeAlias = "Sequence[np.ndarray]"
"""Indices of the training examples of every node, in any order."""


@dataclass(frozen=True)
class Pile:
    """What is dealt.

    Attributes:
        targets: [N] classes (int64) or values (float32) of the training examples.
        groups: [N] natural owners, or None.
        owners: how many there are in all, those without training examples too; 0: not known.
    """

    targets: np.ndarray
    groups: np.ndarray | None = None
    owners: int = 0

    def __len__(self) -> int:
        return len(self.targets)


class Partition(Component, kind="partition"):
    """A rule that gives every node its training examples; a subclass defines ``deal``."""

    def split(
        self,
        targets: np.ndarray,
        groups: np.ndarray | None,
        nodes: int,
        rng: np.random.Generator,
        owners: int = 0,
    ) -> Deal:
        """The examples of every node.

        Args:
            targets: [N] classes (int64) or values (float32) of the training examples.
            groups: [N] natural owners, or None.
            nodes: number of nodes.
            rng: decides the deal; the same state gives the same deal.
            owners: as in :class:`Pile`.

        Returns:
            Sorted int64 indices per node, pairwise disjoint, none empty. Together they are all
            examples unless the partition says otherwise.

        Raises:
            ConfigError: the setting named in it cannot work with these data.
        """
        if nodes < 1:
            raise ConfigError("nodes", nodes, "there must be at least one", "write 1 or more")
        if nodes > len(targets):
            raise ConfigError(
                "nodes",
                nodes,
                f"there are only {len(targets)} training examples, so some node would have none",
                "use fewer nodes or a larger data set",
            )
        return checked(self.deal(Pile(targets, groups, owners), nodes, rng), len(targets), nodes)

    @abstractmethod
    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        """The indices of every node; the one method of a subclass."""


@register("iid")
class Iid(Partition):
    """Every node gets an equal share drawn at random (sizes differ by one at most)."""

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        least, more = divmod(len(pile), nodes)
        sizes = np.full(nodes + 1, least, dtype=np.int64)
        sizes[1 : more + 1] += 1
        sizes[0] = 0
        return Deal(rng.permutation(len(pile)), np.cumsum(sizes))


def checked(parts: Sequence[np.ndarray], samples: int, nodes: int) -> Deal:
    """``parts`` sorted as int64, once it is sure that they are a proper deal.

    Raises:
        ConfigError: the number of parts is wrong, one is empty, or an index is not a whole
            number, out of range or dealt twice.
    """
    if len(parts) != nodes:
        raise ConfigError("", len(parts), f"parts were made for {nodes} nodes", "make one a node")
    if not isinstance(parts, Deal):
        for node, part in enumerate(parts):
            array = np.asarray(part)
            if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
                problem = f"node {node} got no list of whole numbers"
                raise ConfigError("", None, problem, "return those")
        parts = Deal.of([np.asarray(part).astype(np.int64) for part in parts])
    sizes, everything = parts.sizes, parts.numbers
    if not sizes.all():
        problem = f"node {int(sizes.argmin())} would have no examples"
        raise ConfigError("nodes", nodes, problem, "use fewer nodes")
    if everything.min() < 0 or everything.max() >= samples:
        raise ConfigError("", None, f"an index lies outside 0..{samples - 1}", "stay inside")
    if np.bincount(everything, minlength=samples).max() > 1:
        twice = int(np.bincount(everything, minlength=samples).argmax())
        raise ConfigError("", None, f"example {twice} was dealt twice", "deal each at most once")
    owner = np.repeat(np.arange(nodes), sizes)
    return Deal(everything[np.lexsort((everything, owner))], parts.starts)


def classes_of(targets: np.ndarray, partition: Component) -> np.ndarray:
    """``targets`` if they are classes.

    Raises:
        ConfigError: they are values of a regression, which have no classes to deal by.
    """
    if targets.dtype.kind == "f":
        raise ConfigError(
            "name",
            type(partition).name,
            "deals by class, but the targets of this data set are numbers",
            "use iid, quantity or natural",
        )
    return targets


def apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to ``total`` in proportion to ``shares`` (largest remainder)."""
    quotas = shares / shares.sum() * total
    counts = np.floor(quotas).astype(np.int64)
    order = np.argsort(counts - quotas, kind="stable")  # the largest remainder first
    counts[order[: total - counts.sum()]] += 1
    return counts


def top_up(parts: list[list[int]], minimum: int) -> None:
    """Move examples one by one from the largest part to those below ``minimum``, in place.

    Takes from the end of a part, so that a part ordered by class gives and gets few classes.

    Raises:
        ConfigError: there are not enough examples for all.
    """
    samples, nodes = sum(map(len, parts)), len(parts)
    if minimum * nodes > samples:
        raise ConfigError(
            "min_samples",
            minimum,
            f"{nodes} nodes would need {minimum * nodes} examples, there are {samples}",
            f"at most {samples // nodes}, or fewer nodes",
        )
    largest = [(-len(part), node) for node, part in enumerate(parts)]
    heapq.heapify(largest)
    for part in parts:
        while len(part) < minimum:
            # While one part is short, the largest holds more than the minimum, so it never
            # becomes short itself; the parts that were filled up stay listed with too few.
            size, donor = largest[0]
            part.append(parts[donor].pop())
            heapq.heapreplace(largest, (size + 1, donor))


def label_histogram(targets: np.ndarray, parts: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """How many examples of each class each part holds, int64 [len(parts), classes]."""
    return np.stack([np.bincount(targets[part], minlength=classes) for part in parts])
