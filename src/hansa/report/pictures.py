"""Pictures of a run that are no curves: its graph, its data, its spread at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import COLOURS, HEIGHT, WIDTH, records, style
from hansa.report.units import dimension, label, number, quantity

MAX_NODES, MAX_EDGES, MAX_ROWS, MAX_DOTS = 300, 3000, 60, 60


def topology_picture(topology: dict[str, Any], values: dict[int, float], name: str) -> Any:
    """The graph, nodes coloured by ``values`` of the metric ``name`` where they have one.

    More than 300 nodes or 3000 edges are sampled, and the subtitle says so.
    """
    count = int(topology["nodes"])
    edges = np.asarray(topology["edges"], dtype=int).reshape(-1, 2)
    shown = _neighbourhood(count, edges)
    drawn = edges[np.isin(edges, shown).all(axis=1)]
    if len(drawn) > MAX_EDGES:
        drawn = drawn[np.sort(np.random.default_rng(0).choice(len(drawn), MAX_EDGES, False))]
    place = _layout(shown, drawn)
    notes = [_counted(len(shown), count, "nodes"), _counted(len(drawn), len(edges), "edges")]
    notes += [word for word in ("directed", "changing") if topology.get(word)]
    if topology.get("changing"):
        notes[-1] = "changing, round 0 shown"
    lines = pl.DataFrame(
        [(*place[a], *place[b]) for a, b in drawn.tolist()],
        schema=dict.fromkeys(("x", "y", "x2", "y2"), pl.Float64),
        orient="row",
    )
    points = pl.DataFrame(
        [(*place[node], node, values.get(node)) for node in shown.tolist()],
        schema={"x": pl.Float64, "y": pl.Float64, "node": pl.Int64, "value": pl.Float64},
        orient="row",
    ).with_columns(pl.when(pl.col("value").is_finite()).then("value").alias("value"))
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-1.06, 1.06]))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-1.06, 1.06]))
    faint = float(np.clip(120 / max(1, len(drawn)), 0.12, 0.6))
    rules = alt.Chart(records(lines)).mark_rule(color="#6a727b", opacity=faint, strokeWidth=1)
    dots = alt.Chart(records(points)).mark_circle(
        size=float(np.clip(9000 / len(shown), 20, 220)),
        opacity=1,
        stroke="white",
        strokeWidth=1 if len(shown) <= 100 else 0,
    )
    form = "%" if dimension(name) == "share" else ".3~g"
    colour: Any = alt.value(COLOURS[0])
    tips: list[Any] = [alt.Tooltip("node:Q")]
    if points["value"].is_not_null().any():
        legend = alt.Legend(title=f"final {label(name)}", format=form, gradientLength=180)
        colour = alt.Color("value:Q", scale=alt.Scale(scheme="viridis"), legend=legend)
        tips.append(alt.Tooltip("value:Q", title=label(name), format=".4~g"))
    chart = alt.layer(
        rules.encode(x=x, y=y, x2="x2:Q", y2="y2:Q"),
        dots.encode(x=x, y=y, color=colour, tooltip=tips),
    )
    if topology.get("spectral_gap") is not None:
        notes.append(f"spectral gap {topology['spectral_gap']:.3g}")
    title = alt.TitleParams("Topology", subtitle=", ".join(notes))
    return style(chart.properties(width=300, height=300, title=title))


def label_picture(partition: dict[str, Any], who: str = "node") -> Any:
    """How many examples of each class each node (``who``) holds, as a map of shades.

    ``partition`` may hold their ``names``; else they are numbered.
    """
    counts = np.asarray(partition["histogram"], dtype=float)
    nodes, classes = counts.shape
    names = [str(name) for name in partition.get("classes") or range(classes)]
    shown = _evenly(nodes)
    called = np.array(partition.get("names") or np.arange(nodes), dtype=str)[shown]
    frame = pl.DataFrame(
        {
            "node": np.repeat(called, classes),
            "class": np.tile(np.array(names), len(shown)),
            "examples": counts[shown].ravel(),
        }
    )
    order = called.tolist()
    every = max(1, len(shown) // 16)
    keep = max(1, classes // 20)
    x = alt.X(
        "class:N", sort=names, title="class",
        axis=alt.Axis(labelAngle=-40 if max(map(len, names)) > 2 else 0, values=names[::keep]),
    )  # fmt: skip
    y = alt.Y("node:O", sort=order, title=who, axis=alt.Axis(values=order[::every]))
    # A gradient's own ticks may be fractions: of two examples at most they would be 0, 1, 1, 2, 2.
    ticks = np.unique(np.linspace(0, counts[shown].max(), 5).round().astype(int)).tolist()
    colour = alt.Color(
        "examples:Q",
        scale=alt.Scale(range=["#f3f5f7", COLOURS[0], "#00243a"], domainMin=0),
        legend=alt.Legend(title="examples", gradientLength=140, format=",d", values=ticks),
    )
    tips = [alt.Tooltip("node:N", title=who), "class:N", "examples:Q"]
    chart = alt.Chart(records(frame)).mark_rect().encode(x=x, y=y, color=colour, tooltip=tips)
    title = alt.TitleParams(
        f"Labels of each {who}", subtitle=_counted(len(shown), nodes, f"{who}s")
    )
    height = int(np.clip(11 * len(shown), 140, 340))
    return style(chart.properties(width=WIDTH - 60, height=height, title=title))


def sizes_picture(sizes: list[int], who: str = "node") -> Any:
    """How many nodes (``who``) hold how many training examples."""
    words = f"training examples of a {who}"
    return _histogram(np.asarray(sizes, dtype=float), "", words, "Data sizes", who)


def final_picture(values: Mapping[int, float], name: str, who: str = "node") -> Any:
    """A metric at each node (``who``) at the end: one by one, or of many how they are spread."""
    heading = f"Final {label(name.removesuffix('_per_client'))} of each {who}"
    every = pl.DataFrame({"node": list(values), "value": list(values.values())}).sort("node")
    finite = every.filter(pl.col("value").is_finite())
    lost = len(every) - len(finite)
    if lost:
        heading += f" ({lost} not finite)"
    found = finite["value"].to_numpy()
    if len(finite) > MAX_DOTS:
        return _histogram(found, name, label(name), heading, who)
    axis = alt.Axis(format="%" if dimension(name) == "share" else "", tickCount=6)
    y = alt.Y("value:Q", title=label(name), scale=alt.Scale(zero=False), axis=axis)
    dots = alt.Chart(records(finite)).mark_circle(size=60, color=COLOURS[0], opacity=0.9)
    dots = dots.encode(
        x=alt.X(
            "node:Q",
            title=who,
            axis=alt.Axis(tickMinStep=1, grid=False),
            scale=alt.Scale(domain=[min(values) - 0.6, max(values) + 0.6], nice=False),
        ),
        y=y,
        tooltip=[alt.Tooltip("node:Q", title=who), alt.Tooltip("value:Q", format=".4~g")],
    )
    mean = alt.Chart(records(finite.select(pl.col("value").mean())))
    rule = mean.mark_rule(color="#6a727b", strokeDash=[4, 3]).encode(y=y)
    title = alt.TitleParams(heading, subtitle=f"{_moments(found, name)}; dashed: the mean")
    return style(alt.layer(rule, dots).properties(width=WIDTH, height=HEIGHT, title=title))


def _moments(values: np.ndarray, name: str) -> str:
    return (
        f"mean {quantity(values.mean(), name)}, standard deviation {quantity(values.std(), name)}"
    )


def _histogram(values: np.ndarray, name: str, words: str, heading: str, who: str = "node") -> Any:
    counts, bounds = np.histogram(values, bins=min(24, max(8, len(values) // 6)))
    frame = pl.DataFrame({"from": bounds[:-1], "to": bounds[1:], "nodes": counts})
    axis = alt.Axis(format="%" if dimension(name) == "share" else "~s", tickCount=6)
    chart = (
        alt.Chart(records(frame))
        .mark_bar(color=COLOURS[0], opacity=0.85)
        .encode(
            x=alt.X(
                "from:Q",
                bin="binned",
                title=words,
                axis=axis,
                scale=alt.Scale(zero=False, nice=False),
            ),
            x2="to:Q",
            y=alt.Y("nodes:Q", title=f"{who}s", axis=alt.Axis(tickMinStep=1, tickCount=6)),
            tooltip=["nodes:Q", alt.Tooltip("from:Q", format=".4~g")],
        )
    )
    title = alt.TitleParams(heading, subtitle=_moments(values, name))
    return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))


def _neighbourhood(count: int, edges: np.ndarray) -> np.ndarray:
    """At most 300 nodes, breadth first from node 0, so that those shown are connected."""
    if count <= MAX_NODES:
        return np.arange(count)
    near: dict[int, list[int]] = {}
    for a, b in edges.tolist():
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    seen, queue = {0: None}, [0]
    for node in queue:
        for other in near.get(node, ()):
            if other not in seen and len(seen) < MAX_NODES:
                seen[other] = None
                queue.append(other)
    rest = (node for node in range(count) if node not in seen)
    while len(seen) < MAX_NODES:
        seen[next(rest)] = None
    return np.array(sorted(seen))


def _layout(nodes: np.ndarray, edges: np.ndarray) -> dict[int, tuple[float, float]]:
    """Places in [-1, 1]²: springs for at most 100 nodes, a circle for more."""
    if len(nodes) > 100 or not len(edges):
        angle = np.pi / 2 - 2 * np.pi * np.arange(len(nodes)) / len(nodes)
        xy = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        xy = _springs(np.searchsorted(nodes, edges), len(nodes))
        xy = xy - (xy.max(0) + xy.min(0)) / 2
        xy = xy / max(1e-9, float(np.abs(xy).max()))
    return {int(node): (float(x), float(y)) for node, (x, y) in zip(nodes, xy, strict=True)}


def _springs(edges: np.ndarray, count: int, steps: int = 200) -> np.ndarray:
    """Places [count, 2] at which neighbours attract and all repel (Fruchterman, Reingold, 1991)."""
    turn = 2 * np.pi * np.arange(count) / count
    xy = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    near = np.zeros((count, count))
    near[edges[:, 0], edges[:, 1]] = near[edges[:, 1], edges[:, 0]] = 1
    rest = 1 / np.sqrt(count)  # where a pair's forces cancel out
    for heat in np.linspace(0.2, 0, steps, endpoint=False):
        apart = xy[:, None] - xy
        far = np.maximum(np.linalg.norm(apart, axis=2), 0.01)
        push = (apart * (rest**2 / far**2 - near * far / rest)[..., None]).sum(axis=1)
        size = np.maximum(np.linalg.norm(push, axis=1), 0.01)
        xy = xy + push * (heat / size)[:, None]
    return xy


def _evenly(count: int) -> np.ndarray:
    if count <= MAX_ROWS:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, MAX_ROWS).round().astype(int))


def _counted(shown: int, total: int, what: str) -> str:
    every = f"{number(total)} {what}"
    return every if shown == total else f"{number(shown)} of {every}"
