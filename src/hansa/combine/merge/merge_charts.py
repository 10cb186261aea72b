"""Pictures of a merge: accuracy by size, who is ahead, who shares what, and what the bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.combine.merge.crossings import ranks
from hansa.report.charts import GREY, HEIGHT, WIDE, WIDTH, dashes, palette, records, style

Row = Mapping[str, Any]
PARTS = {
    "own": "of one model alone", "shared": "merged", "masks": "masks", "scalers": "scalers",
    "base": "base beside masks", "kept": "heads and all else",
}  # fmt: skip


def _algorithms(curve: Sequence[Row]) -> Any:
    names = list(dict.fromkeys(row["algorithm"] for row in curve))
    return alt.Color(
        "algorithm:N",
        scale=alt.Scale(domain=names, range=palette(len(names))),
        legend=alt.Legend(title=None, orient="bottom", columns=5, symbolType="stroke"),
    ), alt.StrokeDash(
        "algorithm:N", scale=alt.Scale(domain=names, range=dashes(len(names))), legend=None
    )


def _size_axis(curve: Sequence[Row], key: str = "reached") -> Any:
    largest = max(row[key] for row in curve)
    axis = alt.Axis(format="~g", tickMinStep=1)
    scale = alt.Scale(domain=[0.9, largest + 0.1], nice=False)
    return alt.X(f"{key}:Q", title="size, in models", axis=axis, scale=scale)


def curve_charts(curve: Sequence[Row], zero_shot: float, worst_zero_shot: float) -> list[Any]:
    """Normalised accuracy against size: the mean over tasks, and the worst task."""
    mean = _curve(curve, "normalised", zero_shot, "Accuracy against size, mean over tasks")
    worst = _curve(curve, "worst", worst_zero_shot, "The task that fares worst")
    return [mean, worst]


def _curve(curve: Sequence[Row], key: str, floor: float, words: str) -> Any:
    rows = [{**{k: row[k] for k in ("algorithm", "reached", "bytes", "normalised", "worst")},
             "task": row["worst_task"]} for row in curve]  # fmt: skip
    lowest = min([floor, *(row[key] for row in rows)])
    scale = alt.Scale(domain=[max(0.0, lowest - 0.02), max(1.01, *(r[key] for r in rows))])
    axis = alt.Axis(format="%", tickCount=6)
    y = alt.Y(f"{key}:Q", title="share of fine-tuned accuracy", axis=axis, scale=scale)
    colour, dash = _algorithms(curve)
    tips: list[Any] = [
        "algorithm:N",
        alt.Tooltip("reached:Q", title="size", format=".3g"),
        alt.Tooltip("bytes:Q", format=","),
        alt.Tooltip("normalised:Q", title="mean", format=".1%"),
        alt.Tooltip("worst:Q", format=".1%"),
        alt.Tooltip("task:N", title="worst task"),
    ]
    base = alt.Chart(records(pl.DataFrame(rows))).encode(
        x=_size_axis(curve), y=y, color=colour, tooltip=tips
    )
    level = pl.DataFrame([{"y": floor}])
    rule = (
        alt.Chart(records(level))
        .mark_rule(color=GREY, strokeDash=[3, 3])
        .encode(y=alt.Y("y:Q", scale=scale))
    )
    drawn = alt.layer(
        rule,
        base.mark_line(strokeWidth=2).encode(strokeDash=dash),
        base.mark_circle(size=36),
    )
    # On the line itself it would lie over the curves.
    title = alt.TitleParams(words, subtitle=f"dashed: the base, not fine-tuned, {floor:.1%}")
    return style(drawn.properties(width=WIDE // 2 - 60, height=330, title=title))


def rank_chart(curve: Sequence[Row]) -> Any:
    """The place of every algorithm at each size that was asked: crossings are lines that cross."""
    placed = ranks(curve)
    colour, dash = _algorithms(curve)
    worst = max(row["rank"] for row in placed)
    base = alt.Chart(records(pl.DataFrame(placed))).encode(
        x=alt.X("size:O", title="size that was asked, in models", axis=alt.Axis(labelAngle=0)),
        y=alt.Y(
            "rank:Q",
            title="place",
            scale=alt.Scale(domain=[worst + 0.3, 0.7], nice=False),
            axis=alt.Axis(values=list(range(1, worst + 1)), format="d"),
        ),
        color=colour.legend(None),
        tooltip=["algorithm:N", "size:O", "rank:Q"],
    )
    drawn = alt.layer(
        base.mark_line(strokeWidth=2).encode(strokeDash=dash), base.mark_circle(size=50)
    )
    title = alt.TitleParams("Who is ahead", subtitle="1 is the best; colours as above")
    return style(drawn.properties(width=WIDTH - 40, height=HEIGHT, title=title))


def dendrogram_chart(tasks: Sequence[str], merges: Sequence[Sequence[float]], words: str) -> Any:
    """A tree of tasks: where two branches meet, they become one.

    Args:
        merges: (first, second, height): nodes, a leaf's number or that of leaves plus the merge's.
    """
    order = _leaves(len(tasks), merges)
    place = {leaf: float(k) for k, leaf in enumerate(order)}
    height = dict.fromkeys(range(len(tasks)), 0.0)
    lines = []
    for step, (first, second, at) in enumerate(merges):
        pair = (int(first), int(second))
        lines += [{"x": height[n], "x2": at, "y": place[n], "y2": place[n]} for n in pair]
        low, high = sorted(place[n] for n in pair)
        lines.append({"x": at, "x2": at, "y": low, "y2": high})
        node = len(tasks) + step
        place[node], height[node] = (low + high) / 2, at
    names = [tasks[leaf] for leaf in order]
    shown = " : ".join(f"datum.value == {k} ? {name!r}" for k, name in enumerate(names)) + " : ''"
    y = alt.Y(
        "y:Q",
        title=None,
        scale=alt.Scale(domain=[len(tasks) - 0.5, -0.5], nice=False),
        axis=alt.Axis(values=list(range(len(tasks))), labelExpr=shown, grid=False, ticks=False,
                      labelLimit=160),
    )  # fmt: skip
    x = alt.X("x:Q", title="1 - cosine of the least alike members")
    chart = alt.Chart(records(pl.DataFrame(lines))).mark_rule(color="#0072B2", strokeWidth=2)
    drawn = chart.encode(x=x, x2="x2:Q", y=y, y2="y2:Q")
    height_ = max(120, 24 * len(tasks))
    return style(drawn.properties(width=WIDTH - 80, height=height_, title=words))


def _leaves(count: int, merges: Sequence[Sequence[float]]) -> list[int]:
    """Leaves in an order in which no branches cross."""
    under: dict[int, list[int]] = {leaf: [leaf] for leaf in range(count)}
    for step, (first, second, _) in enumerate(merges):
        under[count + step] = under.pop(int(first)) + under.pop(int(second))
    return [leaf for leaves in under.values() for leaf in leaves]


def group_chart(
    tasks: Sequence[str], blocks: Sequence[str], groups: Sequence[Sequence[int]], words: str
) -> Any:
    """Which tasks share which block: of one row the cells of one colour are one group.

    Args:
        groups: of each block, the group's number of every task.
    """
    rows: list[dict[str, Any]] = []
    for block, numbers in zip(blocks, groups, strict=True):
        for task, number in zip(tasks, numbers, strict=True):
            members = sum(other == number for other in numbers)
            label = "alone" if members == 1 else f"group {number + 1}"
            rows.append({"block": block, "task": task, "group": label, "members": members})
    names = sorted({row["group"] for row in rows} - {"alone"}, key=lambda name: int(name[6:]))
    colours = ["#e6e8eb", *palette(len(names))]
    colour = alt.Color(
        "group:N",
        scale=alt.Scale(domain=["alone", *names], range=colours),
        legend=alt.Legend(title=None, orient="bottom", columns=5),
    )
    x = alt.X("task:N", sort=list(tasks), title=None, axis=alt.Axis(labelAngle=-40, orient="top"))
    y = alt.Y("block:N", sort=list(blocks), title=None, axis=alt.Axis(labelLimit=240))
    chart = alt.Chart(records(pl.DataFrame(rows))).mark_rect(stroke="white").encode(
        x=x, y=y, color=colour, tooltip=["block:N", "task:N", "group:N", "members:Q"]
    )  # fmt: skip
    height = max(140, min(900, 17 * len(blocks)))
    return style(chart.properties(width=WIDTH - 100, height=height, title=words))


def ledger_chart(ledger: Sequence[Row], model_bytes: int) -> Any:
    """What the bytes of each size are, of what has masks and of what has none."""
    rows = [
        {"size": f"{row['size']:.2f}", "kind": row["kind"], "part": words,
         "order": place, "models": row[part] / model_bytes, "bytes": row[part]}
        for row in ledger
        for place, (part, words) in enumerate(PARTS.items())
        if row.get(part)
    ]  # fmt: skip
    names = [words for words in PARTS.values() if any(row["part"] == words for row in rows)]
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=names, range=palette(len(names))),
        legend=alt.Legend(title=None, orient="bottom", columns=3),
    )
    sizes = sorted({row["size"] for row in rows}, key=float)
    x = alt.X("size:N", sort=sizes, title="size, in models", axis=alt.Axis(labelAngle=-45))
    y = alt.Y("models:Q", title="bytes, in models")
    tips: list[Any] = ["kind:N", "part:N", alt.Tooltip("bytes:Q", format=",")]
    chart = alt.Chart(records(pl.DataFrame(rows))).mark_bar().encode(
        x=x, y=y, color=colour, order="order:Q", tooltip=tips,
        column=alt.Column("kind:N", title=None, header=alt.Header(labelFontSize=11)),
    )  # fmt: skip
    drawn = chart.properties(width=WIDTH - 60, height=HEIGHT).resolve_scale(x="independent")
    return style(drawn.properties(title=alt.TitleParams("Bytes by size")))
