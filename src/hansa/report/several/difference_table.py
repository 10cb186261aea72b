"""Paired differences as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import COLOURS, GREY, WIDE, records, style
from hansa.report.grid import Grid
from hansa.report.several.paired import LEAST
from hansa.report.several.short_names import short_names
from hansa.report.units import label, unit

_ROW = 26  # pixels of a setting's line
_LETTERS = 48  # of a name beside it
NOTE = (
    "Difference: the setting less the baseline, mean over the seeds that both have; in brackets "
    "the 95 % interval of Student's t, each for itself. p: paired t-test, corrected by Holm for "
    "all comparisons with the baseline. Exact p: all flips of signs, uncorrected, never below "
    "2 / 2^n."
)


def differences_table(frame: pl.DataFrame, metric: str) -> Grid:
    """One row a setting: its difference from the baseline, interval, seeds and p-values.

    Args:
        frame: as :func:`hansa.report.several.paired.paired_differences` has it.
        metric: of which figure.
    """
    own = frame.filter(pl.col("metric") == metric).to_dicts()
    size, words, digits = _scale(own)
    counts = {row["n"] for row in own}
    one = len(counts) == 1
    rows = []
    for row in own:
        cells = [row["setting"], _signed(row["difference"], size, digits)]
        cells += [_interval(row, size, digits), *([] if one else [str(row["n"])])]
        rows.append([*cells, _p(row["p_holm"]), _p(row["p_exact"])])
    base = own[0]["baseline"] if own else ""
    title = f"{label(metric)} against {base}" + (f", {counts.pop()} shared seeds" if one else "")
    title = title[0].upper() + title[1:]
    columns = [f"difference{words}", "95 % interval", *([] if one else ["seeds"])]
    return Grid(title, ["settings", *columns, "p (Holm)", "exact p"], rows)


def gap_words(row: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """A mean difference and its interval in words: ``+1.20 points``, ``[+0.50, +1.90]``.

    Args:
        row: as :func:`hansa.report.several.paired.of_differences` has it.
        kind: what the figures count.
    """
    size, words, digits = _scale([{**row, "unit": kind}])
    unit_words = words.strip(" ()")
    return f"{_signed(row['difference'], size, digits)} {unit_words}".strip(), _interval(
        row, size, digits
    )


def differences_picture(frame: pl.DataFrame, metric: str) -> Any | None:
    """Each setting's difference as a point with its interval, the baseline as a line at zero."""
    own = frame.filter((pl.col("metric") == metric) & pl.col("difference").is_not_null())
    if not len(own):
        return None
    rows = own.to_dicts()
    size, words, _ = _scale(rows)
    numbers = [pl.col(name) / size for name in ("difference", "low", "high")]
    base, *names = short_names([rows[0]["baseline"], *(row["setting"] for row in rows)], _LETTERS)
    of = dict(zip((row["setting"] for row in rows), names, strict=True))
    y = alt.Y("setting:N", sort=names, title=None, axis=alt.Axis(labelLimit=320))
    across = f"difference from {base}{words}"
    ticks = alt.Axis(tickCount=7)
    whole = alt.Chart()
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}]))
    x = alt.X("difference:Q", title=across, scale=alt.Scale(zero=True), axis=ticks)
    layers = [
        zero.mark_rule(color=GREY, strokeDash=[4, 3]).encode(
            x=alt.X("zero:Q", title=across, axis=ticks)
        ),
        whole.mark_rule(color=COLOURS[0], strokeWidth=2.5).encode(
            x=alt.X("low:Q", title=across, axis=ticks), x2="high:Q", y=y
        ),
        whole.mark_point(color=COLOURS[0], filled=True, size=70, opacity=1).encode(x=x, y=y),
    ]
    heading = f"{label(metric)} against {base}"
    chart = alt.layer(
        *layers,
        data=records(own.select(pl.col("setting").replace_strict(of), *numbers)),
        width=WIDE - 240,
        height=_ROW * max(2, len(rows)),
        title=alt.TitleParams(
            heading[0].upper() + heading[1:],
            subtitle=[
                "Point: mean over shared seeds; line: 95 % interval of Student's t, each for "
                f"itself (none with fewer than {LEAST} seeds)."
            ],
        ),
    )
    return style(chart)


def _scale(rows: list[dict[str, Any]]) -> tuple[float, str, int]:
    """What numbers are divided by, the unit's words, and how many digits are shown."""
    kind = rows[0]["unit"] if rows else ""
    every = [row[k] for row in rows for k in ("difference", "low", "high") if row[k] is not None]
    largest = max(map(abs, every), default=0.0)
    if kind == "share":
        return 0.01, " (points)", 2
    size, symbol = unit(largest, kind)
    scaled, digits = largest / size, 2
    while 0 < scaled < 1 and digits < 8:
        scaled, digits = scaled * 10, digits + 1
    return size, f" ({symbol})" if symbol else "", digits


def _signed(value: float | None, size: float, digits: int) -> str:
    if value is None:
        return ""
    text = f"{value / size:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def _interval(row: Mapping[str, Any], size: float, digits: int) -> str:
    if row["low"] is None:
        return ""
    ends = (_signed(row[end], size, digits) for end in ("low", "high"))
    return f"[{', '.join(ends)}]"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
