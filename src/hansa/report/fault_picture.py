"""What went wrong in a run, over its rounds: messages that did not come, and who was away."""

from __future__ import annotations

from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import GREY, WIDE, records, style
from hansa.report.fault_log import MESSAGES, FaultLog
from hansa.report.units import number

_COLOURS = {"lost": "#D55E00", "resent": "#E69F00", "silent": "#0072B2"}
_WORDS = {"lost": "lost for good", "resent": "lost, sent again", "silent": "not heard in time"}
_AWAY = {"absent": "#b8bec5", "crashed": "#CC79A7", "lost": "#0072B2"}
_AWAY_WORDS = {"absent": "absent", "crashed": "crashed", "lost": "site lost"}
_NODES = 40  # that are shown
_BARS = 200


def fault_pictures(log: FaultLog, rounds: int, who: str = "node") -> list[Any]:
    """Charts over rounds 1 to ``rounds``: messages by what became of them, and who was away."""
    pictures = []
    if log.messages or log.parted:
        pictures.append(_messages(log, rounds))
    if log.spans or log.rejoined:
        pictures.append(_away(log, rounds, who))
    return pictures


def _axis(rounds: int, step: float, title: str | None = "round") -> Any:
    domain = [1 - step / 2, rounds + step / 2]
    axis = alt.Axis(format="d", tickMinStep=1, grid=False)
    return {"scale": alt.Scale(domain=domain, nice=False), "title": title, "axis": axis}


def _messages(log: FaultLog, rounds: int) -> Any:
    """A bar a round, or one for several where there are many rounds."""
    width = -(-rounds // _BARS)
    totals: dict[tuple[int, str], int] = {}
    for (round, kind), count in log.messages.items():
        key = (round - 1) // width, _WORDS[kind]
        totals[key] = totals.get(key, 0) + count
    rows, tops = [], dict.fromkeys((bar for bar, _ in totals), 0)
    for (bar, kind), count in sorted(totals.items()):
        row = {
            "from": bar * width + 0.55,
            "to": (bar + 1) * width + 0.45,
            "low": tops[bar],
            "high": tops[bar] + count,
            "messages": count,
            "kind": kind,
            "rounds": f"{bar * width + 1}" + f" to {(bar + 1) * width}" * (width > 1),
        }
        rows.append(row)
        tops[bar] += count
    kinds = [kind for kind in MESSAGES if any(row["kind"] == _WORDS[kind] for row in rows)]
    colour = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(
            domain=[_WORDS[kind] for kind in kinds], range=[_COLOURS[kind] for kind in kinds]
        ),
        legend=alt.Legend(orient="top", title=None) if len(kinds) > 1 else None,
    )
    x = alt.X("from:Q", **_axis(rounds, 1.0))
    bars = (
        alt.Chart(records(pl.DataFrame(rows or [_nothing()])))
        .mark_rect()
        .encode(
            x=x,
            x2="to:Q",
            y=alt.Y("low:Q", title="messages", axis=alt.Axis(format="~s", tickMinStep=1)),
            y2="high:Q",
            color=colour,
            tooltip=["rounds:N", "kind:N", "messages:Q"],
        )
    )
    parted = [
        {"from": first - 0.5, "to": min(until or rounds + 1, rounds + 1) - 0.5}
        for first, until in log.parted
        if first <= rounds
    ]
    layers = [bars]
    if parted:
        band = alt.Chart(records(pl.DataFrame(parted))).mark_rect(color=GREY, opacity=0.12)
        layers.insert(0, band.encode(x=alt.X("from:Q", **_axis(rounds, 1.0)), x2="to:Q"))
    one = f" {_WORDS[kinds[0]]}" if len(kinds) == 1 else ""
    count = sum(totals.values())
    said = [f"{number(count)} message{'s' * (count != 1)}{one}"] if totals else []
    said += ["shaded: the network has fallen apart"] * bool(parted)
    title = alt.TitleParams("Messages that did not come, or came late", subtitle=", ".join(said))
    return style(alt.layer(*layers).properties(width=WIDE, height=130, title=title))


def _nothing() -> dict[str, Any]:
    same = {"from": 1.0, "to": 1.0, "low": 0, "high": 0, "messages": 0}
    return {**same, "kind": _WORDS["lost"], "rounds": ""}


def _away(log: FaultLog, rounds: int, who: str) -> Any:
    """A line a node with the rounds in which it took no part."""
    nodes = sorted({span.node for span in log.spans} | {node for _, node in log.rejoined})
    shown = nodes[:_NODES]
    rows = [
        {
            "node": str(span.node),
            "from": span.first - 0.5,
            "to": min(span.until or rounds + 1, rounds + 1) - 0.5,
            "why": _AWAY_WORDS[span.why],
            "rounds": f"{span.first} to {'the end' if span.until is None else span.until - 1}",
        }
        for span in log.spans
        if span.node in shown and span.first <= rounds
    ]
    whys = [why for why in _AWAY if any(row["why"] == _AWAY_WORDS[why] for row in rows)]
    colour = alt.Color(
        "why:N",
        scale=alt.Scale(
            domain=[_AWAY_WORDS[why] for why in whys], range=[_AWAY[why] for why in whys]
        ),
        legend=alt.Legend(orient="top", title=None),
    )
    y = alt.Y("node:N", sort=[str(node) for node in shown], title=who)
    layers = []
    if rows:
        bars = alt.Chart(records(pl.DataFrame(rows))).mark_bar(height={"band": 0.6})
        x = alt.X("from:Q", **_axis(rounds, 1.0))
        tips = ["node:N", "why:N", "rounds:N"]
        layers.append(bars.encode(x=x, x2="to:Q", y=y, color=colour, tooltip=tips))
    back = [
        {"node": str(node), "at": at, "what": f"takes part again from round {at} on"}
        for at, node in log.rejoined
        if node in shown
    ]
    if back:
        dots = alt.Chart(records(pl.DataFrame(back))).mark_point(
            shape="triangle-right", filled=True, size=70, color="#009E73", opacity=1
        )
        x = alt.X("at:Q", **_axis(rounds, 1.0))
        layers.append(dots.encode(x=x, y=y, tooltip=["node:N", "what:N"]))
    parts = [f"{len(shown)} of {len(nodes)} {who}s"] if len(nodes) > len(shown) else []
    parts += ["triangle: takes part again"] * bool(back)
    title = alt.TitleParams(f"{who.capitalize()}s that took no part", subtitle=", ".join(parts))
    height = max(60, 16 * len(shown))
    return style(alt.layer(*layers).properties(width=WIDE, height=height, title=title))
