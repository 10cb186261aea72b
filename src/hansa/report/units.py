"""How names and numbers are written for people: SI units, plain words."""

from __future__ import annotations

import math
from typing import NamedTuple

from hansa.report.scores import is_share, labelled


class Unit(NamedTuple):
    """A unit to show numbers in: divide by ``size`` and write ``symbol``."""

    size: float
    symbol: str


_PREFIXES = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]
_WORDS = {
    "round_seconds": "wall time of a round",
    "round_time": "modelled time of a round",
    "idle_time": "idle time of clients",
    "participants": "updates that counted",
}
_TIMES = [(86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")]


def label(name: str) -> str:
    """A metric's or a setting's name in words."""
    if name.endswith("_average_model"):
        return f"{label(name.removesuffix('_average_model'))} of the averaged model"
    if name in _WORDS:
        return _WORDS[name]
    words = name.replace("_seconds", "_time").replace("_", " ").strip()
    return labelled(words.replace("message bytes", "message size"))


def dimension(name: str) -> str:
    """What a metric counts, judged by its name: B, s, J, share, or nothing."""
    words = name.split("_")
    if "bytes" in words:
        return "B"
    if words[-1] in ("time", "seconds"):
        return "s"
    if "energy" in words or "battery" in words:
        return "J"
    return "share" if is_share(name) else ""


def unit(largest: float, dimension: str) -> Unit:
    """The unit in which numbers up to ``largest`` are short: largest at least 1 of it."""
    largest = abs(largest)
    if dimension == "s":
        # up to two of a unit stay in the one below: 90 s, not 1.5 min
        fits = [Unit(*t) for t in _TIMES if largest >= t[0] * (2 if t[0] > 1 else 1)]
        return fits[0] if fits else Unit(1.0 if largest == 0 else 1e-3, "ms" if largest else "s")
    if dimension in ("B", "J"):
        fits = [Unit(size, prefix + dimension) for size, prefix in _PREFIXES if largest >= size]
        return fits[0] if fits else Unit(1.0, dimension)
    return Unit(1.0, "")


def number(value: float) -> str:
    """Four significant digits, whole numbers whole."""
    if not math.isfinite(value):
        return "not finite" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}"


def quantity(value: float | None, name: str) -> str:
    """``value`` of the metric ``name`` with its unit; an empty string for None."""
    return amount(value, dimension(name))


def amount(value: float | None, kind: str) -> str:
    """``value`` of a dimension (B, s, J, share or none) with a unit; an empty string for None."""
    if value is None:
        return ""
    value = float(value)
    if not math.isfinite(value) or not kind:
        return number(value)
    if kind == "share":
        return f"{100 * value:.2f} %"
    size, symbol = unit(float(f"{value:.3g}"), kind)  # 999.6 ms are 1.00 s
    scaled = value / size
    digits = 0 if symbol == "B" or not scaled else max(0, 2 - int(math.log10(max(abs(scaled), 1))))
    return f"{scaled:.{digits}f} {symbol}"


def spread_out(mean: float | None, std: float | None, kind: str) -> str:
    """``93.12 ± 0.41 %``: a mean and its standard deviation, which has two digits that count."""
    if mean is None or std is None or not (math.isfinite(mean) and math.isfinite(std)):
        return amount(mean, kind)
    size, symbol = (0.01, "%") if kind == "share" else unit(float(f"{mean:.3g}"), kind)
    mean, std = mean / size, std / size
    most = 2 if kind in ("share", "B") else 6
    digits = min(most, max(0, 1 - math.floor(math.log10(std)))) if std > 0 else most
    if not std and kind != "share":
        return f"{amount(mean * size, kind).removesuffix(symbol).rstrip()} ± 0 {symbol}".rstrip()
    return f"{mean:.{digits}f} ± {std:.{digits}f} {symbol}".rstrip()
