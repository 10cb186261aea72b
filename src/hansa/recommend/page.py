"""The page of a recommender: its error beside what is simple, its lists, and how ratings spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.base.lazy import polars as pl
from hansa.recommend.beside import (
    CALLED,
    THIS,
    baselines_table,
    fallbacks,
    groups_table,
    last_table,
    list_label,
    list_names,
    lists_table,
    rows_of,
)
from hansa.recommend.spreading import spread
from hansa.report import pictures
from hansa.report.curves import Curves, curves_chart
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number

_ERRORS = ("rmse", "mae")
_DRAWN = ("isolated", "user_mean", "bias", "central_mf")
"""Baselines that are lines of the large chart: the first is what a node can do alone."""
_MASK = (
    "Full rankings: candidates are all items but those that the user rated for training, ties are "
    "in the order of item numbers, and what is relevant are the user's test items."
)


@register("recommender")
class RecommendPage(RunPage):
    """A run of ``hansa recommend``."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of the verb."""
        return 3 * ((config or {}).get("verb") == "recommend")

    def headline(self, of: Measured) -> str:
        """What ran on which graph, and on how many nodes."""
        topology = of.config.get("topology")
        name = topology.get("name") if isinstance(topology, Mapping) else topology
        many = f"{number(of.nodes)} nodes" if of.nodes else ""
        on = f" on {name}" if name and (of.run.path / "topology.json").exists() else ""
        return ", ".join(filter(None, [f"{self.called(of.run)}{on}", many]))

    def result(self, of: Measured) -> str:
        """The error beside those of who never hears anybody, and of all ratings together."""
        text = super().result(of)
        beside = [
            f"{CALLED[name]} {row['rmse']:.4g}"
            for name, row in rows_of(of.run).items()
            if name in ("isolated", "bias", "central_mf") and row.get("rmse") is not None
        ]
        return f"{text} Beside it: {', '.join(beside)}." if text and beside else text

    def tiles(self, of: Measured) -> list[Tile]:
        """Errors and lists beside the simplest, then what that cost."""
        rows = rows_of(of.run)
        this, alone = rows[THIS], rows.get("isolated", {})
        tiles = []
        if this.get("rmse") is not None:
            row = self.last(of, "rmse")
            remark = self._range(row) if row and row["min"] is not None else ""
            tiles.append(Tile("RMSE, mean of nodes", number(this["rmse"]), remark))
        if this.get("rmse_pooled") is not None:
            remark = ""
            if alone.get("rmse_pooled") is not None:
                remark = f"isolated nodes {number(alone['rmse_pooled'])}"
            tiles.append(Tile("RMSE pooled", number(this["rmse_pooled"]), remark))
        lists = [name for name in list_names({THIS: this}) if name.startswith("ndcg")]
        for name in lists[:1]:
            popular = rows.get("popularity", {}).get(name)
            remark = f"most popular items {number(popular)}" if popular is not None else ""
            tiles.append(Tile(list_label(name), number(this[name]), remark))
        return (tiles + self.costs(of))[:5]

    def curves(self, of: Measured, family: str) -> Curves:
        """Errors with those of the baselines as lines across; how nodes differ is a picture below.

        Who has users that are hard to tell stays far from the others whatever is learnt.
        """
        curves = super().curves(of, family)
        if family not in _ERRORS or len(curves.frames) != 1:
            return curves
        (frame,) = curves.frames.values()
        mean = pl.col("mean")
        lines = {"this run": frame.with_columns(low=mean, high=mean)}
        rows = rows_of(of.run)
        for name in _DRAWN:
            value = rows.get(name, {}).get(family)
            if value is not None:
                level = pl.lit(float(value))
                lines[CALLED[name]] = frame.with_columns(mean=level, low=level, high=level)
        nodes = int(frame["nodes"].max() or 0)  # type: ignore[arg-type]
        return replace(curves, lines=lines, note=f"Means of {number(nodes)} nodes.")

    def unfolded(self, of: Measured) -> list[Section]:
        """What is simple, the lists, how ratings spread; then nodes, graph and data."""
        return [
            Section("Beside what is simple", grid=baselines_table(of.run)),
            Section("Lists", grid=lists_table(of.run), note=_MASK),
            Section(
                "Users and items that nobody trained on",
                grid=groups_table(of.run),
                note=". ".join(fallbacks(of.run)),
            ),
            Section("How ratings spread", self._spread(of), note=self._exposed(of)),
            Section("Nodes, graph and data", self._nodes(of), note=self.sizes(of)),
        ]

    def table(self, of: Measured, *, every: bool = False) -> Grid:
        """Errors of nodes and costs, or every figure."""
        return last_table(of.run, every=every)

    def elsewhere(self, of: Measured) -> list[str]:
        """What tables say."""
        listed = ("ratings", "duplicates", "ratings_received", "test_ratings", "test_users")
        return [f for f in of.families if "@" in f or f.startswith("cold_") or f in listed]

    def _nodes(self, of: Measured) -> list[Any]:
        score, values = self.by_node(of)
        charts = self.nodes_and_data(of)
        if of.topology.get("nodes"):
            differ = len(set(values.values())) > 1
            shown = values if differ else {}
            charts.insert(differ, pictures.topology_picture(of.topology, shown, score))
        return charts

    def _spread(self, of: Measured) -> list[Any]:
        """Exposure and repeats over the rounds."""
        frame = spread(of.run)
        charts = []
        for column, title, size in (
            ("holders", "nodes that hold a rating, on average", 1.0),
            ("repeated", "% of the ratings that came that were there already", 100.0),
        ):
            line = frame.drop_nulls(column)
            level = pl.col(column) * size
            points = line.select("round", mean=level, low=level, high=level, nodes=pl.lit(None))
            empty = [pl.lit(None, pl.Float64).alias(a) for a in _AXES]
            chart = curves_chart(Curves({title: points.with_columns(empty)}), title)
            if chart is not None:
                charts.append(chart)
        return charts

    def _exposed(self, of: Measured) -> str:
        """What the last round says of exposure, in a sentence."""
        last = spread(of.run).tail(1).to_dicts()
        if not last or last[0]["holders"] is None:
            return ""
        one = last[0]
        text = f"After round {one['round']} a rating is at {one['holders']:.3g} nodes on average"
        text += f", and a node holds {100 * one['share']:.3g} % of all ratings."
        if one["repeated"] is not None:
            text += f" Of all that came, {100 * one['repeated']:.3g} % had been there already."
        return text


_AXES = ("bytes", "time", "modelled_time", "device_time", "energy")
