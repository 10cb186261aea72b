"""Tensors of the Open Inference Protocol (V2, JSON): ``{name, shape, datatype, data}``.

Data are flat or nested, in row-major order. Whatever does not fit is refused by its name, with what
was expected; nothing is cast in silence. A null among real numbers is no number (nan).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.serving.requests_in import Refused

WHOLE = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
REAL = {"FP16", "FP32", "FP64"}
DATATYPES = {"BOOL", "BYTES", *WHOLE, *REAL}
_DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}


@dataclass(frozen=True)
class TensorForm:
    """What a model says of an input or output; -1 stands for any size, first of all the batch's."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def dump(self) -> dict[str, Any]:
        """Plain data, as in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class NamedTensor:
    """One tensor of a request or an answer; BYTES hold texts."""

    name: str
    datatype: str
    data: np.ndarray

    @classmethod
    def read(cls, entry: Any, where: str) -> NamedTensor:
        """A tensor from JSON.

        Args:
            where: how errors name it until its own name is known.

        Raises:
            Refused: naming the tensor and what is wrong with it.
        """
        if not isinstance(entry, Mapping):
            raise Refused(400, f"{where} is no tensor {{name, shape, datatype, data}}")
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise Refused(400, f"{where} has no name")
        shape, datatype = entry.get("shape"), entry.get("datatype")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise Refused(400, f"tensor {name!r}: shape {shape!r} is no list of sizes")
        if datatype not in DATATYPES:
            some = ", ".join(sorted(DATATYPES))
            raise Refused(400, f"tensor {name!r}: datatype {datatype!r} is none of {some}")
        if "data" not in entry:
            raise Refused(400, f"tensor {name!r} has no data in the JSON body")
        return cls(name, datatype, _array(name, datatype, tuple(shape), entry["data"]))

    def check(self, form: TensorForm) -> None:
        """Refuse what is not of a model's form.

        Raises:
            Refused: another datatype or shape; says which was expected.
        """
        if self.datatype != form.datatype:
            problem = f"datatype is {self.datatype}, and the model takes {form.datatype}"
            raise Refused(400, f"tensor {self.name!r}: {problem}")
        sizes = zip(self.data.shape, form.shape, strict=False)
        if self.data.ndim != len(form.shape) or any(b not in (-1, a) for a, b in sizes):
            problem = f"shape is {list(self.data.shape)}, and the model takes {list(form.shape)}"
            raise Refused(400, f"tensor {self.name!r}: {problem}")

    def dump(self) -> dict[str, Any]:
        """Plain data, flat."""
        shape = list(self.data.shape)
        return {
            "name": self.name, "shape": shape, "datatype": self.datatype,
            "data": self.data.ravel().tolist(),
        }  # fmt: skip


def _array(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> np.ndarray:
    flat, nested = flattened(data)
    if flat and nested is not None and len(nested) > 1 and nested != shape:
        problem = f"data are nested as {list(nested)}, and shape says {list(shape)}"
        raise Refused(400, f"tensor {name!r}: {problem}")
    if len(flat) != math.prod(shape):
        problem = f"has {len(flat)} elements, and shape {list(shape)} means {math.prod(shape)}"
        raise Refused(400, f"tensor {name!r}: {problem}")
    if nested is None:
        raise Refused(400, f"tensor {name!r}: data are no list, or nested unevenly")
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        fits, dtype = kinds <= {str}, "object"
    elif datatype == "BOOL":
        fits, dtype = kinds <= {bool}, "bool"
    elif datatype in REAL:
        fits, dtype = kinds <= {int, float, type(None)}, _DTYPES[datatype]
    else:
        fits, dtype = kinds <= {int}, datatype.lower()
    if not fits:
        strange = next(iter(sorted(kind.__name__ for kind in kinds)))
        raise Refused(400, f"tensor {name!r}: data hold {strange}, which is no {datatype}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype).reshape(shape)
    except OverflowError:
        raise Refused(400, f"tensor {name!r}: a number is too large for {datatype}") from None


def flattened(data: Any) -> tuple[Sequence[Any], tuple[int, ...] | None]:
    """Elements in a line, and how they were nested; None: unevenly, or no list at all."""
    if not isinstance(data, list):
        return [], None
    shape: list[int] = [len(data)]
    level: list[Any] = data
    while level and isinstance(level[0], list):
        width = len(level[0])
        if not all(isinstance(part, list) and len(part) == width for part in level):
            return [], None
        level = [item for part in level for item in part]
        shape.append(width)
    if any(isinstance(item, list) for item in level):
        return [], None
    return level, tuple(shape)
