"""The header of a safetensors file: which tensors lie where, learnt without reading one of them.

The format: eight bytes with the header's length, the header as JSON (name to type, shape and the
range of bytes), then the tensors' bytes without gaps. Nothing in it can be executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_TYPES = (
    *(("F64", "float64", 8), ("F32", "float32", 4), ("F16", "float16", 2)),
    *(("BF16", "bfloat16", 2), ("F8_E4M3", "float8_e4m3fn", 1), ("F8_E5M2", "float8_e5m2", 1)),
    *(("I64", "int64", 8), ("I32", "int32", 4), ("I16", "int16", 2), ("I8", "int8", 1)),
    *(("U64", "uint64", 8), ("U32", "uint32", 4), ("U16", "uint16", 2), ("U8", "uint8", 1)),
    ("BOOL", "bool", 1),
)

ITEM_BYTES = {name: size for name, _, size in _TYPES}
"""Bytes of one number by safetensors' name of its type."""

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""The types in which weights are merged."""

_TORCH = {name: own for name, own, _ in _TYPES}
_LONGEST_HEADER = 100 << 20


def torch_dtype(dtype: str) -> torch.dtype:
    """torch's type of a safetensors type."""
    return getattr(torch, _TORCH[dtype])


def dtype_name(dtype: torch.dtype) -> str:
    """The safetensors name of torch's type."""
    return next(name for name, own in _TORCH.items() if f"torch.{own}" == str(dtype))


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file.

    Attributes:
        name: its canonical name, without the prefixes that wrappers put before it.
        dtype: safetensors' name of its type, such as ``F32``.
        bytes: of the tensor.
        file: where it lies.
        stored: its name in the file.
        offset: of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    file: Path
    stored: str
    offset: int = 0

    @property
    def row_bytes(self) -> int:
        """Of one row (index of the first axis); of the tensor where it has no axis."""
        return self.bytes // self.shape[0] if self.shape and self.shape[0] else self.bytes


@dataclass(frozen=True)
class TensorFile:
    """What the header of a safetensors file says.

    Attributes:
        entries: by stored name.
        metadata: what its writer noted.
    """

    path: Path
    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_header(path: Path, field: str = "model") -> TensorFile:
    """The header of a safetensors file, held against the length of the file.

    Raises:
        ConfigError: it is missing, cut off, or no safetensors file; names the file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = file.seek(0, 2)
            if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
                raise ValueError("its header is longer than the file")
            file.seek(8)
            whole = json.loads(file.read(length))
        if not isinstance(whole, dict):
            raise ValueError("its header is no mapping")
        metadata = whole.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in dict(metadata).values()):
            raise ValueError("its notes are no texts")
        start = 8 + length
        entries = {name: _entry(path, name, about, start) for name, about in whole.items()}
        _check_ranges(entries, start, size)
    except OSError as error:
        raise ConfigError(field, str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ConfigError(
            field,
            str(path),
            f"is no whole safetensors file ({error})",
            "copy or save it again; a download may have been cut off",
        ) from error
    return TensorFile(path, entries, metadata)


def _entry(path: Path, name: str, about: dict[str, object], start: int) -> TensorEntry:
    dtype = str(about["dtype"])
    if dtype not in ITEM_BYTES:
        raise ValueError(f"{name} is of type {dtype}, which is not supported")
    shape = tuple(int(extent) for extent in about["shape"])  # type: ignore[attr-defined]
    first, last = (int(place) for place in about["data_offsets"])  # type: ignore[attr-defined]
    if min(shape, default=0) < 0 or last - first != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"the bytes of {name} do not fit its shape")
    return TensorEntry(name, shape, dtype, last - first, path, name, start + first)


def _check_ranges(entries: Mapping[str, TensorEntry], start: int, size: int) -> None:
    """Tensors follow each other without gaps or overlaps, up to the end of the file."""
    place = start
    for entry in sorted(entries.values(), key=lambda entry: (entry.offset, entry.bytes)):
        if entry.offset != place:
            raise ValueError(f"{entry.name} does not begin where the tensor before it ends")
        place += entry.bytes
    if place != size:
        raise ValueError(f"it has {size} bytes, its header speaks of {place}")


def read_entry(entry: TensorEntry, rows: slice | None = None) -> Tensor:
    """A tensor as stored, or some of its rows; no more of the file is read.

    Args:
        rows: a range of the first axis, of step 1.

    Raises:
        ConfigError: the file has become shorter or has gone.
    """
    first, last, step = (rows or slice(None)).indices(entry.shape[0] if entry.shape else 1)
    if step != 1:
        raise ValueError("rows are read in ranges of step 1")
    count = max(0, last - first)
    shape = (count, *entry.shape[1:]) if entry.shape else ()
    whole = torch.empty(count * entry.row_bytes, dtype=torch.uint8)
    try:
        with entry.file.open("rb", buffering=0) as file:
            file.seek(entry.offset + first * entry.row_bytes)
            _fill(memoryview(whole.numpy().data), file)
    except OSError as error:
        raise ConfigError(
            "model", str(entry.file), f"{entry.stored} cannot be read ({error})"
        ) from error
    return whole.view(torch_dtype(entry.dtype)).reshape(shape)


def _fill(view: memoryview, file: object) -> None:
    place = 0
    while place < len(view):  # one call reads 2 GiB at most
        got = file.readinto(view[place:])  # type: ignore[attr-defined]
        if not got:
            raise OSError("the file has become shorter")
        place += got


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, in the order of its numbers."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():
        return memoryview(b"")
    if flat.stride(0) != 1:  # of one number, it may be any
        flat = flat.clone(memory_format=torch.contiguous_format)
    return memoryview(flat.view(torch.uint8).numpy().data)
