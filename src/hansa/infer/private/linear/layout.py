"""Where the numbers of values and of blocks lie in the coefficients of polynomials.

Huang, Lu, Hong and Ding (2022, Cheetah, section 3.1) put a channel's rows one after the other and
channels one after the other, so that a product of two polynomials is a convolution. Differences:
values are cut into phases (:mod:`.steps`), so that every stride is one; zeros between rows and
between channels are shared by what lies on both sides; and what terms of one block write lands on
the same coefficients, so that they are added.

A value's channel (times phase) k of a tile lies in polynomial k // together, its number (row r,
column c) at (k % together)·plane + r·width + c. A block's channel (times phase) m lies in
polynomial m // together, its number (i, j) of a tile at (m % together)·spacing + i·width + j. All
other coefficients of a product are garbage: linear in the weights, and never sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from hansa.infer.private.program import Pair


@dataclass(frozen=True)
class Axis:
    """How one axis of a value or a block is cut.

    Attributes:
        cut: phases.
        tile: outputs of a phase that a tile is for.
        tiles: how many.
        start: the first number of a phase that tile 0 holds (values only); tile t starts at
            start + t·tile.
        count: numbers of a phase that a tile holds.
    """

    cut: int
    tile: int
    tiles: int
    start: int
    count: int


class _Tiled(ABC):
    """What is cut into tiles, each of so many groups of numbers that share a polynomial."""

    rows: Axis
    columns: Axis

    @property
    @abstractmethod
    def groups(self) -> int:
        """Polynomials of a tile."""

    @property
    def tiles(self) -> int:
        """Tiles of a row of the batch."""
        return self.rows.tiles * self.columns.tiles

    @property
    def polynomials(self) -> int:
        """Of one row of the batch: tiles times groups, in this order."""
        return self.tiles * self.groups


@dataclass(frozen=True)
class Placement(_Tiled):
    """Where a value lies in the ciphertexts that the client uploads.

    Attributes:
        value: its name.
        channels: of the value.
        rows, columns: how it is cut.
        phases: those that any term reads, (row, column); channel c and the f-th of them are
            number k = c·len(phases) + f.
        width: coefficients from one row to the next.
        plane: from one number k to the next.
        together: how many lie in one polynomial.
    """

    value: str
    channels: int
    rows: Axis
    columns: Axis
    phases: tuple[Pair, ...]
    width: int
    plane: int
    together: int

    @property
    def groups(self) -> int:
        """Polynomials of a tile."""
        return -(-self.channels * len(self.phases) // self.together)


@dataclass(frozen=True)
class Landing(_Tiled):
    """Where a block's accumulators lie in the ciphertexts that the server sends.

    Attributes:
        shape: (channels, height, width) of the block.
        rows, columns: how its outputs are cut; ``count`` and ``start`` say nothing.
        width: coefficients from one row to the next.
        spacing: from one number m to the next; channel c and phase f are number
            m = c·phases + f, the phases in order of rows, then columns.
        together: how many lie in one polynomial.
    """

    shape: tuple[int, int, int]
    rows: Axis
    columns: Axis
    width: int
    spacing: int
    together: int

    @property
    def numbers(self) -> int:
        """Channels times phases."""
        return self.shape[0] * self.rows.cut * self.columns.cut

    @property
    def groups(self) -> int:
        """Polynomials of a tile."""
        return -(-self.numbers // self.together)


@dataclass(frozen=True)
class Layout:
    """The whole of a program.

    Attributes:
        n: coefficients of a polynomial.
        placements: in the order in which they are uploaded, the round's values one by one.
        sources: of each (block, number of the term), the place of its placement in ``placements``.
        landings: by the block's name.
    """

    n: int
    placements: tuple[Placement, ...]
    sources: dict[tuple[str, int], int]
    landings: dict[str, Landing]

    def of(self, value: str) -> tuple[int, ...]:
        """Where a value's placements stand in ``placements``."""
        return tuple(at for at, one in enumerate(self.placements) if one.value == value)
