"""The page of clients under edge servers under a cloud: what went where, edge by edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.component import register
from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.engine.exchange.backhaul import BACKHAUL, bytes_by_level
from hansa.learn.federated.cohort_curves import points
from hansa.learn.federated.fates import COUNTED
from hansa.learn.federated.page import FederatedPage, Served
from hansa.report.charts import COLOURS, HEIGHT, WIDTH, records, style
from hansa.report.curves import Curves
from hansa.report.fault_log import FaultLog
from hansa.report.fault_picture import fault_pictures
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.series import thinned
from hansa.report.units import number, quantity, unit

LEVELS = {
    "client_to_edge": ("clients and edges", "up"),
    "edge_to_client": ("clients and edges", "down"),
    "edge_to_cloud": ("edges and cloud", "up"),
    "cloud_to_edge": ("edges and cloud", "down"),
}
"""Between whom something went, and which way, by its name in a summary."""
MOST = 24
"""Edges that are drawn one by one."""


@register("hierarchical")
class HierarchicalPage(FederatedPage):
    """A run of clients, edge servers and a cloud."""

    group = "edge"

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of the algorithm, also of one around it."""
        chosen = (config or {}).get("algorithm")
        while isinstance(chosen, Mapping):
            if chosen.get("name") == "hierarchical":
                return 3
            chosen = chosen.get("algorithm")
        return 3 * (chosen == "hierarchical")

    def headline(self, of: Measured) -> str:
        """What ran, with how many clients and edges."""
        edges = int(of.partition.get("servers", 1)) - 1
        return RunPage.headline(self, of) + f", {number(edges)} edge servers" * (edges > 0)

    def tiles(self, of: Served) -> list[Tile]:  # type: ignore[override]
        """As of any run with servers, with what went over the links to the cloud."""
        found, levels = super().tiles(of), by_level(of.metrics)
        if not len(levels):
            return found
        last = levels.filter(pl.col("round") == pl.col("round").max()).to_dicts()[0]
        cloud, whole = (
            sum(last[name] for name in names)
            for names in (("edge_to_cloud", "cloud_to_edge"), LEVELS)
        )
        remark = f"{quantity(cloud / whole, 'accuracy')} of all that was sent" if whole else ""
        tile = Tile("between edges and cloud", quantity(cloud, "bytes"), remark)
        at = next((k for k, one in enumerate(found) if one.name == "sent in all"), len(found) - 1)
        return [*found[: at + 1], tile, *found[at + 1 :]][:6]

    def curves(self, of: Measured, family: str) -> Curves:
        """One model, the cloud's; what was sent, by level and way."""
        if family == "bytes_sent" and len(levels := by_level(of.metrics)):
            lines = {
                f"{between}, {way}": thinned(
                    points(levels.select("round", value=pl.col(name)), of.spent)
                )
                for name, (between, way) in LEVELS.items()
            }
            return Curves(lines, "Sums over all nodes of a level.")
        drawn = RunPage.curves(self, of, family)
        ends = {frame["nodes"][-1] for frame in drawn.frames.values()}
        if "servers" in drawn.note and ends == {1}:  # at the start all servers have it
            return replace(drawn, note="One model, the cloud's: there is no spread over nodes.")
        return drawn

    def faults(self, of: Measured) -> list[Section]:
        """As of any run; edges may be away, too."""
        log = FaultLog.of(of.run.events(), of.config)
        if not log or not of.rounds:
            return []
        return [Section("Faults", fault_pictures(log, of.rounds, "node"))]

    def compared(self, of: Measured, family: str) -> Curves:
        """The cloud's model."""
        return RunPage.compared(self, of, family)

    def unfolded(self, of: Measured) -> list[Section]:
        """The two levels and the edges, before the nodes and their data."""
        levels = by_level(of.metrics)
        if not len(levels):
            return super().unfolded(of)
        edges = edges_of(of) if isinstance(of, Served) else []
        drawn = [levels_picture(levels)]
        if 1 < len(edges) <= MOST:
            drawn.append(edges_picture(edges))
        table = Section("Edge servers", grid=edges_table(edges), folded=True)
        return [Section("Levels", drawn), *[table] * bool(edges), *super().unfolded(of)]


def by_level(metrics: pl.DataFrame) -> pl.DataFrame:
    """What had been sent by each round that was measured: round, and one column a way of a level
    (:data:`LEVELS`), in bytes. Empty where it is not known."""
    single = metrics.filter(pl.col("node").is_not_null())
    between = single.filter(pl.col("name") == BACKHAUL)
    schema = {"round": pl.Int32, **dict.fromkeys(LEVELS, pl.Float64)}
    hosts = between.filter("server")["node"].to_list()
    if not hosts:
        return pl.DataFrame(schema=schema)
    sent, rows = single.filter(pl.col("name") == "bytes_sent"), []

    def at(frame: pl.DataFrame, round: int) -> np.ndarray:
        now, column = frame.filter(pl.col("round") == round), np.zeros(nodes, dtype=np.int64)
        column[now["node"].to_numpy()] = now["value"].to_numpy()
        return column

    nodes = 1 + max(sent["node"].to_list())
    for round in between["round"].unique().sort().to_list():
        levels = bytes_by_level(at(sent, round), at(between, round), min(hosts))
        rows.append({"round": round, **levels})
    return pl.DataFrame(rows, schema=schema)


