"""A safetensors file that is written tensor by tensor and never held in memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hansa.base.files import writing
from hansa.weights.tensor_file import ITEM_BYTES, dtype_name, raw_bytes

if TYPE_CHECKING:
    from torch import Tensor


Entry = tuple[str, tuple[int, ...]]
"""A tensor's safetensors type and shape."""


class StreamedWriter:
    """Writes one safetensors file; it takes its name when every tensor is written.

    Use it in a ``with``: an error removes what was written. The header is laid out first, so
    tensors come in any order, and big ones some rows at a time.

    Args:
        path: of the file.
        entries: name to safetensors type and shape.
        metadata: what the header says besides.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, Entry],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self._partial = path.with_name(f"{path.name}.part")
        self._entries = dict(entries)
        self._left = {name: _size(entry) for name, entry in self._entries.items()}
        header, self._places = _laid_out(self._entries, metadata or {})
        self._start = 8 + len(header)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
            self._file.write(len(header).to_bytes(8, "little") + header)
            self._file.flush()

    def write(self, name: str, tensor: Tensor, row: int = 0) -> None:
        """Write a tensor, or rows of it beginning with ``row``.

        Raises:
            ValueError: its type or shape is not what was declared; a range written twice shows
                when the file is closed.
        """
        dtype, shape = self._entries[name]
        fits = tensor.shape[1:] == shape[1:] and row + len(tensor) <= shape[0] if shape else True
        if dtype_name(tensor.dtype) != dtype or tensor.ndim != len(shape) or not fits:
            got = f"{dtype_name(tensor.dtype)} {tuple(tensor.shape)} at row {row}"
            raise ValueError(f"{name} was declared as {dtype} {shape}, not {got}")
        data = raw_bytes(tensor)
        row_bytes = len(data) // max(1, len(tensor)) if shape else 0
        place = self._start + self._places[name] + row * row_bytes
        self._left[name] -= len(data)
        with writing(self.path):
            while data:
                done = os.pwrite(self._file.fileno(), data, place)
                data, place = data[done:], place + done

    def note(self, metadata: Mapping[str, str]) -> None:
        """Replace what the header says besides, by what is as long.

        Raises:
            ValueError: it is longer or shorter.
        """
        header, _ = _laid_out(self._entries, metadata)
        if len(header) != self._start - 8:
            raise ValueError(f"{self.path}: a header cannot change its length")
        with writing(self.path):
            os.pwrite(self._file.fileno(), header, 8)

    def close(self) -> None:
        """Give the file its name.

        Raises:
            ValueError: a tensor is not written, or rows of it twice; nothing is left behind.
        """
        if wrong := [name for name, left in self._left.items() if left]:
            self.discard()
            raise ValueError(f"{self.path}: {wrong[0]} was not written exactly once")
        with writing(self.path):
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)

    def discard(self) -> None:
        """Leave no trace of the file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> StreamedWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


def file_bytes(entries: Mapping[str, Entry], metadata: Mapping[str, str] | None = None) -> int:
    """The size of the file that a :class:`StreamedWriter` of the same would write."""
    header, _ = _laid_out(entries, metadata or {})
    return 8 + len(header) + sum(map(_size, entries.values()))


def _size(entry: Entry) -> int:
    return math.prod(entry[1]) * ITEM_BYTES[entry[0]]


def _laid_out(
    entries: Mapping[str, Entry], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """The header, and where each tensor begins after it."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    places: dict[str, int] = {}
    place = 0
    # The order of safetensors' own writer.
    for name in sorted(entries, key=lambda n: (-ITEM_BYTES[entries[n][0]], n)):
        dtype, shape = entries[name]
        end = place + _size(entries[name])
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        places[name] = place
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8), places  # so that tensors lie at addresses that fit
