"""All numbers of a row, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.codec.codec import Codec
from hansa.codec.messages import Messages, whole_rows

if TYPE_CHECKING:
    from torch import Tensor


@register("dense")
class Dense(Codec):
    """Every number of the row in a fixed width, little endian; float32 is lossless."""

    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="number format on the wire"
    )

    @property
    def _torch(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        rows = whole_rows(rows)
        if not rows.shape[1]:
            return [b""] * len(rows)
        stored = rows.detach().to("cpu", self._torch).contiguous()
        # bfloat16 has no NumPy twin, so every format travels as raw bytes.
        return [memoryview(row.view(torch.uint8).numpy()) for row in stored]

    def decode(self, payload: bytes | memoryview, elements: int) -> Tensor:
        if len(payload) != elements * self._torch.itemsize:
            raise WireError(
                f"dense {self.dtype} payload of {len(payload)} bytes for {elements} elements"
            )
        if not elements:
            return torch.empty(0)
        raw = torch.from_numpy(np.frombuffer(payload, dtype=np.uint8).copy())
        return raw.view(self._torch).to(torch.float32)

    def size(self, rows: Messages) -> np.ndarray:
        rows = whole_rows(rows)
        return np.full(len(rows), rows.shape[1] * self._torch.itemsize, dtype=np.int64)

    def through(self, rows: Messages) -> Tensor:
        rows = whole_rows(rows)
        if rows.dtype == self._torch:
            return rows
        return rows.to(self._torch).to(rows.dtype)
