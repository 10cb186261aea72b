"""Pictures of who takes part: how often, with what fate, and how evenly."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.learn.federated.fates import COUNTED, fates_in
from hansa.learn.federated.timeline import FATE_COLOURS
from hansa.report.charts import COLOURS, HEIGHT, WIDTH, records, style

BARS, DOTS, BINS, ROUNDS = 40, 1000, 24, 100


def fates_picture(invited: pl.DataFrame) -> Any:
    """What became of those invited, stacked over the rounds."""
    rounds = invited["round"].n_unique()
    wide = -(-rounds // ROUNDS)  # rounds that share a bar in long runs
    first = (pl.col("round") - 1) // wide * wide + 0.5
    counts = invited.group_by(first.alias("from"), "fate").agg(clients=pl.len() / wide)
    order = fates_in(invited)
    colour = alt.Color(
        "fate:N",
        scale=alt.Scale(domain=order, range=[FATE_COLOURS[fate] for fate in order]),
        legend=alt.Legend(title=None, orient="bottom", symbolType="square", columns=6),
    )
    rank = pl.col("fate").replace_strict({f: i for i, f in enumerate(order)}, return_dtype=pl.Int64)
    counts = counts.with_columns(rank=rank, until=pl.col("from") + wide).sort("from", "rank")
    chart = (
        alt.Chart(records(counts))
        .mark_bar(binSpacing=1 if rounds <= 60 else 0)
        .encode(
            x=alt.X(
                "from:Q", bin="binned", title="round", axis=alt.Axis(tickCount=6, tickMinStep=1),
                scale=alt.Scale(zero=False, nice=False),
            ),
            x2="until:Q",
            y=alt.Y("clients:Q", title="clients invited", axis=alt.Axis(tickMinStep=1)),
            color=colour,
            order=alt.Order("rank:Q"),
            tooltip=["fate:N", alt.Tooltip("clients:Q", format=".4~g")],
        )
    )  # fmt: skip
    total = len(invited)
    counted = int((invited["fate"] == COUNTED).sum())
    note = f"{100 * counted / total:.1f} % of {total} invitations came to count"
    note += f"; means of {wide} rounds" if wide > 1 else ""
    title = alt.TitleParams("What became of those invited", subtitle=note)
    return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))


def often_picture(clients: pl.DataFrame) -> Any:
    """How often clients were invited and counted: a bar each, or how many clients how often."""
    kinds = alt.Color(
        "what:N",
        scale=alt.Scale(domain=["invited", "counted"], range=["#c9d4dc", COLOURS[0]]),
        legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
    )
    never = int((clients["counted"] == 0).sum())
    some = f"{never} of {len(clients)} clients never" if never else "every client at least once"
    counted = clients["counted"].to_numpy()
    note = f"mean {counted.mean():.3g} times counted, {some}"
    title = alt.TitleParams("Participation of clients", subtitle=note)
    if len(clients) <= BARS:
        frame = clients.unpivot(["invited", "counted"], index="client", variable_name="what")
        y = alt.Y("value:Q", title="times", stack=None, axis=alt.Axis(tickMinStep=1))
        chart = (
            alt.Chart(records(frame))
            .mark_bar()
            .encode(
                x=alt.X("client:O", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
                y=y,
                color=kinds,
                tooltip=["client:O", "what:N", "value:Q"],
            )
        )
        return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))
    most, least = int(clients["invited"].to_numpy().max()), int(counted.min())
    width = max(1, -(-(most - least + 1) // BINS))
    if most - least < 6:  # a single bar would be a wall
        least, most = max(0, least - 3), most + 3
    bounds = np.arange(least, most + width + 1, width)
    parts = []
    for number, what in enumerate(("invited", "counted")):
        counts, _ = np.histogram(clients[what].to_numpy(), bins=bounds)
        low = bounds[:-1] - 0.5 + number * width / 2  # side by side
        parts.append(
            pl.DataFrame(
                {
                    "from": low + 0.05 * width,
                    "to": low + 0.45 * width,
                    "clients": counts,
                    "what": what,
                    "times": [
                        f"{a}" if width == 1 else f"{a} to {a + width - 1}"
                        for a in bounds[:-1].tolist()
                    ],
                }
            )
        )
    x = alt.X(
        "from:Q",
        bin="binned",
        title="times",
        axis=alt.Axis(tickMinStep=1, tickCount=8, grid=False),
        scale=alt.Scale(zero=False, nice=False),
    )
    chart = (
        alt.Chart(records(pl.concat(parts)))
        .mark_bar(binSpacing=0)
        .encode(
            x=x,
            x2="to:Q",
            y=alt.Y("clients:Q", title="clients", axis=alt.Axis(tickMinStep=1)),
            color=kinds,
            tooltip=["what:N", "times:N", "clients:Q"],
        )
    )
    return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))


def evenness_picture(clients: pl.DataFrame) -> Any | None:
    """How often clients counted against how much data they have; None where sizes are alike."""
    sized = clients.drop_nulls("size")
    if sized["size"].n_unique() < 2:
        return None
    shown = sized
    if len(sized) > DOTS:
        shown = sized[np.linspace(0, len(sized) - 1, DOTS).round().astype(int)]
    tied = sized["counted"].n_unique() < 2
    rank = None if tied else sized.select(pl.corr("size", "counted", method="spearman")).item()
    notes = ["all alike" if rank is None else f"rank correlation {rank:.2f}"]
    notes += [f"{len(shown)} of {len(sized)} clients shown"] if len(shown) < len(sized) else []
    # Many clients share a count: a client's id spreads them by less than half a step.
    spread = (pl.col("client") * 0.618034 % 1 - 0.5) * 0.3
    shown = shown.with_columns(at=pl.col("counted") + spread)
    chart = (
        alt.Chart(records(shown))
        .mark_circle(size=34, color=COLOURS[0], opacity=0.65 if len(shown) < 300 else 0.35)
        .encode(
            x=alt.X(
                "size:Q",
                title="training examples of a client",
                axis=alt.Axis(tickCount=6),
                scale=alt.Scale(zero=False, padding=6),
            ),
            y=alt.Y(
                "at:Q",
                title="times counted",
                axis=alt.Axis(tickMinStep=1, tickCount=6),
                scale=alt.Scale(nice=False, padding=6),
            ),
            tooltip=["client:Q", "size:Q", "invited:Q", "counted:Q"],
        )
    )
    title = alt.TitleParams("Participation by data size", subtitle=", ".join(notes))
    return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))
