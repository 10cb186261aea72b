"""Amounts of bytes as people write them: ``3.2GiB``, ``20 MB``, ``4096``."""

from __future__ import annotations

import re
from typing import Any

from hansa.base.errors import ConfigError

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE)


def byte_size(value: Any, field: str = "budget") -> int:
    """Whole bytes, rounded down; kB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024.

    Raises:
        ConfigError: it is no such amount, or less than one byte; names ``field``.
    """
    match = _FORM.fullmatch(str(value)) if not isinstance(value, bool) else None
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigError(field, value, "is no amount of bytes", "such as 3.2GiB, 20MB or 4096")
    amount = int(float(match[1]) * _UNITS[match[2].lower()])
    if amount < 1:
        raise ConfigError(field, value, "is less than a byte", "such as 3.2GiB, 20MB or 4096")
    return amount
