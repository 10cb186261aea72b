"""What a group of a block's versions takes on disk, to the byte.

A version is what one or more models hold in a block; models with the same bytes share it. A plain
group stores one vector in the models' own type. A masked group stores the shared task vector, one
bit a number for every version, and its scaler where the algorithm has one; the base's numbers are
stored once a block, for all its masked groups. Where that would take no less than the versions
themselves, these are stored: of two always, of more in very small blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hansa.combine.merge.dendrogram import Group, Partition

SCALER_BYTES = 4


@dataclass(frozen=True)
class BlockSize:
    """Of one version of a block.

    Attributes:
        numbers: how many.
        bytes: of them as stored.
    """

    numbers: int
    bytes: int


@dataclass(frozen=True)
class Ledger:
    """What the bytes of a stage are.

    Attributes:
        own: versions stored as they are for one group of models alone.
        shared: merged vectors.
        masks, scalers: of masked groups.
        base: the base's numbers beside masked groups.
    """

    own: int = 0
    shared: int = 0
    masks: int = 0
    scalers: int = 0
    base: int = 0

    @property
    def total(self) -> int:
        return self.own + self.shared + self.masks + self.scalers + self.base

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(
            self.own + other.own,
            self.shared + other.shared,
            self.masks + other.masks,
            self.scalers + other.scalers,
            self.base + other.base,
        )


@dataclass(frozen=True)
class Accounting:
    """How an algorithm's groups are counted.

    Attributes:
        masked: whether it gives masks.
        scaled: whether it gives a scaler for each version.
    """

    masked: bool = False
    scaled: bool = False

    def merges(self, group: Group, size: BlockSize) -> bool:
        """Whether a group is stored merged; otherwise as the versions that it has."""
        if len(group) == 1:
            return False
        if not self.masked:
            return True
        return 2 * size.bytes + len(group) * self._own(size) < len(group) * size.bytes

    def ledger(self, partition: Partition, size: BlockSize) -> Ledger:
        """The bytes of a block whose versions are grouped so."""
        total = Ledger()
        for group in partition:
            if not self.merges(group, size):
                total += Ledger(own=len(group) * size.bytes)
            elif not self.masked:
                total += Ledger(shared=size.bytes)
            else:
                scalers = len(group) * SCALER_BYTES if self.scaled else 0
                masks = len(group) * mask_bytes(size.numbers)
                total += Ledger(shared=size.bytes, masks=masks, scalers=scalers)
        if total.masks:
            total += Ledger(base=size.bytes)
        return total

    def costs(self, stages: Sequence[Partition], size: BlockSize) -> tuple[int, ...]:
        """The bytes of a block at each of its stages."""
        return tuple(self.ledger(partition, size).total for partition in stages)

    def _own(self, size: BlockSize) -> int:
        return mask_bytes(size.numbers) + (SCALER_BYTES if self.scaled else 0)


def mask_bytes(numbers: int) -> int:
    """Of one packed mask."""
    return (numbers + 7) // 8
