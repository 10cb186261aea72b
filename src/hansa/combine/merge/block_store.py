"""Models read once, block by block, and kept on disk with each distinct version once.

Of every block a file holds the base's numbers and those of the models, as they were; models whose
bytes are equal share a version. A file is whole or absent, so that what was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.combine.merge.block_layout import BlockLayout
from hansa.weights.model_folder import ModelFolder, whole_sha256
from hansa.weights.streamed import StreamedWriter
from hansa.weights.tensor_file import TensorEntry, raw_bytes, read_entry, read_header

if TYPE_CHECKING:
    from torch import Tensor

_NOTE = "hansa.block"


@dataclass(frozen=True)
class StoredBlock:
    """One block of all models.

    Attributes:
        versions: which version each model has, in the order in which they came.
        digests: of the base and of each model, a digest for each piece.
    """

    layout: BlockLayout
    versions: tuple[int, ...]
    digests: tuple[tuple[str, ...], ...]
    entries: Mapping[str, TensorEntry]

    @property
    def count(self) -> int:
        """How many versions there are."""
        return max(self.versions) + 1

    @property
    def owners(self) -> tuple[int, ...]:
        """The first model that has each version."""
        return tuple(self.versions.index(v) for v in range(self.count))

    def members(self, group: Sequence[int]) -> tuple[int, ...]:
        """The models that have one of these versions, ascending."""
        return tuple(m for m, version in enumerate(self.versions) if version in group)

    def base(self) -> Tensor:
        """The base's numbers [numbers], as stored."""
        return read_entry(self.entries["base"])

    def version(self, number: int) -> Tensor:
        """A version's numbers [numbers], as stored."""
        return read_entry(self.entries["versions"], slice(number, number + 1))[0]

    def taus(self, which: Sequence[int] | None = None) -> Tensor:
        """Task vectors float32 [n, numbers] of some versions, or of all."""
        which = range(self.count) if which is None else which
        base = self.base()
        if self.layout.dtype == "F32":  # in place: nothing else as large is in memory
            first, last = min(which, default=0), max(which, default=-1) + 1
            if list(which) == list(range(first, last)):
                return read_entry(self.entries["versions"], slice(first, last)).sub_(base)
        taus = torch.empty(len(which), self.layout.numbers)
        wide = base.double() if self.layout.dtype == "F64" else base.float()
        for row, number in zip(taus, which, strict=True):
            row.copy_(self.version(number).to(wide.dtype).sub_(wide))
        return taus


def stored_block(file: Path, layout: BlockLayout) -> StoredBlock:
    """The block of a file."""
    header = read_header(file, "artefact")
    note = json.loads(header.metadata[_NOTE])
    digests = tuple(tuple(each) for each in note["digests"])
    return StoredBlock(layout, tuple(note["versions"]), digests, header.entries)


@dataclass
class BlockReader:
    """Reads models into files of blocks.

    Attributes:
        models, base: of one form.
    """

    models: Sequence[ModelFolder]
    base: ModelFolder
    _space: dict[str, Tensor] = field(default_factory=dict)

    def read(self, file: Path, layout: BlockLayout) -> None:
        """Write a block's file.

        Raises:
            ConfigError: a number is not finite; names the model's file and the tensor.
            DiskError: the disk is full or fails.
        """
        rows = self._rows(layout)
        layout.read(self.base, rows[-1])
        digests = [_digests(layout, rows[-1])]
        known: dict[tuple[str, ...], int] = {}
        versions: list[int] = []
        for model in self.models:
            row = rows[len(known)]
            layout.read(model, row)
            digests.append(_digests(layout, row))
            versions.append(known.setdefault(digests[-1], len(known)))
        count = len(known)
        shapes = {"versions": (count, layout.numbers), "base": (layout.numbers,)}
        note = json.dumps({"versions": versions, "digests": digests})
        declared = {name: (layout.dtype, shape) for name, shape in shapes.items()}
        with StreamedWriter(file, declared, {_NOTE: note}) as writer:
            writer.write("versions", rows[:count])
            writer.write("base", rows[-1])

    def _rows(self, layout: BlockLayout) -> Tensor:
        """Room for every model and the base, the same for all blocks."""
        wanted = (len(self.models) + 1) * layout.numbers
        space = self._space.get(layout.dtype)
        if space is None or space.numel() < wanted:
            self._space.pop(layout.dtype, None)
            space = self._space[layout.dtype] = torch.empty(wanted, dtype=layout.torch_dtype)
        return space[:wanted].view(len(self.models) + 1, layout.numbers)


def _digests(layout: BlockLayout, row: Tensor) -> tuple[str, ...]:
    return tuple(
        hashlib.sha256(raw_bytes(row[piece.start : piece.stop])).hexdigest()
        for piece in layout.pieces
    )


def model_digests(
    models: Sequence[ModelFolder],
    base: ModelFolder,
    blocks: Sequence[StoredBlock],
    kept: Callable[[int, str], str],
) -> list[str]:
    """What :meth:`ModelFolder.sha256` gives of the base and of each model, without reading them.

    Args:
        kept: the digest of a tensor that is in no block, of the base (0) or a model (from 1).
    """
    pieces: dict[str, list[tuple[StoredBlock, int]]] = {}
    for block in blocks:
        for place, piece in enumerate(block.layout.pieces):
            pieces.setdefault(piece.name, []).append((block, place))
    for parts in pieces.values():
        parts.sort(key=lambda part: part[0].layout.pieces[part[1]].first_row)

    def of(which: int, name: str) -> str:
        parts = pieces.get(name)
        if parts is None:
            return kept(which, name)
        if len(parts) == 1:
            block, place = parts[0]
            return block.digests[which][place]
        whole = hashlib.sha256()
        for block, place in parts:
            piece = block.layout.pieces[place]
            row = block.version(block.versions[which - 1]) if which else block.base()
            whole.update(raw_bytes(row[piece.start : piece.stop]))
        return whole.hexdigest()

    return [
        whole_sha256(model.entries, {name: of(which, name) for name in model.entries})
        for which, model in enumerate([base, *models])
    ]
