"""How a block's tensors lie in its flat vector, and which tensors no block holds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import Piece
from hansa.combine.merge.batch_norm import is_statistic
from hansa.combine.merge.byte_ledger import BlockSize
from hansa.weights.blocks import BlockPart, blocks_of, parts_of
from hansa.weights.model_folder import ModelFolder
from hansa.weights.tensor_file import FLOATS, ITEM_BYTES, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

ROWS_AT_MOST = 4096
"""Rows of a tensor that is a block by itself; a larger one is split."""


@dataclass(frozen=True)
class BlockLayout:
    """A block of one type of numbers.

    Attributes:
        dtype: safetensors' name of the type.
        pieces: tensors, or rows of them, in the order in which they lie.
    """

    name: str
    dtype: str
    pieces: tuple[Piece, ...]

    @property
    def numbers(self) -> int:
        return self.pieces[-1].stop

    @property
    def size(self) -> BlockSize:
        return BlockSize(self.numbers, self.numbers * ITEM_BYTES[self.dtype])

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch_dtype(self.dtype)

    def read(self, model: ModelFolder, row: Tensor) -> None:
        """Put a model's numbers into a row [numbers].

        Raises:
            ConfigError: one of them is not finite; names the file and the tensor.
        """
        for piece in self.pieces:
            piece.of(row).copy_(model.read(piece.name, piece_rows(piece)))
        low, high = row.aminmax()
        if not math.isfinite(float(low)) or not math.isfinite(float(high)):
            for piece in self.pieces:
                model.read(piece.name, piece_rows(piece), finite=True)

    def to_json(self) -> dict[str, Any]:
        pieces = [[p.name, list(p.shape), p.first_row] for p in self.pieces]
        return {"name": self.name, "dtype": self.dtype, "pieces": pieces}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> BlockLayout:
        pieces, start = [], 0
        for name, shape, first_row in facts["pieces"]:
            pieces.append(Piece(name, tuple(shape), start, first_row))
            start = pieces[-1].stop
        return cls(facts["name"], facts["dtype"], tuple(pieces))


def piece_rows(piece: Piece) -> slice | None:
    """The rows of the tensor that a piece is; None for a number without rows."""
    return slice(piece.first_row, piece.first_row + piece.shape[0]) if piece.shape else None


def merged_names(base: ModelFolder, heads: Collection[str] = ()) -> list[str]:
    """The tensors that are merged: those of floats that are in no head.

    The statistics of batch normalization are counted, not trained: every model keeps its own.
    """
    return [
        name
        for name, entry in base.entries.items()
        if entry.dtype in FLOATS
        and entry.bytes
        and not name.startswith(tuple(heads))
        and not is_statistic(name)
    ]


def lay_out(
    base: ModelFolder,
    heads: Collection[str] = (),
    parts: Mapping[str, Sequence[BlockPart]] | None = None,
    rows_at_most: int | None = ROWS_AT_MOST,
) -> tuple[BlockLayout, ...]:
    """The blocks of a model, in the order in which inputs meet them.

    A block whose tensors have several types becomes one block a type.

    Args:
        heads: beginnings of names that are not merged.
        parts: blocks of one's own; None: sub-layers, with tensors that are blocks by themselves
            split into at most ``rows_at_most`` rows.

    Raises:
        ConfigError: the blocks do not hold every tensor exactly once, or there is nothing to merge.
    """
    names = merged_names(base, heads)
    if not names:
        raise ConfigError("heads", list(heads), "leave no tensor to merge", "name fewer")
    parts = parts_of(base, blocks_of(names), rows_at_most) if parts is None else parts
    _check(base, names, parts)
    layouts = []
    for block, members in parts.items():
        types = sorted({base.entries[part.tensor].dtype for part in members})
        for dtype in types:
            of_type = [part for part in members if base.entries[part.tensor].dtype == dtype]
            title = block if len(types) == 1 else f"{block}.{dtype}"
            layouts.append(_layout(base, title, dtype, of_type))
    return tuple(layouts)


def _layout(base: ModelFolder, name: str, dtype: str, parts: Sequence[BlockPart]) -> BlockLayout:
    pieces, start = [], 0
    for part in parts:
        whole = base.entries[part.tensor].shape
        shape = (part.stop - part.start, *whole[1:]) if whole else ()
        pieces.append(Piece(part.tensor, shape, start, part.start if whole else 0))
        start = pieces[-1].stop
    return BlockLayout(name, dtype, tuple(pieces))


def _check(
    base: ModelFolder, names: Collection[str], parts: Mapping[str, Sequence[BlockPart]]
) -> None:
    ranges: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for block, members in parts.items():
        if not members:
            raise ConfigError("blocks", block, "holds no tensor")
        for part in members:
            if part.tensor not in ranges:
                raise ConfigError("blocks", part.tensor, "is no tensor that is merged")
            ranges[part.tensor].append((part.start, part.stop))
    for name, spans in ranges.items():
        shape = base.entries[name].shape
        place = 0
        for start, stop in sorted(spans):
            if start != place or stop <= start:
                break
            place = stop
        if place != (shape[0] if shape else 1) or not spans:
            problem = "is not in exactly one block, row by row"
            raise ConfigError("blocks", name, problem, "every tensor has to be")
