"""The first rounds of clients on the modelled clock, a bar for each thing that a client does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.learn.federated.fates import COUNTED, UNDER_WAY, fates_in, is_timed
from hansa.report.charts import records, style
from hansa.report.units import unit

ROWS, ROUNDS, LEAST_ROUNDS, COHORTS = 40, 8, 3, 8
WIDTH = 940
_WORK = {"download": "#8E5BB5", "training": "#0072B2", "upload": "#009E73"}
FATE_COLOURS = {
    "done": "#0072B2",
    "late": "#D55E00",
    "left": "#CC79A7",
    "failed": "#1c2024",
    "surplus": "#E69F00",
    "idle": "#9aa3ac",
    "lost": "#8B1A1A",
    UNDER_WAY: "#c9d4dc",
    "other": "#6a727b",
}
_SHAPES = {
    "late": "diamond",
    "left": "triangle-left",
    "failed": "cross",
    "surplus": "square",
    "idle": "circle",
    "lost": "triangle-down",
    UNDER_WAY: "triangle-right",
    "other": "circle",
}


def timeline_picture(invited: pl.DataFrame, group: str = "cohort") -> Any | None:
    """Who downloads, trains and uploads when, and where clients gave up.

    The first rounds, at most 8: as many as involve no more than 40 clients, but at least 3, of
    which then some clients are shown. None where the run had no modelled clock.

    Args:
        invited: what :func:`hansa.learn.federated.fates.invitations` found.
        group: what the clients of one of several servers are called together.
    """
    if not is_timed(invited):
        return None
    shown, note = _window(invited, group)
    begins = invited.filter(pl.col("round") <= shown["round"].max() + 1)  # type: ignore[operator]
    begins = begins.group_by("server", "round").agg(pl.col("start").min().alias("from"))
    numbers = {host: n for n, host in enumerate(invited["server"].unique().sort(), start=1)}
    rows, labels = _rows(shown, numbers, group)
    shown = shown.join(rows, on=("client", "server"), nulls_equal=True)
    size, symbol = unit(float(shown["end"].max()), "s")  # type: ignore[arg-type]
    shown = shown.with_columns(pl.col("start", "heard", "trained", "end") / size)
    begins = begins.with_columns(pl.col("from") / size)
    height = int(np.clip(13 * len(labels), 120, 640))
    x = alt.X(
        "from:Q",
        title=f"modelled time ({symbol})",
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(tickCount=10, grid=False),
    )
    y = _places(labels)
    work = alt.Color(
        "work:N",
        scale=alt.Scale(domain=list(_WORK), range=list(_WORK.values())),
        legend=alt.Legend(title=None, orient="top", symbolType="square"),
    )
    tips: list[Any] = [
        alt.Tooltip("client:Q"),
        alt.Tooltip("round:Q"),
        "work:N",
        alt.Tooltip("from:Q", title=f"from ({symbol})", format=".4~g"),
        alt.Tooltip("to:Q", title=f"to ({symbol})", format=".4~g"),
        "fate:N",
    ]
    bars = alt.Chart(records(_bars(shown))).mark_bar(height=max(4, int(height / len(labels)) - 3))
    faint = alt.condition(f"datum.fate == '{COUNTED}'", alt.value(1.0), alt.value(0.42))
    layers: list[Any] = [
        _rules(begins, shown, x, y),
        bars.encode(x=x, x2="to:Q", y=y, color=work, opacity=faint, tooltip=tips),
    ]
    lost = shown.filter(pl.col("fate") != COUNTED)
    if len(lost):
        names = fates_in(lost)
        fates = lost.select(pl.col("end").alias("from"), "row", "client", "round", "fate")
        marks = alt.Chart(records(fates)).mark_point(filled=True, size=46, opacity=1)
        domain = alt.Scale(domain=names, range=[FATE_COLOURS[name] for name in names])
        shapes = alt.Scale(domain=names, range=[_SHAPES[name] for name in names])
        legend = alt.Legend(title=None, orient="top")
        marks = marks.encode(
            x=x,
            y=y,
            color=alt.Color("fate:N", scale=domain, legend=legend),
            shape=alt.Shape("fate:N", scale=shapes, legend=legend),
            tooltip=["client:Q", "round:Q", "fate:N"],
        )
        layers.append(marks)
    title = alt.TitleParams("Timeline of clients", subtitle=note)
    chart = alt.layer(*layers).resolve_scale(color="independent", shape="independent")
    return style(chart.properties(width=WIDTH, height=height, title=title))


def _window(invited: pl.DataFrame, group: str) -> tuple[pl.DataFrame, str]:
    """The rows to show, and what to say of the choice."""
    hosts = invited["server"].unique().sort()
    cohorts = ""
    if len(hosts) > COHORTS:
        chosen = hosts.gather(np.linspace(0, len(hosts) - 1, COHORTS).round().astype(int).tolist())
        invited = invited.filter(pl.col("server").is_in(chosen.implode()))
        cohorts = f" in {COHORTS} of {len(hosts)} {group}s"
    numbers = invited["round"].unique().sort()[:ROUNDS]
    for last in reversed(numbers.to_list()):
        shown = invited.filter(pl.col("round") <= last)
        if shown["client"].n_unique() <= ROWS or len(shown["round"].unique()) <= LEAST_ROUNDS:
            break
    involved = shown["client"].n_unique()
    if involved > ROWS:
        shown = shown.filter(pl.col("client").is_in(_some(shown, ROWS / involved)))
    drawn, of = shown["client"].n_unique(), f" of {involved}"
    first, last = int(shown["round"][0]), int(shown["round"][-1])
    whole = last == invited["round"].max()
    words = [
        f"invited in round{'s' * (first != last)} {first}{f' to {last}' if first != last else ''}",
        f"{drawn}{of if drawn < involved else ''} clients{cohorts}",
        "the fastest on top, lines where rounds begin, pale: did not count",
    ]
    return shown, ("all rounds: " if whole and first != last else "") + ", ".join(words)


def _some(shown: pl.DataFrame, share: float) -> list[int]:
    """A share of each server's clients: its slowest, for whom others wait, and evenly by speed."""
    chosen: list[int] = []
    for _, mine in _by_speed(shown).group_by("server"):
        count = max(1, round(share * len(mine)))
        places = np.linspace(len(mine) - 1, 0, count).round().astype(int)
        chosen += mine["client"].to_numpy()[places].tolist()
    return chosen


