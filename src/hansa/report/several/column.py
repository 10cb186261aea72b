"""How one column of figures is written: one unit and as many digits in all of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from hansa.report.units import amount, number, spread_out, unit

_APART = 100  # times the smallest, to which the largest may come in one unit
_DIGITS = {"share": 2, "B": 3}


@dataclass(frozen=True)
class Column:
    """The look of a column.

    Attributes:
        kind: what the figures count: B, s, J, share or nothing.
        size: what they are divided by; 0: each has a unit of its own.
        symbol: of that unit.
        digits: behind the point, of which the middle standard deviation has two that count; None:
            there is no deviation.
    """

    kind: str
    size: float
    symbol: str
    digits: int | None

    @classmethod
    def of(cls, cells: Iterable[Mapping[str, Any] | None]) -> Column:
        """The look of a column with these rows of statistics (mean, std, unit)."""
        rows = [cell for cell in cells if cell is not None and cell["mean"] is not None]
        kind = rows[0]["unit"] if rows else ""
        sizes = [abs(row["mean"]) for row in rows if row["mean"]]
        size, symbol = {"share": (0.01, "%"), "": (1.0, "")}.get(kind, (0.0, ""))
        if not size and sizes and max(sizes) <= _APART * min(sizes):
            size, symbol = unit(median(sizes), kind)
        spreads = [row["std"] / size for row in rows if size and row["std"]]
        digits = None
        if spreads:
            most = 0 if symbol == "B" else _DIGITS.get(kind, 6)
            digits = min(most, max(0, 1 - math.floor(math.log10(median(spreads)))))
        return cls(kind, size, symbol, digits)

    def plain(self, value: float | None) -> str:
        """A figure without its deviation; an empty string for None."""
        if value is None or not self.size:
            return amount(value, self.kind)
        if not self.kind and self.digits is None:
            return number(value)
        scaled, digits = value / self.size, self.digits
        if self.kind == "share" and digits is None:
            digits = 2
        if digits is None or (scaled and abs(scaled) < 10**-digits):
            digits = 0 if not scaled else max(0, 2 - math.floor(math.log10(abs(scaled))))
        digits = 0 if self.symbol == "B" else digits
        return f"{scaled:.{digits}f} {self.symbol}".rstrip()

    def with_spread(self, cell: Mapping[str, Any]) -> str:
        """``93.1 ± 0.4 %``: a row of statistics."""
        mean, std = cell["mean"], cell["std"]
        if mean is None or std is None:
            return self.plain(mean)
        if not self.size or self.digits is None:
            return spread_out(mean, std, self.kind)
        digits = self.digits
        if std:  # what is there is not shown as none
            digits = max(digits, -math.floor(math.log10(std / self.size)))
        if self.symbol == "B":
            digits = 0
        mean, std = mean / self.size, std / self.size
        return f"{mean:.{digits}f} ± {std:.{digits}f} {self.symbol}".rstrip()
