"""The page of a request to forget: what the model knew before and after, and what is left."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.forget.tables import cost, cost_table, distance_table, figures_table, goal_table, remarks
from hansa.report.charts import WIDTH, palette, records, style
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.marks import marked, marks_in
from hansa.report.page import Page, Section, Tile
from hansa.report.units import number, quantity

RECEIPT, IMAGES = "receipt.json", "images.png"
_STAGES = ("before", "after_ascent", "after")
_SETS = {"forget": "what is forgotten", "retain": "what remains", "test": "test set"}


@dataclass(frozen=True)
class Served:
    """A request's receipt, and a PNG of the synthetic images that are left, if there is one."""

    receipt: dict[str, Any]
    images: bytes | None

    @property
    def method(self) -> str:
        """By which it was served."""
        return str(self.receipt["method"]["name"])

    def share(self, stage: str, what: str) -> str:
        """An accuracy of the model at a stage; empty where there is none."""
        return quantity(self.receipt["figures"].get(stage, {}).get(what), "accuracy")


@register("request")
class RequestPage(Page):
    """A request to forget, or to learn anew, that was served in a run."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A folder with a receipt that is no run's."""
        return 2 * (config is None and (path / RECEIPT).exists())

    def read(self, folder: RunFolder | Path) -> Served:
        """The receipt."""
        path = folder.path if isinstance(folder, RunFolder) else folder
        images = path / IMAGES
        receipt = json.loads((path / RECEIPT).read_bytes())
        return Served(receipt, images.read_bytes() if images.exists() else None)

    def headline(self, of: Served) -> str:
        """What was asked for, and by which method."""
        asked = f"{of.receipt['kind'].capitalize()} {of.receipt['what']}, {of.method}"
        return marked(asked, marks_in(of.receipt))

    def status(self, of: Served) -> str:
        """Done, or incomplete."""
        return str(of.receipt.get("status", "done"))

    def subtitle(self, of: Served) -> str:
        """When it was served."""
        return f"request of {str(of.receipt['time'])[:19].replace('T', ' ')} UTC"

    def sentence(self, of: Served) -> str:
        """What was asked for, how far it got and what it cost."""
        what = of.receipt["what"]
        asked = "forget" if of.receipt["kind"] == "forget" else "learn anew"
        text = f"The model was to {asked} {what}, and {of.method} did it"
        if self.status(of) != "done":
            text = f"The model was to {asked} {what}, and what {of.method} did is not enough"
        for words, part in ((": of it, ", "forget"), ("; of what remains, ", "retain")):
            text += f"{words}{of.share('after', part)} is right after {of.share('before', part)}"
        text += "."
        text += f" It cost {cost(of.receipt)}"
        if "oracle_cost" in of.receipt and of.receipt["oracle_cost"] != of.receipt["cost"]:
            text += f"; retraining without it, {cost(of.receipt, 'oracle_cost')}"
        return text + "."

    def tiles(self, of: Served) -> list[Tile]:
        """What is still right of each part, and the cost."""
        oracle = {what: of.share("oracle", what) for what in _SETS}
        tiles = []
        for what, words in _SETS.items():
            remark = f"before: {of.share('before', what)}"
            remark += f", retrained: {oracle[what]}" if oracle[what] else ""
            tiles.append(Tile(words, of.share("after", what), remark))
        total = of.receipt["cost"]["total"]
        tiles.append(
            Tile("sent", quantity(total["bytes"], "bytes"), f"{number(total['rounds'])} rounds")
        )
        gradients = f"{number(total['sample_gradients'])} sample gradients"
        return [*tiles, Tile("wall time", quantity(total["seconds"], "time"), gradients)]

    def sections(self, of: Served) -> list[Section]:
        """The stages of the model, the goal, what is left; then, folded, all else."""
        receipt = of.receipt
        said = [[line] for line in remarks(receipt)]
        images = [picture(of.images)] if of.images else []
        return [
            Section("", [stages_chart(receipt["figures"])]),
            Section("Remarks", grid=Grid("", [""], said)),
            Section("Goal", grid=goal_table(receipt, "")),
            Section("Models", grid=figures_table(receipt, "")),
            Section("Synthetic images that are left, a line a class", images),
            Section("Distance to the oracle", grid=distance_table(receipt, ""), folded=True),
            Section("Cost", grid=cost_table(receipt), folded=True),
            Section("Receipt", text=json.dumps(receipt, indent=1), folded=True),
        ]

    def table(self, of: Served, *, every: bool = False) -> Grid:
        """The model at each stage."""
        return figures_table(of.receipt)


def stages_chart(figures: Mapping[str, Mapping[str, float]]) -> Any:
    """Accuracy on each part of the data at each stage; levels are those of retraining."""
    stages = [stage for stage in _STAGES if stage in figures]
    words = [stage.replace("_", " ") for stage in stages]
    rows = [
        (words[k], _SETS[what], figures[stage][what], "the request")
        for what in _SETS
        for k, stage in enumerate(stages)
    ]
    columns = ["stage", "part", "accuracy", "model"]
    oracle = [
        (_SETS[what], value) for what, value in figures.get("oracle", {}).items() if what in _SETS
    ]
    scale = alt.Scale(domain=list(_SETS.values()), range=palette(len(_SETS)))
    colour = alt.Color(
        "part:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", symbolType="stroke")
    )
    y = alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(format="%", tickCount=6))
    x = alt.X("stage:N", sort=words, title="model", axis=alt.Axis(labelAngle=0, grid=False))
    base = alt.Chart(records(pl.DataFrame(rows, schema=columns, orient="row")))
    tips = ["part:N", "stage:N", alt.Tooltip("accuracy:Q", format=".2%")]
    layers = [
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        base.mark_circle(size=80, opacity=1).encode(x=x, y=y, color=colour, tooltip=tips),
    ]
    if oracle:
        levels = alt.Chart(records(pl.DataFrame(oracle, schema=columns[1:3], orient="row")))
        layers.insert(0, levels.mark_rule(strokeDash=[5, 4]).encode(y=y, color=colour))
    note = "One model, no spread" + "; dashed: retrained without what is forgotten" * bool(oracle)
    title = alt.TitleParams("Accuracy", subtitle=note)
    return style(alt.layer(*layers).properties(width=2 * WIDTH + 1, height=300, title=title))


def picture(png: bytes) -> Any:
    """A PNG as a chart, in its own size."""
    width, height = struct.unpack(">II", png[16:24])
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        alt.Chart(alt.Data(values=[{"url": url}]))
        .mark_image(width=width, height=height)
        .encode(url="url:N", x=alt.value(width / 2), y=alt.value(height / 2))
        .properties(width=width, height=height)
    )