def edges_of(of: Served) -> list[dict[str, Any]]:
    """What each edge did: server, clients (that it ever invited), examples, rounds (in which it
    had a round), invited, counted, up and down (bytes to its clients and the cloud)."""
    last = of.metrics.filter(pl.col("node").is_not_null() & pl.col("server"))
    sizes, found = of.partition.get("sizes") or [], []
    for host in of.servers[1:]:
        mine = of.invited.filter(pl.col("server") == host)
        clients = mine["client"].unique().to_list()
        figures = {}
        for name in ("bytes_sent", BACKHAUL):
            rows = last.filter((pl.col("name") == name) & (pl.col("node") == host)).sort("round")
            figures[name] = float(rows["value"][-1]) if len(rows) else 0.0
        found.append({
            "server": host,
            "clients": len(clients),
            "examples": sum(sizes[c] for c in clients if c < len(sizes)),
            "rounds": mine["round"].n_unique(),
            "invited": len(mine),
            "counted": int((mine["fate"] == COUNTED).sum()),
            "down": figures["bytes_sent"] - figures[BACKHAUL],
            "up": figures[BACKHAUL],
        })  # fmt: skip
    return found


def edges_table(edges: list[dict[str, Any]]) -> Grid:
    """The same in words."""
    columns = ["edge", "node", "clients served", "their examples", "rounds", "updates that counted"]
    columns += ["of invited", "sent to clients", "sent to the cloud"]
    rows = [
        [
            str(k),
            str(edge["server"]),
            *(number(edge[name]) for name in ("clients", "examples", "rounds", "counted")),
            number(edge["invited"]),
            quantity(edge["down"], "bytes"),
            quantity(edge["up"], "bytes"),
        ]
        for k, edge in enumerate(edges, start=1)
    ]
    return Grid("Edge servers", columns, rows)


def levels_picture(levels: pl.DataFrame) -> Any:
    """How much went up and down at each level in all."""
    last = levels.filter(pl.col("round") == pl.col("round").max()).to_dicts()[0]
    size, symbol = unit(max(last[name] for name in LEVELS), "B")
    rows = [
        {"level": level, "way": way, "value": last[name] / size, "from": name.replace("_", " ")}
        for name, (level, way) in LEVELS.items()
    ]
    whole = sum(last[name] for name in LEVELS) or 1
    share = (last["edge_to_cloud"] + last["cloud_to_edge"]) / whole
    chart = (
        alt.Chart(records(pl.DataFrame(rows)))
        .mark_bar()
        .encode(
            x=alt.X("value:Q", title=f"sent ({symbol})", axis=alt.Axis(tickCount=6)),
            y=alt.Y("level:N", title=None, sort=None, axis=alt.Axis(labelLimit=200)),
            yOffset=alt.YOffset("way:N", sort=["up", "down"]),
            color=alt.Color(
                "way:N",
                scale=alt.Scale(domain=["up", "down"], range=[COLOURS[0], COLOURS[1]]),
                legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
            ),
            tooltip=["from:N", alt.Tooltip("value:Q", title=f"sent ({symbol})", format=".4~g")],
        )
    )
    note = f"{100 * share:.1f} % over the links between edges and cloud"
    title = alt.TitleParams("Bytes by level", subtitle=note)
    return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))


def edges_picture(edges: list[dict[str, Any]]) -> Any:
    """How many updates each edge got, and how many of them counted."""
    rows = [
        {"edge": k, "what": what, "value": edge[what]}
        for k, edge in enumerate(edges, start=1)
        for what in ("invited", "counted")
    ]
    chart = (
        alt.Chart(records(pl.DataFrame(rows)))
        .mark_bar()
        .encode(
            x=alt.X("edge:O", title="edge server", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title="updates", stack=None, axis=alt.Axis(tickMinStep=1)),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=["invited", "counted"], range=["#c9d4dc", COLOURS[0]]),
                legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
            ),
            tooltip=["edge:O", "what:N", "value:Q"],
        )
    )
    most = max(edge["rounds"] for edge in edges)
    away = [str(k) for k, edge in enumerate(edges, start=1) if edge["rounds"] < most]
    note = f"fewer rounds than others: {', '.join(away)}" if away else "as many rounds at each"
    title = alt.TitleParams("Updates of clients, by edge", subtitle=note)
    return style(chart.properties(width=WIDTH, height=HEIGHT, title=title))
