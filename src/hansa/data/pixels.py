"""What stored pixels mean: the value of black, the value of a full pixel, and one form for both.

The same pictures give the same model input in whatever type of number they were saved. Whole
numbers that fit a byte become bytes, everything else float32. Where a source does not state its
range, the values tell it, if only one range is likely:

====================================  =======================  ==============================
values                                black .. full            such as
====================================  =======================  ==============================
0 and 1, fractions of 0..1            0 .. 1                   masks, ``ToTensor``
fractions or whole numbers of -1..1   -1 .. 1                  already scaled: left as they are
whole numbers 0..16, 16 among them    0 .. 16                  scikit-learn's digits
0..m, 16 < m <= 255                   0 .. 255                 bytes
0..m, 16383 < m <= 65535              0 .. 65535               16 bit
anything else                         not known: it is asked   12 bit, standardized, 0..9
====================================  =======================  ==============================
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data.raw import Arrays, RawSplits

_SLACK = 1e-3
"""What resizing may overshoot a range of fractions by."""


@dataclass(frozen=True)
class Span:
    """The smallest and largest value of some pixels, and whether all are whole numbers."""

    low: float
    high: float
    whole: bool

    def __str__(self) -> str:
        kind = "whole numbers" if self.whole else "fractions"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def __or__(self, other: Span) -> Span:
        return Span(
            min(self.low, other.low), max(self.high, other.high), self.whole and other.whole
        )

    @property
    def range(self) -> tuple[float, float] | None:
        """(black, full) as in the module's table, None where it is not known."""
        if self.low >= -1 - _SLACK and self.high <= 1 + _SLACK:
            return (0.0, 1.0) if self.low >= -_SLACK else (-1.0, 1.0)
        if self.low < 0:
            return None
        if self.whole and self.high == 16:
            return 0.0, 16.0
        for above, full in ((16, 255.0), (16383, 65535.0)):
            if above < self.high <= full:
                return 0.0, full
        return None


def span(pixels: np.ndarray, chunk: int = 4096) -> Span:
    """The span of an array [N, ...] of numbers, N > 0."""
    low, high, whole = float(pixels.min()), float(pixels.max()), True
    if pixels.dtype.kind == "f":
        for start in range(0, len(pixels), chunk):
            part = pixels[start : start + chunk]
            if not (part == np.rint(part)).all():
                whole = False
                break
    return Span(low, high, whole)


def settled(raw: RawSplits, name: str) -> RawSplits:
    """Images in one form, with the range that their values tell where the source states none.

    Other kinds of data are left as they are. ``peak`` stays None where the range is not known.

    Raises:
        DataError: the pixels are no numbers, the two splits differ in range, or a value is
            outside the range that the source states.
    """
    if raw.kind != "image" or (raw.peak is not None and raw.train.inputs.dtype == np.uint8):
        return raw
    for part in (raw.train, raw.test):
        if part.inputs.dtype.kind not in "fiub":
            raise DataError(f"{name}: pixels are {part.inputs.dtype}; numbers are needed")
    train, test = span(raw.train.inputs), span(raw.test.inputs)
    both = train | test
    floor, peak = raw.floor, raw.peak
    if peak is not None:
        if both.low < floor - _SLACK or both.high > peak + _SLACK:
            raise DataError(f"{name}: pixels are {both}, stated are {floor:g} to {peak:g}")
    else:
        if min(train.high, test.high) <= 1 + _SLACK < 16 < both.high:
            raise DataError(
                f"{name}: training pixels are {train}, test pixels {test}; scale both alike"
            )
        floor, peak = both.range or (0.0, None)
    byte = both.whole and both.low >= 0 and both.high <= 255
    return replace(
        raw,
        train=_stored(raw.train, byte),
        test=_stored(raw.test, byte),
        floor=floor,
        peak=peak,
    )


def ranged(raw: RawSplits, peak: float | None) -> RawSplits:
    """Images whose full pixel is what the user says.

    Raises:
        ConfigError: the data are no images, or a value is outside 0..peak.
    """
    if peak is None:
        return raw
    if raw.kind != "image":
        raise ConfigError("peak", peak, f"belongs to images, and the data are {raw.kind}", "none")
    pixels = span(raw.train.inputs) | span(raw.test.inputs)
    if pixels.low < -_SLACK or pixels.high > peak + _SLACK:
        raise ConfigError("peak", peak, f"pixels are {pixels}", f"at least {pixels.high:g}")
    return replace(raw, floor=0.0, peak=peak)


def unknown(raw: RawSplits) -> ConfigError:
    """What to say where a range is needed that nobody stated and the values do not tell."""
    pixels = span(raw.train.inputs) | span(raw.test.inputs)
    likely = [full for full in (1, 15, 16, 255, 1023, 4095, 65535) if full >= pixels.high]
    fix = "normalize: standardize, or none if they are scaled already"
    if pixels.low >= 0 and likely:
        fix = f"the value of a full pixel, such as {' or '.join(map(str, likely[:3]))}; or {fix}"
    return ConfigError("peak", None, f"pixels are {pixels}, which is no range of pixels known", fix)


def _stored(part: Arrays, byte: bool) -> Arrays:
    return replace(part, inputs=part.inputs.astype(np.uint8 if byte else np.float32, copy=False))
