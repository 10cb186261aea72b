"""Pictures of routing: methods by regime, who does which task well, who is turned away, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import HEIGHT, WIDE, WIDTH, palette, records, style

REGIMES = {
    "id": "ID: everything is there",
    "semi": "semi-OOD: without its own adapter",
    "ood": "OOD: without its task, too",
    "hard": "hard OOD: without the nearest tasks",
}
_MOST = 40
"""Adapters of a heat map: those that a task takes come first."""


def regime_name(regime: str) -> str:
    """What a regime is called on pages."""
    plain = regime.removeprefix("noisy_")
    short = REGIMES.get(plain, plain).partition(":")[0]
    return f"{short}, spoilt pool" if regime.startswith("noisy_") else short


def score_map(table: Sequence[Mapping[str, Any]]) -> Any:
    """Methods by regimes, in percent of the oracle."""
    rows = [
        (row["method"], regime_name(row["regime"]), row["score"], row["raw"], row["touched"])
        for row in table
        if row["score"] is not None
    ]
    columns = ["method", "regime", "score", "raw", "touched"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    regimes = list(dict.fromkeys(row[1] for row in rows))
    methods = list(dict.fromkeys(row[0] for row in rows))
    x = alt.X("regime:N", sort=regimes, title=None, axis=alt.Axis(labelAngle=-25, orient="top"))
    y = alt.Y("method:N", sort=methods, title=None, axis=alt.Axis(labelLimit=260))
    base = alt.Chart(records(frame)).encode(x=x, y=y)
    colour = alt.Color("score:Q", legend=None, scale=alt.Scale(domain=[0, 1.1], scheme="blues"))
    ink = alt.condition(alt.datum.score > 0.6, alt.value("white"), alt.value("#1c2024"))
    tips: list[Any] = [
        "method:N", "regime:N", alt.Tooltip("score:Q", format=".1%"),
        alt.Tooltip("raw:Q", format=".1%", title="right answers"),
        alt.Tooltip("touched:Q", format=".2g", title="adapters a query"),
    ]  # fmt: skip
    note = "mean over domains of the score by that of each task's own adapter in the same pool"
    title = alt.TitleParams("Percent of the oracle", subtitle=note)
    layers = alt.layer(
        base.mark_rect().encode(color=colour, tooltip=tips),
        base.transform_calculate(shown="100 * datum.score")
        .mark_text(fontSize=11)
        .encode(text=alt.Text("shown:Q", format=".1f"), color=ink),
    )
    return style(layers.properties(width=WIDE - 70, height=26 * len(methods), title=title))


def matrix_map(matrix: Mapping[str, Any], pool: str) -> Any:
    """Validation scores of adapters on tasks; a dot marks the adapter that a task takes."""
    taken = set(matrix["choices"]) | set(matrix["own"])
    counts = [sum(column) for column in zip(*matrix["counts"], strict=True)]
    order = sorted(range(len(counts)), key=lambda a: (a not in taken, -counts[a], a))[:_MOST]
    kept = sorted(order)
    rows = []
    for t, task in enumerate(matrix["tasks"]):
        for a in kept:
            mean = matrix["means"][t][a]
            if mean is not None:
                span = f"{matrix['low'][t][a]:.2f} to {matrix['high'][t][a]:.2f}"
                rows.append((task, matrix["adapters"][a], mean, matrix["counts"][t][a], span,
                             matrix["choices"][t] == a))  # fmt: skip
    columns = ["task", "adapter", "score", "examples", "interval", "taken"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    names = [matrix["adapters"][a] for a in kept]
    x = alt.X("adapter:N", sort=names, title=None, axis=alt.Axis(labelAngle=-60, labelLimit=130))
    y = alt.Y("task:N", sort=list(matrix["tasks"]), title=None, axis=alt.Axis(labelLimit=160))
    base = alt.Chart(records(frame)).encode(x=x, y=y)
    colour = alt.Color("score:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"),
                       legend=alt.Legend(title="score", format=".0%"))  # fmt: skip
    tips: list[Any] = ["task:N", "adapter:N", alt.Tooltip("score:Q", format=".1%"), "examples:Q",
                       alt.Tooltip("interval:N", title="95 % interval")]  # fmt: skip
    note = "orange dot: what the task takes; blank: never asked"
    if len(kept) < len(counts):
        note += f"; {len(kept)} of {len(counts)} adapters are shown"
    title = alt.TitleParams(f"Validation scores, {pool} pool", subtitle=note)
    dots = base.transform_filter("datum.taken").mark_circle(size=45, color="#f28e2b")
    layers = alt.layer(base.mark_rect().encode(color=colour, tooltip=tips), dots)
    height = 18 * len(matrix["tasks"])
    return style(layers.properties(width=WIDE - 130, height=height, title=title))


def coverage_chart(abstention: Mapping[str, Any], alpha: float) -> Any:
    """Queries of tasks and of none that are answered, over the share that may be turned away."""
    ways = {"answered": "of tasks", "foreign": "of no task"}
    rows = [
        (row["alpha"], ways[key], row[key])
        for row in abstention["curve"] for key in ways if row[key] is not None
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["alpha", "queries", "answered"], orient="row")
    named = [name for name in ways.values() if name in frame["queries"].to_list()]
    colour = alt.Color(
        "queries:N", scale=alt.Scale(domain=named, range=palette(len(named))),
        legend=alt.Legend(title=None, orient="bottom", symbolType="stroke"),
    )  # fmt: skip
    x = alt.X("alpha:Q", title="alpha, own queries that may be turned away",
              axis=alt.Axis(format="%"))  # fmt: skip
    y = alt.Y("answered:Q", title="answered by adapters", axis=alt.Axis(format="%"),
              scale=alt.Scale(domain=[0, 1]))  # fmt: skip
    tips: list[Any] = ["queries:N", "alpha:Q", alt.Tooltip("answered:Q", format=".1%")]
    base = alt.Chart(records(frame)).encode(x=x, y=y, color=colour, tooltip=tips)
    note = f"the index keeps alpha = {alpha:g}"
    if abstention["auroc"] is not None:
        note += f"; area under the ROC curve {abstention['auroc']:.2f}"
    title = alt.TitleParams("Who is answered, and who goes to the base", subtitle=note)
    layers = alt.layer(base.mark_line(strokeWidth=2), base.mark_circle(size=40))
    return style(layers.properties(width=WIDTH - 40, height=HEIGHT, title=title))


def fit_chart(fit: Mapping[str, Any]) -> Any:
    """Validation scores of the settings that were tried."""
    rows = [
        (f"K = {row['k']}", row["temperature"], row["mean"]) for row in fit["table"] if row["k"] > 1
    ]
    if not rows:
        return None
    frame = pl.DataFrame(rows, schema=["k", "temperature", "score"], orient="row")
    names = sorted({row[0] for row in rows})
    colour = alt.Color(
        "k:N", scale=alt.Scale(domain=names, range=palette(len(names))),
        legend=alt.Legend(title=None, orient="bottom", symbolType="stroke"),
    )  # fmt: skip
    ticks = sorted({row[1] for row in rows})
    x = alt.X("temperature:Q", scale=alt.Scale(type="log"), title="temperature",
              axis=alt.Axis(values=ticks, format="~g"))  # fmt: skip
    y = alt.Y("score:Q", title="validation score", axis=alt.Axis(format="%"),
              scale=alt.Scale(zero=False))  # fmt: skip
    tips: list[Any] = ["k:N", "temperature:Q", alt.Tooltip("score:Q", format=".1%")]
    base = alt.Chart(records(frame)).encode(x=x, y=y, color=colour, tooltip=tips)
    alone = [row["mean"] for row in fit["table"] if row["k"] == 1]
    note = f"K = {fit['k']}, temperature {fit['temperature']:g} is kept"
    if alone:
        note += f"; K = 1: {alone[0]:.1%}"
    title = alt.TitleParams("K and temperature", subtitle=note)
    layers = alt.layer(base.mark_line(strokeWidth=2), base.mark_circle(size=40))
    return style(layers.properties(width=WIDTH - 40, height=HEIGHT, title=title))