def _by_speed(shown: pl.DataFrame) -> pl.DataFrame:
    """The clients of each server, the fastest first."""
    spent = (pl.col("end") - pl.col("start")).mean()
    order = shown.group_by("server", "client").agg(spent=spent)
    return order.sort("server", "spent", "client")


def _rows(
    shown: pl.DataFrame, numbers: dict[int, int], group: str
) -> tuple[pl.DataFrame, list[str]]:
    """The row of each client, those of one server together, and the rows' names."""
    order = _by_speed(shown)
    labels, place = [], []
    several, before = order["server"].n_unique() > 1, None
    for server, client, _ in order.rows():
        if several and server != before:
            labels.append(f"{group} {numbers[server]}")
            before = server
        place.append(len(labels))
        labels.append(str(client))
    return order.select("server", "client").with_columns(row=pl.Series(place)), labels


def _places(labels: list[str]) -> alt.Y:
    """The vertical axis: one row a name, the first on top."""
    names = json.dumps(labels)
    axis = alt.Axis(
        values=list(range(len(labels))),
        labelExpr=f"{names}[datum.value]",
        labelFontSize=9,
        labelOverlap=False,
        grid=False,
        ticks=False,
        domain=False,
    )
    domain = [-0.6, len(labels) - 0.4]
    scale = alt.Scale(domain=domain, reverse=True, nice=False, zero=False)
    return alt.Y("row:Q", title="client", scale=scale, axis=axis)


def _bars(shown: pl.DataFrame) -> pl.DataFrame:
    """One row for each thing that takes a client any time."""
    moments = ("start", "heard", "trained", "end")
    parts = [
        shown.select(
            "client",
            "round",
            "row",
            "fate",
            pl.lit(work).alias("work"),
            pl.col(a).alias("from"),
            pl.col(b).alias("to"),
        )
        for work, a, b in zip(_WORK, moments, moments[1:], strict=False)
    ]
    return pl.concat(parts).filter(pl.col("to") > pl.col("from"))


def _rules(begins: pl.DataFrame, shown: pl.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    """Where a server's rounds begin, across the rows of its clients."""
    reach = shown.group_by("server").agg(
        (pl.col("row").min() - 0.6).alias("row"), (pl.col("row").max() + 0.6).alias("end")
    )
    frame = begins.join(reach, on="server", nulls_equal=True).select("from", "row", "end", "round")
    base = alt.Chart(records(frame)).mark_rule(color="#6a727b", strokeWidth=1, opacity=0.7)
    return base.encode(x=x, y=y, y2="end:Q", tooltip=["round:Q"])
