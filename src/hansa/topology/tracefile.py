"""Records of a contact or mobility trace, as numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal

import numpy as np

from hansa.base.words import is_number

TraceFormat = Literal["contacts", "intervals", "positions"]
FIELDS: dict[TraceFormat, tuple[str, ...]] = {
    "contacts": ("t", "i", "j"),
    "intervals": ("i", "j", "from", "to"),
    "positions": ("t", "node", "x", "y"),
}
NODES_AT: dict[TraceFormat, tuple[int, ...]] = {
    "contacts": (1, 2),
    "intervals": (0, 1),
    "positions": (1,),
}
_TIMES_AT = {"contacts": (0,), "intervals": (2, 3), "positions": (0,)}


def read_records(path: Path, form: TraceFormat) -> np.ndarray:
    """float64 [records, fields of the form]; further columns of the file are left out.

    Raises:
        ValueError: "what is wrong|the way out", with the number of the line.
    """
    fields = FIELDS[form]
    records: list[list[float]] = []
    first = True
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text|save it as UTF-8") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("%"):
            continue
        words = [word for word in re.split(r"[\s,;]+", line.split("#")[0]) if word]
        if not words:
            continue
        try:
            record = [float(word) for word in words[: len(fields)]]
        except ValueError:
            if first and not any(is_number(word) for word in words):
                first = False  # the names of the columns
                continue
            raise ValueError(f"line {number} is not {' '.join(fields)}, all numbers|") from None
        first = False
        if len(record) < len(fields):
            raise ValueError(f"line {number} has {len(words)} fields|write {' '.join(fields)}")
        if not all(map(math.isfinite, record)):
            raise ValueError(f"line {number} holds a number that is not finite|drop such lines")
        if any(record[k] < 0 for k in _TIMES_AT[form]):
            raise ValueError(f"line {number} has a negative time|count times from 0")
        records.append(record)
    if not records:
        raise ValueError("holds no record|" + f"lines of {' '.join(fields)}")
    return np.array(records)
