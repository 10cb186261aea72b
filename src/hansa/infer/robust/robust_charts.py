"""Pictures of robust inference: accuracy over f, rules by attacks, margins, and what rules cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.infer.robust.measuring_attacks import ANY, CLEAN, WORST, WORST_QUERY
from hansa.report.charts import HEIGHT, WIDE, WIDTH, palette, records, style

_LAST = {WORST: "worst attack", WORST_QUERY: "worst of each query", ANY: "certified"}
_FIRST = {CLEAN: "honest"}


def budget_chart(table: Sequence[dict[str, Any]]) -> Any:
    """Accuracy against the number of liars: under a K-vote, and certified, each rule a colour."""
    ways = {("kvote", "fixed"): "K-vote, fixed liars", (ANY, "certified"): "certified"}
    rows = [
        (row["aggregator"], ways[row["attack"], row["identity"]], row["f"], row["accuracy"])
        for row in table
        if (row["attack"], row["identity"]) in ways
    ]
    columns = ["rule", "what", "f", "accuracy"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").unique(maintain_order=True)
    rules = list(dict.fromkeys(row[0] for row in rows))
    colour = alt.Color(
        "rule:N",
        scale=alt.Scale(domain=rules, range=palette(len(rules))),
        legend=alt.Legend(title=None, orient="bottom", columns=3, symbolType="stroke"),
    )
    dash = alt.StrokeDash(
        "what:N",
        scale=alt.Scale(domain=list(ways.values()), range=[[1, 0], [5, 4]]),
        legend=alt.Legend(title=None, orient="bottom"),
    )
    largest = int(max((row[2] for row in rows), default=1))
    x = alt.X(
        "f:Q", title="clients that lie", axis=alt.Axis(values=list(range(largest + 1)), format="d")
    )
    y = alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(format="%", tickCount=6),
              scale=alt.Scale(domain=[0, 1]))  # fmt: skip
    tips: list[Any] = ["rule:N", "what:N", "f:Q", alt.Tooltip("accuracy:Q", format=".1%")]
    base = alt.Chart(records(frame)).encode(x=x, y=y, color=colour, tooltip=tips)
    note = "solid: all liars vote for the class that hurts most; dashed: right whatever liars do"
    title = alt.TitleParams("Accuracy against the number of liars", subtitle=note)
    layers = alt.layer(
        base.mark_line(strokeWidth=2).encode(strokeDash=dash), base.mark_circle(size=40)
    )
    return style(layers.properties(width=WIDE - 60, height=360, title=title))


def heat_maps(table: Sequence[dict[str, Any]]) -> list[Any]:
    """Rules by attacks, a map for each way of choosing liars."""
    return [_heat_map(table, identity) for identity in ("fixed", "worst")]


def _heat_map(table: Sequence[dict[str, Any]], identity: str) -> Any:
    suite = [row for row in table if row["attack"] == WORST and row["identity"] == identity]
    if not suite:
        return None
    f = suite[0]["f"]
    rows = []
    for row in table:
        attack, honest = row["attack"], row["attack"] == CLEAN
        if honest or (row["attack"] == ANY and row["f"] == f):
            rows.append((row["aggregator"], {**_FIRST, **_LAST}[attack], row["accuracy"]))
        elif row["identity"] == identity and row["f"] == f:
            rows.append((row["aggregator"], _LAST.get(attack, attack), row["accuracy"]))
    frame = pl.DataFrame(rows, schema=["rule", "attack", "accuracy"], orient="row")
    middle = [a for a in dict.fromkeys(row[1] for row in rows)
              if a not in (*_FIRST.values(), *_LAST.values())]  # fmt: skip
    attacks = [*_FIRST.values(), *middle, *_LAST.values()]
    x = alt.X("attack:N", sort=attacks, title=None, axis=alt.Axis(labelAngle=-40, orient="top"))
    y = alt.Y("rule:N", sort=list(dict.fromkeys(row[0] for row in rows)), title=None,
              axis=alt.Axis(labelLimit=260))  # fmt: skip
    base = alt.Chart(records(frame)).encode(x=x, y=y)
    colour = alt.Color("accuracy:Q", legend=None,
                       scale=alt.Scale(domain=[0, 1], scheme="blues"))  # fmt: skip
    ink = alt.condition(alt.datum.accuracy > 0.55, alt.value("white"), alt.value("#1c2024"))
    tips: list[Any] = ["rule:N", "attack:N", alt.Tooltip("accuracy:Q", format=".1%")]
    words = {"fixed": "the same members lie in all queries",
             "worst": "for each query those members lie who hurt most"}  # fmt: skip
    title = alt.TitleParams(f"Accuracy in percent, f = {f}", subtitle=words[identity])
    layers = alt.layer(
        base.mark_rect().encode(color=colour, tooltip=tips),
        base.transform_calculate(shown="100 * datum.accuracy")
        .mark_text(fontSize=11)
        .encode(text=alt.Text("shown:Q", format=".1f"), color=ink),
    )
    height = 26 * frame["rule"].n_unique()
    return style(layers.properties(width=WIDE - 70, height=height, title=title))


def margin_chart(each: Sequence[dict[str, Any]], rule: str) -> Any:
    """How far an answer is ahead against the number of liars that it is certified for."""
    rows = []
    for one in each:
        if one["aggregator"] == rule and one.get("f_star"):
            told = zip(one["f_star"], one["margins"], one["right"], strict=True)
            rows += [(f, margin, "right" if right else "wrong") for f, margin, right in told]
    if not rows:
        return None
    frame = pl.DataFrame(rows, schema=["f_star", "margin", "answer"], orient="row")
    colour = alt.Color(
        "answer:N",
        scale=alt.Scale(domain=["right", "wrong"], range=palette(2)),
        legend=alt.Legend(title=None, orient="bottom"),
    )
    x = alt.X("margin:Q", title="margin of the answer")
    y = alt.Y("f_star:O", sort="descending", title="certified for so many liars")
    base = alt.Chart(records(frame)).encode(
        x=x, y=y, color=colour, tooltip=["f_star:O", "margin:Q"]
    )
    note = f"{rule}; -1: for nobody's lies, not even f = 0 has a bound"
    title = alt.TitleParams("Margin and certificate", subtitle=note)
    drawn = base.mark_tick(thickness=1.5, opacity=0.6)
    return style(drawn.properties(width=WIDTH - 40, height=HEIGHT, title=title))


def cost_chart(rules: Sequence[dict[str, Any]]) -> Any:
    """Accuracy under the worst attack against the time of an answer."""
    columns = ["rule", "ms", "accuracy", "learning"]
    rows = [
        (one["aggregator"], max(one["query_ms"], 1e-4), one["fixed"] or one["clean"] or 0.0,
         one["train_seconds"])
        for one in rules
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    names = frame["rule"].to_list()
    colour = alt.Color("rule:N", scale=alt.Scale(domain=names, range=palette(len(names))),
                       legend=None)  # fmt: skip
    x = alt.X("ms:Q", scale=alt.Scale(type="log"), title="milliseconds an answer, of many at once")
    y = alt.Y("accuracy:Q", title="accuracy, worst attack", axis=alt.Axis(format="%"))
    tips: list[Any] = [
        "rule:N",
        alt.Tooltip("ms:Q", format=".3g"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("learning:Q", format=".3g", title="seconds of learning"),
    ]
    base = alt.Chart(records(frame)).encode(x=x, y=y, color=colour, tooltip=tips)
    title = alt.TitleParams("What an answer costs", subtitle="colours as in the first picture")
    drawn = base.mark_point(size=90, filled=True)
    return style(drawn.properties(width=WIDTH - 40, height=HEIGHT, title=title))
